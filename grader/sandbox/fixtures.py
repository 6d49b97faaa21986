"""Callables and modules a check may pass to student code, by name, since code itself never crosses the boundary."""

import torch
from torch import nn

FIXTURES = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "linear": nn.Linear,
}
