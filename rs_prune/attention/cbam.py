"""The channel part of CBAM."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rs_prune.contracts import Branch, Place


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
        return [CBAMBranch(channels, max(channels // self.reduction, self.min_hidden)) for channels in widths]


class CBAMBranch(Branch):
    """sigmoid(mlp(mean(x)) + mlp(max(x))) with one mlp(v) = W2 relu(W1 v), both with bias."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def gates(self, x: Tensor) -> Tensor:
        pooled = torch.stack((x.mean((2, 3)), x.amax((2, 3))))
        return torch.sigmoid(self.excite(torch.relu(self.squeeze(pooled))).sum(0))[:, :, None, None]

    def keep(self, index: Tensor) -> None:
        index = index.to(self.squeeze.weight.device)
        self.squeeze.weight = nn.Parameter(self.squeeze.weight.detach()[:, index].contiguous())
        self.excite.weight = nn.Parameter(self.excite.weight.detach()[index])
        self.excite.bias = nn.Parameter(self.excite.bias.detach()[index])
        self.squeeze.in_features = self.excite.out_features = len(index)
