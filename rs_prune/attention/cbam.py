"""The channel part of CBAM."""

from __future__ import annotations

import torch
from torch import Tensor

from rs_prune.attention.se import SE, SEBranch


class CBAMBranch(SEBranch):
    """sigmoid(mlp(mean(x)) + mlp(max(x))) with one mlp(v) = W2 relu(W1 v), both with bias."""

    def gates(self, x: Tensor) -> Tensor:
        pooled = torch.stack((x.mean((2, 3)), x.amax((2, 3))))
        return torch.sigmoid(self.mlp(pooled).sum(0))[:, :, None, None]


class CBAM(SE):
    """Convolutional block attention module, its channel part (Woo, Park, Lee, Kweon 2018, arXiv 1807.06521).

    The spatial part gates pixels, which cannot be removed, and is left out.

    Args:
        reduction: Channels per hidden unit; 16 as in the paper.
        min_hidden: Hidden units at least, for narrow layers.
    """

    branch = CBAMBranch
