"""CAP: mean gate times the batch-norm scale."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rs_prune.contracts import Evidence, Group, LayerEvidence, Scores
from rs_prune.pruning.scores import need_gates, per_group


class Cap:
    """Scores a channel by mean gate * |gamma|.

    Channel attention pruning of RemoteTrimmer (Zou et al. 2024, arXiv 2412.12603). A gated layer that no
    norm follows has no gamma and takes 1.
    """

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores:
        need_gates(evidence, "cap")
        return per_group(evidence, groups, _score)


def _score(layer: LayerEvidence) -> Tensor | None:
    if layer.gate is None or layer.gamma is None:
        return layer.gate
    return layer.gate * layer.gamma.abs()
