"""Geometric median: filters that others can replace go first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rs_prune.contracts import Evidence, Group, LayerEvidence, Scores
from rs_prune.pruning.scores import per_group


class FPGM:
    """Scores a filter by the sum of its Euclidean distances to all filters of its layer.

    Filter pruning via geometric median (He, Liu, Wang, Hu, Yang 2019, arXiv 1811.00250): the filter nearest to the
    geometric median is the one that the others replace best.
    """

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores:
        return per_group(evidence, groups, _score)


def _score(layer: LayerEvidence) -> Tensor:
    """Distances by one matrix product: differences of filters, pair by pair, take 30 times as long."""
    filters = layer.weight.flatten(1)
    gram = filters @ filters.T
    square = gram.diagonal().clone()
    distances = gram.mul_(-2).add_(square[:, None]).add_(square[None]).clamp_(min=0).sqrt_().fill_diagonal_(0)
    return distances.sum(1, dtype=torch.float64)
