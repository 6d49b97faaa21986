"""Definitions run when a notebook is checked; training, plots and shell cells do not."""

import ast

import pytest

from grader.sandbox.cells import defines, statements


def runs(source):
    """The names that are there after a cell's definitions ran, as the worker runs them."""
    names = {"__name__": "notebook"}
    for statement in statements(source, "cell"):
        if defines(statement, names):
            exec(compile(ast.Module([statement], []), "cell", "exec"), names)
    return {name for name in names if not name.startswith("__")}


def test_imports_definitions_and_plain_assignments_run():
    source = """
import math, torch, functools
from collections import namedtuple
from torch import nn
State = namedtuple("State", "memory usage")
root = functools.partial(math.sqrt)
words = "a b".split()
SIZE = 2 * 3
scale: float = math.sqrt(SIZE)
table = {"a": [1, 2], "b": torch.ones(SIZE)}
act = nn.ReLU()
if SIZE > 3:
    WIDE = True
try:
    import not_there_at_all
except ImportError:
    not_there_at_all = None
class Box: pass
def f(x): return x
"""
    wanted = "State root words SIZE scale table act WIDE not_there_at_all Box f"
    assert set(wanted.split()) <= runs(source)


@pytest.mark.parametrize(("source", "name"), [
    ("%%time\nx = 1", "x"), ("%%capture out\ndef f(): pass", "f"), ("f = lambda a: train(a)", "f"),
    ("x = 1\nx += 1", "x"), ("x = (1 + 2).bit_length()", "x"), ("import torch\nx = (torch.ones(2) + 1).sum()", "x"),
])
def test_harmless_forms_run_too(source, name):
    assert name in runs(source)


def test_in_an_exercises_own_cell_every_assignment_counts():
    source = "def make(): return lambda x: x\nf = make()"
    names = {"__name__": "notebook"}
    define, assign = statements(source, "cell")
    exec(compile(ast.Module([define], []), "cell", "exec"), names)
    assert not defines(assign, names)
    assert defines(assign, names, exercise=True)


@pytest.mark.parametrize("source", [
    "def train(x): 1 / 0\nlosses = train(1)", "from solutions import dnc\nlosses = dnc.train(1)",
    "class Net: pass\nnet = Net()", "import torch\nx = torch.ones(2)\ny = x.backward()",
    "losses = train(model)", "for i in range(10**12):\n    pass", "print('hello')", "while True: pass",
    "model = solutions.dnc.train()", "with open('x') as f:\n    data = f.read()", "x = [train(i) for i in range(3)]",
    "import os\nos.remove('x')", "check(f)", "if True:\n    print('x')", "assert False",
])
def test_what_only_runs_is_left_out(source):
    names = {"__name__": "notebook"}
    *before, last = statements(source, "cell")
    for statement in before:
        exec(compile(ast.Module([statement], []), "cell", "exec"), names)
    assert not defines(last, names)


def test_magics_are_blanked_and_python_errors_are_not():
    assert runs("%matplotlib inline\n!ls\nx = 1\ntorch.nn?\n") == {"x"}
    assert runs("%%bash\nrm -rf nothing") == set()
    with pytest.raises(SyntaxError):
        statements("def f(:\n    pass", "cell")
