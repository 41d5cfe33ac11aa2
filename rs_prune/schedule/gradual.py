"""One fit in which the masks grow step by step to the budget."""

from __future__ import annotations

from torch import nn

from rs_prune.contracts import Verbs
from rs_prune.errors import RsPruneError
from rs_prune.training.masks import GradualMasks, checked_updates


class Gradual:
    """Masks more and more while it fine-tunes, fast at first, slowly in the end; then removes what is masked.

    Zhu and Gupta 2017 (arXiv 1710.01878). Every update plans anew, and masked filters keep their values, so that a
    criterion that looks at filters alone may free a channel again; single weights are not freed. When the masks stay,
    so do the gates, at their means: the net trains on as it will be.

    Args:
        until: Share of the fit's steps after which the masks stay as they are. No epoch before is selected.
        updates: How often the masks change.
    """

    def __init__(self, *, until: float = 0.6, updates: int = 10) -> None:
        self.until, self.updates = checked_updates(until, updates)

    def __call__(self, net: nn.Module, do: Verbs) -> nn.Module:
        if do.epochs < 1:
            raise RsPruneError(
                "finetune_epochs=0: schedule=gradual prunes while it trains; set finetune_epochs to 1 or more"
            )
        masks = GradualMasks(do.plan, keep=do.keep, until=self.until, updates=self.updates, epochs=do.epochs)
        do.plan(net, masks.share(1 / self.updates))  # the first update: what cannot be planned fails in the rehearsal
        net = do.mask(net, do.plan(net, do.keep))
        net = do.fit(net, do.epochs, [masks, *do.settle(net, self.until)])
        return do.detach(do.remove(net, do.masked(net)))
