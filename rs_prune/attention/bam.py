"""The channel part of BAM."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rs_prune.attention.se import SE, SEBranch
from rs_prune.pruning.squeeze import SqueezeExcite


class BAMBranch(SEBranch):
    """1 + sigmoid(BN(W2 relu(W1 mean(x)))), both layers with bias."""

    def __init__(self, mlp: SqueezeExcite) -> None:
        super().__init__(mlp)
        self.norm = nn.BatchNorm1d(mlp.excite.out_features)

    def gates(self, x: Tensor) -> Tensor:
        return 1 + torch.sigmoid(self.norm(self.mlp(x.mean((2, 3)))))[:, :, None, None]

    def keep(self, index: Tensor) -> None:
        super().keep(index)
        index = index.to(self.norm.weight.device)
        self.norm.weight = nn.Parameter(self.norm.weight.detach()[index])
        self.norm.bias = nn.Parameter(self.norm.bias.detach()[index])
        for name in ("running_mean", "running_var"):
            setattr(self.norm, name, getattr(self.norm, name)[index])
        self.norm.num_features = len(index)


class BAM(SE):
    """Bottleneck attention module, its channel part (Park, Woo, Lee, Kweon 2018, arXiv 1807.06514).

    A gate lies between 1 and 2: the module adds what it attends to. The spatial part gates pixels, which cannot be
    removed, and is left out. The paper puts a module behind every stage; here one stands behind every prunable layer,
    as that is what is ranked.

    Args:
        reduction: Channels per hidden unit; 16 as in the paper.
        min_hidden: Hidden units at least, for narrow layers.
    """

    branch = BAMBranch
