"""L1 norm of the filter: plain magnitude."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rs_prune.contracts import Evidence, Group, Scores
from rs_prune.pruning.scores import per_group


class L1:
    """Scores a channel by the L1 norm of the filter that produces it, a weight by its magnitude.

    Li, Kadav, Durdanovic, Samet, Graf 2017 (arXiv 1608.08710), who compare the L1 and the L2 norm of filters; Han,
    Pool, Tran, Dally 2015 (arXiv 1506.02626) for weights.
    """

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores:
        return per_group(evidence, groups, lambda layer: layer.weight.flatten(1).norm(p=1, dim=1))

    def weights(self, evidence: Evidence) -> dict[str, Tensor]:
        return {name: layer.weight.abs() for name, layer in evidence.layers.items()}
