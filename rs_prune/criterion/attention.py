"""Mean gate: channels that the trained attention lets through on average are kept."""

from __future__ import annotations

from collections.abc import Sequence

from rs_prune.contracts import Evidence, Group, Scores
from rs_prune.pruning.scores import need_gates, per_group


class Attention:
    """Scores a channel by its mean gate over training samples.

    After PCAS (Yamamoto and Maeno 2018, arXiv 1806.05382), which ranks channels by averaged attention.
    """

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores:
        need_gates(evidence, "attention")
        return per_group(evidence, groups, lambda layer: layer.gate)
