"""The pruned net's shape, trained from scratch: the control that every pruned net has to beat."""

from __future__ import annotations

from torch import nn

from rs_prune.contracts import Verbs


class FromScratch:
    """Cuts the untrained net to the budget, then trains what is left for all epochs, those of the dense training too.

    "Rethinking the value of network pruning" (Liu, Sun, Zhou, Huang, Darrell 2019, arXiv 1810.05270): where this is as
    good, it was the shape that mattered, not the weights. The criterion sees initial weights, so that a `local` scope
    gives the shape, and which channels go means nothing. Gates, which nothing has trained, are taken off as they are.
    """

    scratch = True

    def __call__(self, net: nn.Module, do: Verbs) -> nn.Module:
        net = do.bare(do.remove(net, do.plan(net, do.keep)))
        return do.fit(net, do.epochs, [], 1.0)
