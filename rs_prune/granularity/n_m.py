"""N of every M weights: the pattern that sparse tensor cores multiply."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rs_prune.contracts import Plan, Sight
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.pruning.weights import checked_layers, mask_plan, need_weight_budget, scores_of, weights_of


class NM:
    """Keeps the n highest-scoring of every m consecutive input weights, each kernel position by itself.

    Mishra et al. 2021 (arXiv 2104.08378), with 2:4. Runs lie along dimension 1 of the weight, (out, in / groups, kh,
    kw). The pattern decides what stays, so scope says nothing, and `budget.keep` must be the share that it leaves;
    where it is not, the error names the share.

    Args:
        n: Weights of a run that stay.
        m: Weights of a run.
        layers: `inner` leaves the first layer, which reads the image's bands, and the classifier dense; `all` does not.
        skip: Whether layers whose inputs are not a multiple of m (depthwise convolutions too) stay dense; else they
            are refused.
    """

    ranks_weights = True

    def __init__(self, *, n: int = 2, m: int = 4, layers: str = "inner", skip: bool = False) -> None:
        if not 0 < n < m:
            raise RsPruneError(f"granularity: n={n} of m={m} weights; n must be at least 1 and less than m")
        self.n = n
        self.m = m
        self.layers = checked_layers(layers)
        self.skip = skip

    def __call__(self, sight: Sight) -> Plan:
        weights = weights_of(sight, self.layers)
        odd = {name: weight.shape[1] for name, weight in weights.items() if weight.shape[1] % self.m}
        if odd and not self.skip:
            name, width = next(iter(odd.items()))
            raise RsPruneError(
                f"granularity=n_m: layer {name} has {width} inputs per filter, not a multiple of {self.m}; leave such "
                f"layers dense with granularity.skip=true, or choose a model with other widths"
            )
        need_weight_budget(sight, "n_m")
        if not math.isclose(sight.keep, sight.budget.keep):
            raise DoesNotApply("granularity=n_m has one pattern and no steps towards it; choose schedule=one_shot")
        weights = {name: weight for name, weight in weights.items() if name not in odd}
        if not weights:
            raise DoesNotApply(f"granularity=n_m: no layer of this net has a multiple of {self.m} inputs per filter")
        scores = scores_of(sight, weights)
        return mask_plan(sight, {name: pattern(values, self.n, self.m) for name, values in scores.items()})


def pattern(scores: Tensor, n: int, m: int) -> Tensor:
    """True at the n highest of every m consecutive scores along dimension 1; of equal ones the first stay."""
    rows = scores.movedim(1, -1)
    runs = rows.reshape(*rows.shape[:-1], -1, m)
    best = runs.argsort(dim=-1, descending=True, stable=True)[..., :n]
    keep = torch.zeros(runs.shape, dtype=torch.bool).scatter(-1, best, True)
    return keep.flatten(-2).movedim(-1, 1).contiguous()
