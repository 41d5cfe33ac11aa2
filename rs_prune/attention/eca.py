"""Efficient channel attention gates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rs_prune.contracts import Branch, Place


class ECA:
    """Efficient channel attention (Wang, Wu, Zhu, Li, Zuo, Hu 2020, arXiv 1910.03151).

    The kernel grows with the logarithm of the channels, as in the paper.

    Args:
        gamma: Divides log2 of the channels.
        b: Is added to it.
    """

    def __init__(self, *, gamma: float = 2.0, b: float = 1.0) -> None:
        self.gamma = gamma
        self.b = b

    def __call__(self, places: Sequence[Place], net: nn.Module) -> list[Branch]:
        sizes = [int(abs((math.log2(place.channels) + self.b) / self.gamma)) for place in places]
        return [ECABranch(size if size % 2 else size + 1) for size in sizes]


class ECABranch(Branch):
    """sigmoid of a 1-D convolution over the channel means.

    It has no weight of any one channel, so nothing shrinks with the net; a removed channel takes its part in its
    neighbours' gates with it.
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def gates(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.conv(x.mean((2, 3))[:, None]))[:, 0, :, None, None]

    def keep(self, index: Tensor) -> None:
        """Nothing here belongs to one channel."""
