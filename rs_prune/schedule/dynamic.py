"""Sparse from the first step: what is pruned is exchanged while it trains."""

from __future__ import annotations

from torch import nn

from rs_prune.contracts import Verbs
from rs_prune.errors import RsPruneError
from rs_prune.training.masks import checked_updates
from rs_prune.training.regrowth import DynamicMasks


class Dynamic:
    """Trains from scratch at the budget; again and again the weakest go, and what the loss asks for most comes instead.

    RigL (Evci, Gale, Menick, Castro, Elsen 2020, arXiv 1911.11134), which exchanges single weights every 100 steps. Its
    form for channels is ours; see `rs_prune.training.regrowth`. How many stay in a layer or group is decided by the
    plan of the untrained net. When the masks stay, so do the gates, at their means: the net trains on as it will be.

    Args:
        alpha: Share of what is there that the first exchange would replace at most; it falls to 0 as half a cosine.
        until: Share of the fit's steps after which nothing is exchanged. No epoch before is selected.
        updates: How many exchanges.
    """

    scratch = True

    def __init__(self, *, alpha: float = 0.3, until: float = 0.75, updates: int = 30) -> None:
        if not 0 < alpha <= 1:
            raise RsPruneError(f"schedule.alpha={alpha}: must be above 0 and up to 1")
        self.alpha = alpha
        self.until, self.updates = checked_updates(until, updates)

    def __call__(self, net: nn.Module, do: Verbs) -> nn.Module:
        do.plan(net, (1 + do.keep) / 2)  # refuses granularities of one pattern, which an exchange would break
        net = do.mask(net, do.plan(net, do.keep))
        masks = DynamicMasks(alpha=self.alpha, until=self.until, updates=self.updates, epochs=do.epochs)
        net = do.fit(net, do.epochs, [masks, *do.settle(net, self.until)], 1.0)
        return do.detach(do.remove(net, do.masked(net)))
