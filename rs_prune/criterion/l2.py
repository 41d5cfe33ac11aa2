"""L2 norm of the filter: plain magnitude."""

from __future__ import annotations

from collections.abc import Sequence

from rs_prune.contracts import Evidence, Group, Scores
from rs_prune.pruning.scores import per_group


class L2:
    """Scores a channel by the L2 norm of the filter that produces it.

    Li, Kadav, Durdanovic, Samet, Graf 2017 (arXiv 1608.08710), who compare the L1 and the L2 norm.
    """

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores:
        return per_group(evidence, groups, lambda layer: layer.weight.flatten(1).norm(p=2, dim=1))
