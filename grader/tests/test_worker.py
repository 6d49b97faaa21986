"""The vocabulary new, call, describe, load, dump, mode, free: the same in this process and across the boundary."""

import contextlib
import os
import time

import pytest
import torch

from grader.judge import Failed, Raised, Student, expect
from grader.sandbox.codec import Fixture, Handle
from grader.sandbox.process import Lost, Process
from grader.sandbox.worker import Worker

SOURCE = '''
import os, sys, time, warnings
from collections import namedtuple

import torch
from torch import nn

State = namedtuple("State", "memory usage")
calls = 0

class Net(nn.Module):
    def __init__(self, width, tied=False):
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("scale", torch.full((1,), 2.0))
        if tied:
            self.second.weight = self.first.weight

    def forward(self, x):
        return self.dropout(self.second(self.first(x))) * self.scale

    def half(self, x):
        return self.first(x)

def step(state, gain=1.0):
    return State(state.memory * gain, state.usage + 1), {"norm": state.memory.norm()}

def view(x):
    return x[:, 1]

def in_place(x, y):
    x.add_(1)
    return x + y

def noisy(x):
    print("seen by the learner"); warnings.warn("a warning"); print("on stderr", file=sys.stderr)
    return torch.rand(3)

def counts(x):
    global calls
    calls += 1
    return calls

def apply(function, x):
    return function(x)

def build(make, width):
    return make(width, width)

def fails(x):
    inner = x[99]
    return inner

def stops(x):
    raise SystemExit(3)

def quits(x):
    os._exit(7)

def hangs(x):
    while True:
        pass

def crashes(x):
    os.kill(os.getpid(), 11)

def forges(x):
    os.write(1, b"noise on the wire" * 100); sys.stdout.write("more"); sys.stdin.read()
    return x
'''


@pytest.fixture(scope="module")
def process():
    with Process([{"name": "cell 1", "source": SOURCE}], timeout=60) as made:
        yield made


@pytest.fixture(params=["in this process", "across the boundary"])
def student(request):
    if request.param == "in this process":
        worker = Worker()
        worker._define("cell 1", SOURCE)
        answer = worker.answer
    else:
        answer = request.getfixturevalue("process").answer
    return lambda name: Student(answer, name, seed=5)


def test_module_can_be_made_described_loaded_called_and_freed(student):
    net = student("Net").new(4)
    about = net.describe()
    assert about["class"] == "Net"
    assert about["parameters"]["first.weight"] == {"shape": (4, 4), "dtype": torch.float32, "requires_grad": True}
    assert list(about["buffers"]) == ["scale"]
    assert about["sharing"] == []
    state = {name: torch.ones_like(tensor) for name, tensor in net.dump().items()}
    net.load(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.dump().items())
    net.mode("eval")
    assert net.describe()["training"] is False
    x = torch.ones(2, 4)
    expect(net(x)).close(torch.full((2, 4), 21.0), because="4+1, then 4*5+1, times 1")
    expect(net.call(x, method="half").value).close(torch.full((2, 4), 5.0), because="4+1")
    net.free()
    with pytest.raises(Raised, match="was it freed"):
        net(x)


def test_weights_tied_in_a_module_are_seen(student):
    assert student("Net").new(4, tied=True).describe()["sharing"] == [["first.weight", "second.weight"]]


def test_parameters_get_gradients_and_modes_differ(student):
    net = student("Net").new(3)
    call = net.call(torch.ones(2, 3), gradients=True)
    assert call.gradients["parameters.first.weight"].shape == (3, 3)
    net.mode("train")
    assert not torch.equal(net(torch.ones(50, 3)) == 0, torch.zeros(50, 3, dtype=torch.bool))


def test_the_seed_decides_and_the_callers_random_numbers_are_left_alone(student):
    torch.manual_seed(0)
    first, before = student("noisy")(torch.zeros(1)), torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(before, torch.rand(1))
    assert torch.equal(first, student("noisy")(torch.zeros(1)))


def test_named_tuples_dicts_and_keywords_cross(student):
    from collections import namedtuple
    state = namedtuple("State", "memory usage")(torch.ones(2, 3), torch.zeros(2))
    (memory, usage), extra = student("step")(state, gain=2.0)
    assert memory.tolist() == [[2.0] * 3] * 2
    assert usage.tolist() == [1, 1]
    assert round(float(extra["norm"]), 5) == 2.44949


def test_gradients_are_told_apart_from_none(student):
    x, y = torch.randn(2, 3, requires_grad=True), torch.randn(2, requires_grad=True)
    call = student("view").call(x, cotangent=torch.tensor([1.0, 10.0]))
    assert call.gradients["0"].tolist() == [[0, 1, 0], [0, 10, 0]]
    assert call.aliases == {"": "0"}
    state = (x, y)
    detached = student("counts").call(state, gradients=True)
    assert detached.gradients == {"0.0": None, "0.1": None}


def test_changed_arguments_come_back_with_their_new_values(student):
    call = student("in_place").call(torch.zeros(2), torch.ones(2))
    assert list(call.changed) == ["0"]
    assert call.changed["0"].tolist() == [1, 1]


def test_repeats_see_state_kept_between_calls(student):
    call = student("counts").call(torch.zeros(1), repeats=3)
    assert [*call.reply["again"], call.value] == [call.value - 2, call.value - 1, call.value]


def test_fixtures_stand_for_callables_and_modules_return_as_handles(student):
    assert student("apply")(Fixture("relu"), torch.tensor([-1.0, 2.0])).tolist() == [0, 2]
    handle = student("build")(Fixture("linear"), 3)
    assert isinstance(handle, Handle)
    answer = student("build")._answer
    assert Student(answer, handle)(torch.zeros(2, 3)).shape == (2, 3)


def test_handles_can_be_arguments(student):
    net = student("Net").new(4)
    net.mode("eval")
    x = torch.ones(2, 4)
    assert torch.equal(student("apply")(net.handle, x), net(x))


def test_an_exception_shows_the_learners_lines_and_none_of_ours(student):
    with pytest.raises(Raised) as caught:
        student("fails")(torch.zeros(2))
    assert caught.value.type_name == "IndexError"
    assert [line["text"] for line in caught.value.lines] == ["inner = x[99]"]
    with pytest.raises(Raised, match="SystemExit"):
        student("stops")(torch.zeros(1))
    with pytest.raises(Raised, match="not_there is not defined"):
        student("not_there")(torch.zeros(1))


def test_prints_are_collected(student):
    call = student("noisy").call(torch.zeros(1))
    assert "seen by the learner" in call.reply["printed"]
    assert "on stderr" in call.reply["printed"]


def test_a_refusal_is_expected_where_a_law_asks_for_one(student):
    assert student("fails").raises(torch.zeros(2)) == "IndexError"
    with pytest.raises(Failed, match="should be refused"):
        student("view").raises(torch.zeros(2, 3))


def test_noise_on_the_descriptors_does_not_reach_the_answers(process):
    assert Student(process.answer, "forges")(torch.ones(2)).tolist() == [1, 1]


@pytest.mark.parametrize(("name", "message"), [
    ("quits", "exit code 7"), ("crashes", "SIGSEGV"), ("hangs", "did not return within 2 seconds")])
def test_a_lost_process_is_told_and_the_next_call_gets_a_new_one(name, message):
    with Process([{"name": "cell 1", "source": SOURCE}]) as process:
        process.start()
        process.timeout = 2
        with pytest.raises(Lost, match=message):
            Student(process.answer, name)(torch.zeros(1))
        process.timeout = 60
        assert Student(process.answer, "view")(torch.zeros(2, 3)).tolist() == [0, 0]


def test_a_cell_that_never_returns_takes_nothing_from_the_others():
    cells = [{"name": "cell 1", "source": "def good(x):\n    return x"},
             {"name": "cell 2", "source": "class Slow:\n    while True:\n        pass"},
             {"name": "cell 3", "source": "import os\n\nclass Gone:\n    os._exit(1)"},
             {"name": "cell 4", "source": "def late(x):\n    return x + 1"}]
    with Process(cells, timeout=15) as process:
        process.start()
        outcomes = [[problem["text"] for problem in outcome["problems"]] for outcome in process.defined]
        assert [bool(problems) for problems in outcomes] == [False, True, True, False]
        assert "never ends" in outcomes[1][0]
        assert "exit code 1" in outcomes[2][0]
        assert Student(process.answer, "late")(torch.zeros(1)).item() == 1


def test_what_student_code_starts_ends_with_the_process(tmp_path):
    source = f"import subprocess\ndef spawn(x):\n    subprocess.Popen(['sleep', '300'])\n    return {os.getpid()}"
    with Process([{"name": "cell 1", "source": source}]) as process:
        Student(process.answer, "spawn")(torch.zeros(1))
        group = os.getpgid(process._process.pid)
    for _ in range(50):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, 0)
            time.sleep(0.1)
            continue
        break
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
