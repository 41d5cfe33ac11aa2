"""LAMP: a weight's magnitude against the larger ones of its layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rs_prune.contracts import Evidence, Group, Scores
from rs_prune.errors import DoesNotApply


class LAMP:
    """Scores a weight by its square over the sum of squares of the weights of its layer that are at least as large.

    Layer-adaptive magnitude pruning (Lee, Park, Mo, Ahn, Shin 2021, arXiv 2010.07611). Scores of all layers compare,
    and the largest weight of each has 1. As in the paper, equal weights are put in an order: each counts itself and
    those after it. It has nothing to say of whole channels.
    """

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores:
        raise DoesNotApply("criterion=lamp ranks single weights, not channels; add granularity=weights")

    def weights(self, evidence: Evidence) -> dict[str, Tensor]:
        return {name: _lamp(layer.weight) for name, layer in evidence.layers.items()}


def _lamp(weight: Tensor) -> Tensor:
    squares, order = weight.double().flatten().square().sort(stable=True)
    larger = squares.flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(squares)
    scores[order] = squares / larger.clamp_min(torch.finfo(torch.float64).tiny)
    return scores.view(weight.shape)
