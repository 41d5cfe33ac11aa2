"""Plan once, cut once, then fine-tune."""

from __future__ import annotations

from torch import nn

from rs_prune.contracts import Verbs


class OneShot:
    """All channels go in one cut; all fine-tuning comes after it (Li et al. 2017, arXiv 1608.08710)."""

    def __call__(self, net: nn.Module, do: Verbs) -> nn.Module:
        net = do.detach(do.remove(net, do.plan(net, do.keep)))
        return do.fit(net, do.epochs)
