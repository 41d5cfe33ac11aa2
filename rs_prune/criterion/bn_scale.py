"""|gamma|: the scale of the batch norm that follows."""

from __future__ import annotations

from collections.abc import Sequence

from rs_prune.contracts import Evidence, Group, Scores
from rs_prune.pruning.scores import per_group


class BNScale:
    """Scores a channel by the absolute scale of the norm that directly follows.

    Network slimming (Liu, Li, Shen, Huang, Yan, Zhang 2017, arXiv 1708.06519), which trains with an L1 penalty on
    the scales: `penalty=slimming`. A layer that no norm follows takes no part.
    """

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores:
        return per_group(evidence, groups, lambda layer: None if layer.gamma is None else layer.gamma.abs())
