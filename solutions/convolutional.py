"""Convolutional networks in which masks are looked for: a plain one and a residual one (thesis section 3.4, B.3.8).

Nothing here writes into its inputs and, in eval mode, nothing draws random numbers: vmap can run them under masks.
"""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import pad


class PlainCNN(nn.Module):
    """Convolutions of 3 x 3 with ReLU, halved in size between them; the mean over positions; a linear layer.

    inputs   channels of the images: 1 for digits, 3 for CIFAR-10
    classes  how many to tell apart
    widths   channels after each convolution, two or more. Table B.4 has 32, 64, 128, 256 for 32 x 32 pixels; images
             of 8 x 8 are too small for four: the last would see one position, and eight of its nine weights only zeros
    dropout  False leaves out the two dropouts, 0.25 after the last convolution but one and 0.5 after the last

    (batch, inputs, height, width) to logits (batch, classes). Images need 2^(convolutions - 1) rows and columns or
    more. The padding, which cannot be read in Table B.4, is taken as 1. Raises ValueError on sizes under 1 and on
    fewer than two widths.
    """

    def __init__(self, inputs: int, classes: int = 10, widths: Sequence[int] = (32, 64, 128, 256),
                 dropout: bool = True) -> None:
        super().__init__()
        if len(widths) < 2 or min(inputs, classes, *widths) < 1:
            raise ValueError(f"inputs and classes must be 1 or more and widths two numbers or more, each 1 or more; "
                             f"got {inputs}, {classes} and {list(widths)}")
        rates = [0.0] * (len(widths) - 2) + [0.25, 0.5]
        self.convolutions = nn.ModuleList(nn.Conv2d(*pair, 3, padding=1)
                                          for pair in itertools.pairwise([inputs, *widths]))
        self.dropouts = nn.ModuleList(nn.Dropout(rate if dropout else 0.0) for rate in rates)
        self.halve = nn.MaxPool2d(2)
        self.output = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        for number, (convolution, dropout) in enumerate(zip(self.convolutions, self.dropouts, strict=True)):
            images = convolution(self.halve(images) if number else images).relu()
            images = dropout(images)
        return self.output(images.mean((-2, -1)))


class BasicBlock(nn.Module):
    """x -> relu(x + F(x)), with F two convolutions of 3 x 3, each with batch norm, and ReLU between (He et al. 2016).

    Where the width grows by `stride`, the shortcut skips rows and columns and fills the new channels with zeros: it
    has no parameters ("option A").
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs)
        self.second, self.norm2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
        self.stride, self.new = stride, outputs - inputs

    def forward(self, images: Tensor) -> Tensor:
        change = self.norm2(self.second(self.norm1(self.first(images)).relu()))
        kept = images[..., ::self.stride, ::self.stride]
        before = self.new // 2
        return (pad(kept, (0, 0, 0, 0, before, self.new - before)) + change).relu()


class ResNet(nn.Module):
    """The residual network for small images: three stages of n basic blocks, 6 n + 2 layers (He et al. 2016, 4.2).

    inputs   channels of the images
    classes  how many to tell apart
    depth    6 n + 2: 110 for the ResNet-110 of the thesis, 8 for the smallest
    widths   channels of the three stages; the second and the third halve the image

    (batch, inputs, height, width) to logits (batch, classes). Weights of convolutions are drawn as by He et al. 2015.
    Raises ValueError on another depth, on other than three widths and on widths under 1 or that shrink.
    """

    def __init__(self, inputs: int = 3, classes: int = 10, depth: int = 110, widths: Sequence[int] = (16, 32, 64)
                 ) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth must be 6 n + 2 with n of 1 or more, such as 8, 20 or 110, got {depth}")
        if len(widths) != 3 or min(widths) < 1 or list(widths) != sorted(widths):
            raise ValueError(f"widths must be three numbers, 1 or more, none below the one before, got {list(widths)}")
        first, second, third = widths
        self.enter, self.norm = nn.Conv2d(inputs, first, 3, padding=1, bias=False), nn.BatchNorm2d(first)
        later = depth // 6 - 1
        self.blocks = nn.Sequential(
            BasicBlock(first, first), *(BasicBlock(first, first) for _ in range(later)),
            BasicBlock(first, second, 2), *(BasicBlock(second, second) for _ in range(later)),
            BasicBlock(second, third, 2), *(BasicBlock(third, third) for _ in range(later)))
        self.output = nn.Linear(third, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        return self.output(self.blocks(self.norm(self.enter(images)).relu()).mean((-2, -1)))
