"""Soft pruning: cut at the end of every epoch, regrown in the next, removed at the end."""

from __future__ import annotations

from torch import nn

from rs_prune.contracts import Verbs
from rs_prune.errors import RsPruneError
from rs_prune.training.masks import SoftMasks

GATES_LEARN = 0.8
"""Share of the steps in which gates depend on the image."""


class Soft:
    """Trains from scratch and prunes while it trains; no pretrained net, no fine-tuning afterwards.

    Soft filter pruning (He, Kang, Dong, Fu, Yang 2018, arXiv 1808.06866), which PFAM (Zhang, Wu, Gu, Han 2020) follows.
    Gates that depend on the image stay at their means for the last fifth of the steps, and no epoch before is
    selected: the net trains on as it will be. A criterion that reads gates then cuts the same filters every time.

    Args:
        gradients: `free` lets pruned filters regrow, as SFP does; `masked` keeps them from learning within the
            epoch, as the code of FPGM (arXiv 1811.00250) does.
    """

    scratch = True

    def __init__(self, *, gradients: str = "free") -> None:
        if gradients not in ("free", "masked"):
            raise RsPruneError(f"schedule.gradients={gradients}: must be free or masked")
        self.gradients = gradients

    def __call__(self, net: nn.Module, do: Verbs) -> nn.Module:
        net = do.mask(net, do.plan(net, do.keep))
        masks = SoftMasks(do.plan, keep=do.keep, free=self.gradients == "free")
        net = do.fit(net, do.epochs, [masks, *do.settle(net, GATES_LEARN)], 1.0)
        return do.detach(do.remove(net, do.masked(net)))
