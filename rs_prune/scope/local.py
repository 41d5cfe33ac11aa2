"""The same share in every group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from rs_prune.contracts import Group, Scores


class Local:
    """Ranks channels within their own group only, so that every group loses the same share; weights in their layer."""

    weights = "layer"

    def __call__(self, scores: Scores, saved: Mapping[str, float], groups: Sequence[Group]) -> Scores:
        return {name: _rank(values) / len(values) for name, values in scores.items()}


def _rank(values: torch.Tensor) -> torch.Tensor:
    order = torch.argsort(values, stable=True)
    ranks = torch.empty(len(values), dtype=torch.float64)
    ranks[order] = torch.arange(1, len(values) + 1, dtype=torch.float64)
    return ranks
