"""Holds a student's definitions and answers requests about them: new, call, describe, load, dump, mode, free.

The same class answers in a notebook, over the learner's own namespace, and in a process of its own
(`python -m grader.sandbox.worker`), where it first gets the notebook's cells by the request `define`.
"""

import ast
import contextlib
import ctypes
import io
import linecache
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from grader.sandbox import codec
from grader.sandbox.cells import assigned, defines, statements
from grader.sandbox.codec import Fixture, Handle
from grader.sandbox.fixtures import FIXTURES

MAX_PRINTED = 20_000    # characters kept of what student code prints in one request


class Refused(Exception):
    """A request that cannot be carried out; the message says why."""


class Worker:
    """Student definitions and the objects made from them.

    namespace  what requests may name
    show       let what student code prints through (a notebook) instead of returning it with the answer
    own        the globals of the student's code, by which its lines are told from ours in a traceback
    """

    def __init__(self, namespace: dict[str, Any] | None = None, show: bool = False,
                 own: dict[str, Any] | None = None) -> None:
        self.namespace = {"__name__": "notebook"} if namespace is None else namespace
        self.own = self.namespace if own is None else own
        self.show = show
        self.objects: dict[int, Any] = {}
        self.made = 0

    def answer(self, message: bytes) -> bytes:
        """Carry out one request, a dict with "op"; whatever student code does becomes part of the answer."""
        request = codec.unpack(message)
        operation = getattr(self, f"_{request.pop('op')}")
        printed = io.StringIO()
        try:
            with _captured(sys.stdout if self.show else printed):
                reply = operation(**request)
        except BaseException as error:
            if self.show and isinstance(error, KeyboardInterrupt):
                raise                           # the learner's own Ctrl-C
            reply = {"raised": self._describe_exception(error)}
        return codec.pack({**reply, "printed": printed.getvalue()[:MAX_PRINTED]})

    # the vocabulary ------------------------------------------------------------------------------------------

    def _reset(self) -> dict:
        """Forget every definition and object."""
        self.namespace = self.own = {"__name__": "notebook"}
        self.objects = {}
        return {"value": None}

    def _define(self, name: str, source: str, exercise: bool = False) -> dict:
        """Run the imports, definitions and plain assignments of one cell, each statement on its own.

        exercise  the cell is an exercise's own: every assignment in it counts, whatever it calls
        """
        started, problems, skipped = time.perf_counter(), [], {}
        filename = f"<{name}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        try:
            body = statements(source, filename)
        except SyntaxError as error:
            body, problems = [], [self._describe_exception(error)]
        for statement in body:
            if not defines(statement, self.namespace, exercise):
                skipped |= dict.fromkeys(assigned(statement), statement.lineno)
                continue
            try:
                exec(compile(ast.Module([statement], []), filename, "exec"), self.namespace)
            except BaseException as error:
                problems.append(self._describe_exception(error))
        return {"value": {"problems": problems, "skipped": skipped, "seconds": time.perf_counter() - started}}

    def _origin(self, name: str) -> dict:
        """The module a definition comes from, "notebook" for the student's own."""
        return {"value": str(getattr(self._named(name), "__module__", "notebook"))}

    def _new(self, name: str, arguments: tuple, keywords: dict, seed: int) -> dict:
        with _seeded(seed):
            made = self._named(name)(*self._resolve(arguments), **self._resolve(keywords))
        self.made += 1
        self.objects[self.made] = made
        return {"value": Handle(self.made)}

    def _call(self, target: Handle | str, arguments: tuple, keywords: dict, seed: int, method: str | None = None,
              gradients: bool = False, cotangent: Any = None, repeats: int = 1) -> dict:
        function = self._target(target, method)
        message = codec.pack((arguments, keywords))             # so that every repeat gets fresh copies
        values = []
        for _ in range(repeats):
            given, before = codec.unpack(message), codec.unpack(message)
            resolved = self._resolve(given[0]), self._resolve(given[1])
            with _seeded(seed), torch.enable_grad():
                value = function(*resolved[0], **resolved[1])
            values.append(value)
        reply = {"value": self._hold(values[-1]), "again": [self._hold(value) for value in values[:-1]],
                 "aliases": _aliases(value, given), "changed": _changed(before, given)}
        if gradients:
            reply["gradients"] = self._gradients(value, cotangent, given, target)
        return reply

    def _describe(self, target: Handle) -> dict:
        module = self._module(target)
        named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
        by_storage: dict[int, list[str]] = {}
        for name, tensor in named:
            by_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
        parameters = dict(module.named_parameters(remove_duplicate=False))
        return {"value": {
            "class": type(module).__name__, "training": module.training,
            "parameters": {n: _properties(t) for n, t in parameters.items()},
            "buffers": {n: _properties(t) for n, t in named if n not in parameters},
            "sharing": [names for names in by_storage.values() if len(names) > 1],
        }}

    def _load(self, target: Handle, state: dict[str, Tensor]) -> dict:
        self._module(target).load_state_dict(state)
        return {"value": None}

    def _dump(self, target: Handle) -> dict:
        return {"value": {name: tensor.detach().clone() for name, tensor in self._module(target).state_dict().items()}}

    def _mode(self, target: Handle, mode: str) -> dict:
        if mode not in ("train", "eval"):
            raise Refused(f"mode is train or eval, got {mode!r}")
        self._module(target).train(mode == "train")
        return {"value": None}

    def _free(self, target: Handle) -> dict:
        self.objects.pop(target.number, None)
        return {"value": None}

    # helpers ---------------------------------------------------------------------------------------------------

    def _named(self, name: str) -> Any:
        if name not in self.namespace:
            raise Refused(f"{name} is not defined in the notebook; was it renamed?")
        return self.namespace[name]

    def _target(self, target: Handle | str, method: str | None) -> Any:
        found = self._object(target) if isinstance(target, Handle) else self._named(target)
        return getattr(found, method) if method else found

    def _object(self, handle: Handle) -> Any:
        if handle.number not in self.objects:
            raise Refused(f"there is no object {handle.number}: was it freed?")
        return self.objects[handle.number]

    def _module(self, handle: Handle) -> nn.Module:
        found = self._object(handle)
        if not isinstance(found, nn.Module):
            raise Refused(f"expected a torch.nn.Module, got {type(found).__name__}")
        return found

    def _resolve(self, value: Any) -> Any:
        """Put the objects behind handles and fixtures into a tree of arguments."""
        if isinstance(value, Handle):
            return self._object(value)
        if isinstance(value, Fixture):
            return FIXTURES[value.name]
        if isinstance(value, dict):
            return {key: self._resolve(item) for key, item in value.items()}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*[self._resolve(item) for item in value])
        if isinstance(value, list | tuple):
            return type(value)(self._resolve(item) for item in value)
        return value

    def _hold(self, value: Any) -> Any:
        """A module that comes back stays here and travels as a handle."""
        if not isinstance(value, nn.Module):
            return value
        self.made += 1
        self.objects[self.made] = value
        return Handle(self.made)

    def _gradients(self, value: Any, cotangent: Any, given: Any, target: Handle | str) -> dict[str, Tensor | None]:
        """The vector-Jacobian product for every argument and parameter that wants a gradient; None where none flows."""
        wanted = _differentiable(given)
        if isinstance(target, Handle) and isinstance(self._object(target), nn.Module):
            module = self._object(target)
            wanted |= {f"parameters.{n}": p for n, p in module.named_parameters() if p.requires_grad}
        outputs = [leaf for _, leaf in codec.leaves(value) if isinstance(leaf, Tensor) and leaf.requires_grad]
        if cotangent is None:
            weights = [torch.ones_like(output) for output in outputs]
        else:
            paired = dict(codec.leaves(cotangent))
            weights = [paired.get(path) for path, leaf in codec.leaves(value)
                       if isinstance(leaf, Tensor) and leaf.requires_grad]
        chosen = [(o, w) for o, w in zip(outputs, weights, strict=True) if w is not None and w.shape == o.shape]
        if not chosen or not wanted:
            return dict.fromkeys(wanted)
        # one scalar: torch's own grad_outputs imports sympy, a second for the first check of a notebook
        product = sum((output * weight.to(output)).sum() for output, weight in chosen)
        found = torch.autograd.grad(product, list(wanted.values()), allow_unused=True)
        return dict(zip(wanted, found, strict=True))

    def _describe_exception(self, error: BaseException) -> dict:
        """Type, text, and the lines of the student's own code the exception passed through."""
        lines = [
            {"place": _place(frame.filename), "line": number, "text": (frame.line or "").strip()}
            for (raw, number), frame in zip(traceback.walk_tb(error.__traceback__),
                                            traceback.extract_tb(error.__traceback__), strict=True)
            if raw.f_globals is self.own
        ]
        if isinstance(error, SyntaxError) and not lines:
            lines = [{"place": _place(error.filename or "?"), "line": error.lineno or 0,
                      "text": (error.text or "").strip()}]
            text = error.msg
        else:
            try:
                text = str(error)
            except Exception:
                text = "(its message could not be printed)"
        return {"type": type(error).__name__, "text": text[:2000], "lines": lines[-5:]}


@contextlib.contextmanager
def _captured(stream: Any) -> Iterator[None]:
    """Send what student code prints, warnings included, to one stream: stderr in a graded cell costs its points."""
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        yield


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch for student code and leave the learner's own random numbers as they were."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _place(filename: str) -> str:
    """What a reader calls it: IPython gives cells the names of temporary files."""
    return "your cell" if "ipykernel" in filename or filename.startswith("<ipython") else os.path.basename(filename)


def _properties(tensor: Tensor) -> dict[str, Any]:
    return {"shape": tuple(tensor.shape), "dtype": tensor.dtype, "requires_grad": tensor.requires_grad}


def _tensors(tree: Any) -> dict[str, Tensor]:
    positional, keywords = tree
    return {path: leaf for part in (positional, keywords) for path, leaf in codec.leaves(part)
            if isinstance(leaf, Tensor)}


def _differentiable(given: Any) -> dict[str, Tensor]:
    return {path: tensor for path, tensor in _tensors(given).items() if tensor.requires_grad}


def _aliases(value: Any, given: Any) -> dict[str, str]:
    """Which tensors of the value share memory with which argument."""
    owners = {tensor.untyped_storage().data_ptr(): path for path, tensor in _tensors(given).items() if tensor.numel()}
    return {path: owners[leaf.untyped_storage().data_ptr()] for path, leaf in codec.leaves(value)
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided
            and leaf.untyped_storage().data_ptr() in owners}


def _changed(before: Any, after: Any) -> dict[str, Tensor]:
    """The arguments' values after the call, where they are not what they were."""
    untouched = _tensors(before)
    return {path: tensor.detach() for path, tensor in _tensors(after).items()
            if tensor.shape != untouched[path].shape or not torch.equal(_bits(tensor), _bits(untouched[path]))}


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _end_with_parent() -> None:
    """On Linux let the kernel end this process when its parent is gone, however the parent went."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)      # 1 is PR_SET_PDEATHSIG


def serve() -> None:
    """Answer requests from standard input until it ends. Answers leave by a descriptor of their own."""
    _end_with_parent()
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)                               # stray prints of libraries must not mix with the answers
    requests, sys.stdin = os.fdopen(os.dup(0), "rb"), open(os.devnull)      # noqa: SIM115
    os.dup2(sys.stdin.fileno(), 0)
    worker = Worker()
    while (message := codec.read_message(requests)) is not None:
        codec.write_message(answers, worker.answer(message))


if __name__ == "__main__":
    serve()
