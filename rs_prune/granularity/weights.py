"""Single weights, anywhere: unstructured pruning."""

from __future__ import annotations

from torch import Tensor

from rs_prune.contracts import Cost, Plan, Sight
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.pruning.planner import offer
from rs_prune.pruning.weights import (
    checked_layers,
    lowest,
    mask_plan,
    need_weight_budget,
    option,
    scores_of,
    sparse_cost,
    weights_of,
)


class Weights:
    """Holds single weights of convolutions and linear layers at zero (Han et al. 2015, arXiv 1506.02626).

    Biases and norms are never masked. The budget counts what is not zero: `budget=params` the parameters,
    `budget=macs` the multiply-adds; plans land within one weight of it. A scope says in `weights` what is ranked
    together: `scope=local` takes the same share of every layer, `scope=global` ranks all weights of the net by their
    scores as they are. A global ranking may empty a layer.

    Args:
        layers: `all`, as in the paper, or `inner`: without the first layer and the classifier, which hold few weights
            and lose accuracy first.
    """

    ranks_weights = True

    def __init__(self, *, layers: str = "all") -> None:
        self.layers = checked_layers(layers)

    def __call__(self, sight: Sight) -> Plan:
        together = getattr(sight.scope, "weights", None)
        if together is None:
            raise DoesNotApply(
                f"scope={option(sight.scope)} ranks channels, not single weights; choose scope=local or scope=global"
            )
        need_weight_budget(sight, "weights")
        weights = weights_of(sight, self.layers)
        scores = [values.flatten() for values in scores_of(sight, weights).values()]
        units = [sight.budget(Cost(macs=sight.cost.positions[name], params=1, channels=0)) for name in weights]
        most = sum(unit * len(values) for unit, values in zip(units, scores, strict=True))
        least = sight.budget(sparse_cost(sight, {name: weight != weight for name, weight in weights.items()}))
        limit = int(sight.keep * sight.dense * (1 + 1e-12))
        if least > limit:
            raise RsPruneError(
                f"budget.keep={sight.budget.keep:g}: cannot be reached; the least that can stay is "
                f"{offer(least, sight.dense)} (granularity.layers={self.layers})"
            )
        excess = least + most - limit
        masks = lowest(scores, units, excess) if together == "net" else _same_share(scores, units, excess)
        return mask_plan(
            sight, {name: mask.view(weights[name].shape) for name, mask in zip(weights, masks, strict=True)}
        )


def _same_share(scores: list[Tensor], units: list[int], excess: int) -> list[Tensor]:
    """Takes the same share of every tensor, up to a weight; those nearest to the next weight lose it first."""
    share = max(0.0, excess / sum(unit * len(values) for unit, values in zip(units, scores, strict=True)))
    wanted = [share * len(values) for values in scores]
    gone = [int(count) for count in wanted]
    for place in sorted(range(len(gone)), key=lambda place: gone[place] - wanted[place]):
        if sum(unit * count for unit, count in zip(units, gone, strict=True)) < excess:
            gone[place] = min(gone[place] + 1, len(scores[place]))
    return [lowest([values], [1], count)[0] for values, count in zip(scores, gone, strict=True)]
