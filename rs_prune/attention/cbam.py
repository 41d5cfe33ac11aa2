"""The channel part of CBAM."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rs_prune.contracts import Branch, Place
from rs_prune.pruning.squeeze import SqueezeExcite


class CBAM:
    """Convolutional block attention module, its channel part (Woo, Park, Lee, Kweon 2018, arXiv 1807.06521).

    The spatial part gates pixels, which cannot be removed, and is left out.

    Args:
        reduction: Channels per hidden unit; 16 as in the paper.
        min_hidden: Hidden units at least, for narrow layers.
    """

    def __init__(self, *, reduction: int = 16, min_hidden: int = 4) -> None:
        self.reduction = reduction
        self.min_hidden = min_hidden

    def __call__(self, places: Sequence[Place], net: nn.Module) -> list[Branch]:
        widths = [place.channels for place in places]
        return [CBAMBranch(SqueezeExcite(n, max(n // self.reduction, self.min_hidden))) for n in widths]


class CBAMBranch(Branch):
    """sigmoid(mlp(mean(x)) + mlp(max(x))) with one mlp(v) = W2 relu(W1 v), both with bias."""

    def __init__(self, mlp: SqueezeExcite) -> None:
        super().__init__()
        self.mlp = mlp

    def gates(self, x: Tensor) -> Tensor:
        pooled = torch.stack((x.mean((2, 3)), x.amax((2, 3))))
        return torch.sigmoid(self.mlp(pooled).sum(0))[:, :, None, None]

    def keep(self, index: Tensor) -> None:
        self.mlp.keep(index)
