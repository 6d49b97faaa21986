"""Exercises, the properties a solution must have, and the judge that asks for them one by one.

A property is a law about the mechanism, written as a function of the student's definition, the reference and a
source of random numbers. It calls the student only through the codec, the same in a notebook and across a process
boundary. What fails says which law, the smallest case, what was expected and got, and the likely mistake.
"""

import contextlib
import hashlib
import importlib
import math
import pkgutil
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from torch import Tensor

from grader.names import CourseError, UnknownName, nearest
from grader.sandbox import codec
from grader.sandbox.codec import Handle, Opaque
from grader.sandbox.process import Lost

Answer = Callable[[bytes], bytes]       # a transport: one request in, one answer out


# what a property is made of ------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Property:
    """One law: a sentence about the mechanism, its share of the points, and what it needs (None or "cuda")."""

    title: str
    points: float
    test: Callable[["Student", Callable, "Draw"], None]
    needs: str | None = None


@dataclass(eq=False)
class Exercise:
    """What one definition must do. identity is for ever: module and definition, for example dnc-content_lookup."""

    reference: Callable
    hints: tuple[str, ...]
    properties: list[Property] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.reference.__name__

    @property
    def module(self) -> str:
        return self.reference.__module__.rpartition(".")[2]

    @property
    def identity(self) -> str:
        return f"{self.module}-{self.name}"

    @property
    def points(self) -> float:
        return sum(law.points for law in self.properties)

    def property(self, title: str, points: float = 1, needs: str | None = None) -> Callable:
        """Decorator: add a law test(student, reference, draw) under this title."""
        def add(test: Callable) -> Callable:
            self.properties.append(Property(title, points, test, needs))
            return test
        return add


_registry: dict[str, Exercise] = {}


def exercise(reference: Callable, hints: tuple[str, ...]) -> Exercise:
    """Declare an exercise, in a module of grader.checks named like the solution's module."""
    made = Exercise(reference, hints)
    _registry[made.identity] = made
    return made


def exercises() -> dict[str, Exercise]:
    """All exercises of the course by identity, in the order of their checks."""
    from grader import checks
    for module in pkgutil.iter_modules(checks.__path__):
        importlib.import_module(f"grader.checks.{module.name}")
    return dict(_registry)


def find(name: str) -> Exercise:
    """The exercise of this identity or definition name. Raises UnknownName with the nearest names."""
    known = exercises()
    matches = [e for e in known.values() if name in (e.identity, e.name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UnknownName(f"{name!r} is the name of {len(matches)} exercises; say which: "
                          + ", ".join(e.identity for e in matches))
    raise UnknownName(nearest("exercise", name, [e.name for e in known.values()]))


# random numbers -------------------------------------------------------------------------------------------------

class Draw:
    """Random arguments, float64 unless told otherwise, from a seed that is printed with the verdict."""

    def __init__(self, seed: int, *context: str) -> None:
        digest = hashlib.sha256("\0".join([str(seed), *context]).encode()).digest()
        self.seed = int.from_bytes(digest[:6], "little")
        self.generator = torch.Generator().manual_seed(self.seed)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=dtype)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=self.generator, dtype=torch.float64)

    def address(self, *shape: int, total: float = 1.0) -> Tensor:
        """Non-negative rows that sum to `total`, no two entries of a row alike in general."""
        return total * torch.softmax(self.normal(*shape), -1)

    def integer(self, below: int) -> int:
        return int(torch.randint(below, (), generator=self.generator))

    def permutation(self, length: int) -> Tensor:
        return torch.randperm(length, generator=self.generator)


# calling the student ----------------------------------------------------------------------------------------------

@dataclass
class Call:
    """One call of the student's definition: what went in, what came back."""

    arguments: tuple
    keywords: dict[str, Any]
    seed: int
    reply: dict[str, Any]

    @property
    def value(self) -> Any:
        return self.reply["value"]

    @property
    def gradients(self) -> dict[str, Tensor | None]:
        return self.reply["gradients"]

    @property
    def changed(self) -> dict[str, Tensor]:
        """Arguments the call modified in place, with their values afterwards."""
        return self.reply["changed"]

    @property
    def aliases(self) -> dict[str, str]:
        return self.reply["aliases"]


class Student:
    """The student's definition as a check sees it: call it like the reference; everything goes through the codec."""

    def __init__(self, answer: Answer, target: str | Handle, seed: int = 0, calls: list[Call] | None = None) -> None:
        self._answer, self._target, self._seed = answer, target, seed
        self.calls = [] if calls is None else calls

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """The value the definition returns. Raises Failed when it raises."""
        return self.call(*arguments, **keywords).value

    def call(self, *arguments: Any, method: str | None = None, cotangent: Any = None, gradients: bool = False,
             repeats: int = 1, **keywords: Any) -> Call:
        """Call and keep everything that came back; with gradients, the product of `cotangent` with the Jacobian."""
        self._ask({"op": "call", "target": self._target, "arguments": arguments, "keywords": keywords,
                   "seed": self._seed, "method": method, "gradients": gradients or cotangent is not None,
                   "cotangent": cotangent, "repeats": repeats}, arguments, keywords)
        return self.calls[-1]

    def raises(self, *arguments: Any, **keywords: Any) -> str:
        """The type name of the exception this call ends in. Raises Failed when it returns."""
        try:
            value = self(*arguments, **keywords)
        except Raised as error:
            return error.type_name
        raise Failed("this call should be refused with an exception", expected="an exception", got=describe(value))

    def new(self, *arguments: Any, **keywords: Any) -> "Student":
        """An instance of the student's class, to be called, described, loaded and freed in turn."""
        reply = self._ask({"op": "new", "name": self._target, "arguments": arguments, "keywords": keywords,
                           "seed": self._seed}, arguments, keywords)
        return Student(self._answer, reply["value"], self._seed, self.calls)

    @property
    def handle(self) -> Handle:
        """The instance, as an argument for another call."""
        return self._target

    def describe(self) -> dict[str, Any]:
        return self._ask({"op": "describe", "target": self._target})["value"]

    def load(self, state: dict[str, Tensor]) -> None:
        self._ask({"op": "load", "target": self._target, "state": state})

    def dump(self) -> dict[str, Tensor]:
        return self._ask({"op": "dump", "target": self._target})["value"]

    def mode(self, mode: str) -> None:
        self._ask({"op": "mode", "target": self._target, "mode": mode})

    def free(self) -> None:
        self._ask({"op": "free", "target": self._target})

    def _ask(self, request: dict[str, Any], arguments: tuple = (), keywords: dict | None = None) -> dict[str, Any]:
        message = codec.pack(request)
        reply = codec.unpack(self._answer(message))
        self.calls.append(Call(arguments, keywords or {}, self._seed, reply))
        if "raised" in reply:
            raise Raised(reply["raised"], reply.get("printed", ""))
        return reply


# how a property fails ---------------------------------------------------------------------------------------------

class Failed(Exception):
    """A law does not hold. `because` speaks to the person who made the likely mistake."""

    def __init__(self, because: str, expected: str = "", got: str = "", where: str = "",
                 pair: tuple[Any, Any] | None = None) -> None:
        super().__init__(because)
        self.because, self.expected, self.got, self.where, self.pair = because, expected, got, where, pair


class Raised(Failed):
    """The student's code raised; the diagnosis shows its own lines and nothing of ours."""

    def __init__(self, raised: dict[str, Any], printed: str = "") -> None:
        self.type_name, self.text, self.lines, self.printed = raised["type"], raised["text"], raised["lines"], printed
        where = "\n".join(f"{line['place']}, line {line['line']}: {line['text']}" for line in self.lines)
        what = self.text if self.type_name == "Refused" else f"your code raised {self.type_name}: {self.text}"
        super().__init__(what.rstrip(": "), where=where)

    @property
    def unwritten(self) -> bool:
        return self.type_name == "NotImplementedError" and not self.text


class _Expectation:
    def __init__(self, got: Any, what: str) -> None:
        self.got, self.what = got, what

    def close(self, expected: Tensor, because: str, tolerance: float = 1e-9) -> None:
        """Same shape and dtype, every entry within tolerance * (1 + |expected|)."""
        got, expected = self.got, expected.detach()
        if not isinstance(got, Tensor):
            if self.what == RESULT:
                said = f"{RESULT} is not a tensor" + ("; does every path return something?" if got is None else "")
            elif got is None and self.what.startswith("the gradient of "):
                said = (f"no gradient reaches {self.what.removeprefix('the gradient of ')}; is something detached, or "
                        "computed outside torch?")
            else:
                said = f"{self.what} is not a tensor"
            raise Failed(said, describe(expected), describe(got), pair=(expected, got))
        got = got.detach()
        if got.shape != expected.shape:
            raise Failed(f"{self.what} has another shape than the docstring says",
                         f"shape {tuple(expected.shape)}", f"shape {tuple(got.shape)}", pair=(expected, got))
        if got.dtype != expected.dtype:
            raise Failed(f"{self.what} has another dtype than the arguments", str(expected.dtype),
                         str(got.dtype), pair=(expected, got))
        if got.numel() == 0:
            return
        error = (got - expected).abs()
        wrong = ~(error <= tolerance * (1 + expected.abs())) & ~(got == expected)
        if wrong.any():
            worst = error.nan_to_num(nan=math.inf).masked_fill(~wrong, -1).flatten().argmax()
            index = tuple(int(i) for i in numpy.unravel_index(int(worst), expected.shape))   # torch's imports sympy
            at = f"{int(wrong.sum())} of {wrong.numel()} entries differ, most at {list(index)}" if index else ""
            texts = number(expected[index]), number(got[index])
            if texts[0] == texts[1]:
                because = f"{because}. The difference is tiny: was part of it computed in a lower precision?"
                texts = f"{float(expected[index]):.12g}", f"{float(got[index]):.12g}"
            raise Failed(because, *texts, at, (expected, got))

    def equals(self, expected: Any, because: str) -> None:
        """Equal as plain values."""
        if type(self.got) is not type(expected) or self.got != expected:
            raise Failed(because, describe(expected), describe(self.got), pair=(expected, self.got))

    def finite(self, because: str) -> None:
        """A tensor without NaN or infinity."""
        if not isinstance(self.got, Tensor):
            raise Failed(because, "a tensor of finite numbers", describe(self.got))
        bad = ~torch.isfinite(self.got.detach())
        if bad.any():
            index = tuple(int(i) for i in bad.nonzero()[0])
            raise Failed(because, "a finite number", number(self.got[index]),
                         f"{int(bad.sum())} of {bad.numel()} entries, first at {list(index)}")

    def holds(self, condition: bool, because: str, expected: str) -> None:
        """Any other law about the value, stated in words."""
        if not condition:
            raise Failed(because, expected, describe(self.got))


RESULT = "the result"


def expect(got: Any, what: str = RESULT) -> _Expectation:
    """Begin a statement about what the student's code returned: expect(student(x)).close(y, because="...").

    what  what it is called in a message: the result, or for example the gradient of memory
    """
    return _Expectation(got, what)


def unchanged(call: Call, names: tuple[str, ...]) -> None:
    """Fail when the call modified an argument in place. names: what the positional arguments are called."""
    for path in call.changed:
        name = names[int(path)] if path.isdigit() else path
        raise Failed(f"the function changed its argument {name} in place; the caller still needs it. Make a new "
                     f"tensor instead of using operations ending in _ or assigning into {name}",
                     f"{name} as it was", f"{name} with other values")


def gradients(value: Tensor, arguments: Sequence[Tensor], cotangent: Tensor) -> tuple[Tensor, ...]:
    """The product of the cotangent with the Jacobian of a value, for every argument: what `call.gradients` must be."""
    return torch.autograd.grad((value * cotangent).sum(), arguments)


def one_hot(cell: int | list, size: int) -> Tensor:
    """Float64 one-hot rows: shape of `cell` x size."""
    return torch.nn.functional.one_hot(torch.as_tensor(cell), size).to(torch.float64)


def number(value: Tensor | float) -> str:
    """Seven digits: enough to see a difference near the tolerance, short enough to read."""
    return f"{float(value) + 0.0:.7g}"          # + 0.0 turns -0 into 0


def describe(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        if value.dim() == 0:
            return number(value)
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    if isinstance(value, Opaque):
        return value.type_name if value.type_name.startswith("a ") else f"a {value.type_name}"
    if isinstance(value, Handle):
        return "a module"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, dict) and any(isinstance(part, Tensor) for part in value.values()):
        shapes = ", ".join(f"{name}: {tuple(part.shape)}" if isinstance(part, Tensor) else f"{name}: {describe(part)}"
                           for name, part in list(value.items())[:4])
        return f"a dict {{{shapes}{', ...' if len(value) > 4 else ''}}}"
    return repr(value)[:80]


# the judge ----------------------------------------------------------------------------------------------------------

@dataclass
class Diagnosis:
    """Why a law does not hold, for the person who wrote the code."""

    because: str
    expected: str = ""
    got: str = ""
    where: str = ""
    mistake: str = ""                   # the known mistake whose output this is, exactly
    case: Call | None = None            # the arguments it failed on
    pair: tuple[Any, Any] | None = None # the values compared, expected and got


@dataclass
class Verdict:
    """What came of one property: passed, failed or pending."""

    title: str
    points: float
    status: str
    diagnosis: Diagnosis | None = None


@dataclass
class Judgement:
    """All verdicts of one exercise."""

    exercise: Exercise
    seed: int
    verdicts: list[Verdict]
    unwritten: bool = False
    own: bool = True                    # False where the reference itself was judged: unlocked, not earned
    note: str = ""                      # one sentence that concerns the whole exercise

    @property
    def passed(self) -> bool:
        return all(verdict.status == "passed" for verdict in self.verdicts)

    @property
    def earned(self) -> float:
        return sum(verdict.points for verdict in self.verdicts if verdict.status == "passed") if self.own else 0.0


def chosen_seed(seed: int | None) -> int:
    """The seed to judge with, 0 to 99999: a fresh one for None. Raises CourseError for anything else."""
    if seed is None:
        return secrets.randbelow(100_000)
    if type(seed) is not int or not 0 <= seed < 100_000:
        raise CourseError(f"a seed is a whole number from 0 to 99999, got {seed!r}")
    return seed


def judge(exercise: Exercise, answer: Answer, seed: int, recognise: bool = True) -> Judgement:
    """Ask for every property of an exercise over a transport.

    recognise  compare what failed with the known mistakes

    Never raises for anything student code does; a lost transport fails the properties that were left.
    """
    verdicts, unwritten = [], False
    seen: list[Call] = []
    for law in exercise.properties:
        if law.needs == "cuda" and not torch.cuda.is_available():
            verdicts.append(Verdict(law.title, law.points, "pending", Diagnosis("not checked: no CUDA device here")))
            continue
        draw = Draw(seed, exercise.identity, law.title)
        student = Student(answer, exercise.name, draw.seed % 2**31)
        try:
            with _usual_modes():
                law.test(student, exercise.reference, draw)
            verdicts.append(Verdict(law.title, law.points, "passed"))
        except Failed as failure:
            case = next((call for call in reversed(student.calls)), None)
            diagnosis = Diagnosis(failure.because, failure.expected, failure.got, failure.where, case=case,
                                  pair=failure.pair)
            verdicts.append(Verdict(law.title, law.points, "failed", diagnosis))
            unwritten |= isinstance(failure, Raised) and failure.unwritten
        except codec.CodecError as error:
            verdicts.append(Verdict(law.title, law.points, "failed", Diagnosis(f"no readable answer: {error}")))
        except Lost as lost:
            left = exercise.properties[len(verdicts):] if lost.late else [law]     # do not wait for each of them
            verdicts += [Verdict(each.title, each.points, "failed", Diagnosis(str(lost))) for each in left]
            if lost.late:
                break
        except Exception as error:      # a law that trips over what it was given: that is the student's failure too
            got = describe(student.calls[-1].reply.get("value")) if student.calls else ""
            verdicts.append(Verdict(law.title, law.points, "failed", Diagnosis(
                f"this result cannot be judged ({type(error).__name__}: {error})", got=got)))
        # calls of a failed property first: they tell mistakes apart, and few candidates are left for the others
        seen = student.calls + seen if verdicts[-1].status == "failed" else seen + student.calls
    failed = [verdict for verdict in verdicts if verdict.status == "failed"]
    if recognise and failed and not unwritten and not any("raised" in call.reply for call in seen):
        mistake = _recognise(exercise, seen)
        for verdict in failed:
            verdict.diagnosis.mistake = mistake
    return Judgement(exercise, seed, verdicts, unwritten)


@contextlib.contextmanager
def _usual_modes() -> Iterator[None]:
    """Judge on the CPU and with gradients, whatever modes the notebook has set."""
    with contextlib.ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":
            modes.enter_context(torch.device("cpu"))
        yield


def _recognise(exercise: Exercise, calls: list[Call]) -> str:
    """The one known mistake that gives exactly the student's values on every call made, or an empty string."""
    from grader import mutants
    candidates = mutants.mutants_of(exercise)
    for call in calls:
        if "value" not in call.reply:
            continue
        candidates = [m for m in candidates if _same_output(m.definition, call)]
        if not candidates:
            return ""
    return candidates[0].name if len(candidates) == 1 else ""


def _same_output(definition: Callable, call: Call) -> bool:
    arguments, keywords = codec.unpack(codec.pack((call.arguments, call.keywords)))
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(call.seed)
            value = definition(*arguments, **keywords)
    except Exception:
        return False
    return _equal(codec.unpack(codec.pack(value)), call.value)


def _equal(left: Any, right: Any) -> bool:
    pairs = codec.leaves(left), codec.leaves(right)
    return len(pairs[0]) == len(pairs[1]) and all(
        p == q and (isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and a.dtype == b.dtype
                    and torch.allclose(a.detach(), b.detach(), rtol=1e-12, atol=1e-13, equal_nan=True)
                    if isinstance(a, Tensor) or isinstance(b, Tensor) else a == b)
        for (p, a), (q, b) in zip(*pairs, strict=True))


def local_answer(definition: Callable) -> Answer:
    """A transport to a definition in this very process, through the same bytes."""
    from grader.sandbox.worker import Worker
    return Worker({definition.__name__: definition}, own=getattr(definition, "__globals__", {})).answer
