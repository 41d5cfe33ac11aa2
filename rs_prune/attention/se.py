"""Squeeze-and-excitation gates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rs_prune.contracts import Branch, Place
from rs_prune.pruning.squeeze import SqueezeExcite


class SEBranch(Branch):
    """sigmoid(W2 relu(W1 mean(x))), both with bias."""

    def __init__(self, mlp: SqueezeExcite) -> None:
        super().__init__()
        self.mlp = mlp

    def gates(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.mlp(x.mean((2, 3))))[:, :, None, None]

    def keep(self, index: Tensor) -> None:
        self.mlp.keep(index)


class SE:
    """Squeeze-and-excitation (Hu, Shen, Albanie, Sun, Wu 2018, arXiv 1709.01507).

    Args:
        reduction: Channels per hidden unit; 16 as in the paper.
        min_hidden: Hidden units at least, for narrow layers.
    """

    branch: type[SEBranch] = SEBranch

    def __init__(self, *, reduction: int = 16, min_hidden: int = 4) -> None:
        self.reduction = reduction
        self.min_hidden = min_hidden

    def __call__(self, places: Sequence[Place], net: nn.Module) -> list[Branch]:
        widths = [place.channels for place in places]
        return [self.branch(SqueezeExcite(n, max(n // self.reduction, self.min_hidden))) for n in widths]
