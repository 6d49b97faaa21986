"""Shapes are stated in words and refused in words."""

import doctest

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solutions import shapes
from solutions.shapes import require_shapes

LAWS = settings(derandomize=True, deadline=None, max_examples=60)
AXES = ("batch", "heads", "cells", "word")


@LAWS
@given(st.fixed_dictionaries({axis: st.integers(0, 6) for axis in AXES}),
       st.lists(st.lists(st.sampled_from(AXES), max_size=4), min_size=1, max_size=4))
def test_tensors_that_agree_pass_and_give_every_size(sizes, texts):
    tensors = {f"x{i}": (torch.zeros([sizes[axis] for axis in text]), " ".join(text)) for i, text in enumerate(texts)}
    assert require_shapes(**tensors) == {axis: sizes[axis] for text in texts for axis in text}


@LAWS
@given(st.permutations(AXES), st.integers(0, 3), st.integers(1, 3))
def test_one_axis_of_another_size_is_refused_wherever_it_is(axes, place, more):
    sizes = {axis: index + 2 for index, axis in enumerate(AXES)}
    shape = [sizes[axis] for axis in axes]
    shape[place] += more
    with pytest.raises(ValueError, match=r"^other must be \(.*\) as first has it, got \("):
        require_shapes(first=(torch.zeros(*sizes.values()), " ".join(AXES)),
                       other=(torch.zeros(shape), " ".join(axes)))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"key": (torch.zeros(2), "batch word")}, "key must be (batch, word), got (2,)"),
    ({"key": (torch.zeros(2, 3), "batch word"), "gate": (torch.zeros(4), "batch")},
     "gate must be (batch 2) as key has it, got (4,)"),
    ({"square": (torch.zeros(2, 3), "side side")}, "square must be (side, side), got (2, 3)"),
    ({"modes": (torch.zeros(2, 4), "heads 3")}, "modes must be (heads, 3), got (2, 4)"),
    ({"a": (torch.zeros(2), "batch"), "b": (torch.zeros(3), "word"), "c": (torch.zeros(3, 2), "batch word")},
     "c must be (batch 2, word 3) as a and b has it, got (3, 2)"),
    ({"scalar": (torch.zeros(1), "")}, "scalar must be (), got (1,)"),
])
def test_the_message_names_argument_axes_sizes_and_witness(arguments, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        require_shapes(**arguments)
    assert str(caught.value) == message


def test_its_example_is_true():
    assert doctest.testmod(shapes) == (0, 2)
