"""Single weights: whose there are, what they score, which are the lowest, and what a net costs without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from rs_prune.contracts import Cost, Evidence, LayerEvidence, Plan, Sight
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.pruning.masking import pack
from rs_prune.pruning.planner import WINDOW, missed

Keeps = Mapping[str, Tensor]
"""Layer -> True where a weight stays; of the weight's shape."""


def checked_layers(layers: str) -> str:
    """The option `layers`, if it is one.

    Raises:
        RsPruneError: When it is neither `all` nor `inner`.
    """
    if layers not in ("all", "inner"):
        raise RsPruneError(f"granularity.layers={layers}: must be all or inner")
    return layers


def weight_layers(net: nn.Module) -> tuple[str, ...]:
    """The layers whose weights can be masked: every convolution and linear layer."""
    return tuple(name for name, module in net.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear)))


def weights_of(sight: Sight, layers: str) -> dict[str, Tensor]:
    """The weights of the convolutions and linear layers that run, in the order in which they run.

    Args:
        sight: What is planned from.
        layers: `all`, or `inner`: without the first, which reads the image, and the last, which puts out the classes.
    """
    names = list(sight.cost.positions)
    return {name: _weight(sight.net, name) for name in (names if layers == "all" else names[1:-1])}


def scores_of(sight: Sight, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The criterion's score of every weight, higher = keep; a weight that is zero already goes before any other.

    Args:
        sight: What is planned from.
        weights: The layers to score, with their weights.

    Raises:
        DoesNotApply: When the criterion ranks channels only.
    """
    rank = getattr(sight.criterion, "weights", None)
    if rank is None:
        raise DoesNotApply(
            f"criterion={option(sight.criterion)} ranks channels, not single weights; choose criterion=l1, lamp, "
            "hessian_diag or random"
        )
    layers = {
        name: replace(sight.evidence.layers.get(name) or LayerEvidence(weight), weight=weight)
        for name, weight in weights.items()
    }
    scores = rank(Evidence(layers=layers, seed=sight.evidence.seed, images=sight.evidence.images))
    return {name: scores[name].masked_fill(weight == 0, -torch.inf) for name, weight in weights.items()}


def need_weight_budget(sight: Sight, granularity: str) -> None:
    """Refuses a budget of channels, which masks leave as they are.

    Raises:
        DoesNotApply: Naming the budgets that masks lower.
    """
    if sight.budget(Cost(macs=0, params=0, channels=1)):
        raise DoesNotApply(
            f"budget={option(sight.budget)} counts channels, and granularity={granularity} removes none; choose "
            "budget=params or budget=macs"
        )


def lowest(scores: Sequence[Tensor], units: Sequence[int], excess: int) -> list[Tensor]:
    """One ranking over several tensors: masks whose lowest weights go until `excess` is saved.

    No weight is sorted: a bisection over the values that a score can have finds the highest that goes. Of equal
    scores as many of the last come back as fit.

    Args:
        scores: Any shapes; all of one floating type (float32 or float64).
        units: What one weight of each tensor saves; above 0.
        excess: What is to be saved at least; nothing goes at or below 0.

    Returns:
        Per tensor: True where a weight stays.
    """
    ranks = [_ordered(values) for values in scores]

    def saved(rank: int) -> int:
        return sum(unit * int((row <= rank).count_nonzero()) for unit, row in zip(units, ranks, strict=True))

    limits = torch.iinfo(ranks[0].dtype)
    low, high = limits.min, limits.max
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if saved(middle) >= excess else (middle + 1, high)
    keeps = [row > low for row in ranks]
    spare = saved(low) - excess
    for keep, row, unit in zip(keeps, ranks, units, strict=True):
        equal = (row == low).flatten().nonzero().flatten()
        back = min(len(equal), spare // unit)
        keep.view(-1)[equal[len(equal) - back :]] = True
        spare -= back * unit
    return keeps


def sparse_cost(sight: Sight, keeps: Keeps) -> Cost:
    """What the net costs with these masks, weights of zero left out."""
    dense = sight.cost.dense()
    macs, params = dense.macs, dense.params
    for name in weight_layers(sight.net):
        there = _weight(sight.net, name) != 0
        gone = there.numel() - int((there & keeps[name] if name in keeps else there).count_nonzero())
        params -= gone
        macs -= gone * sight.cost.positions.get(name, 0)
    return replace(dense, macs=macs, params=params)


def mask_plan(sight: Sight, keeps: Keeps) -> Plan:
    """The plan that holds all but `keeps` at zero; masks that hold nothing are part of it.

    Raises:
        RsPruneError: When it does not land in the budget's window, with the nearest share that does.
    """
    predicted = sparse_cost(sight, keeps)
    check_window(sight, predicted)
    return Plan(tuple(pack(name, keep) for name, keep in keeps.items()), predicted, sight.keep * sight.dense)


def check_window(sight: Sight, predicted: Cost) -> None:
    """Refuses a cost outside [target - 1 % of the dense net's, target].

    Raises:
        RsPruneError: With the share that fits the cost.
    """
    reached, target = sight.budget(predicted), sight.keep * sight.dense
    if not target - WINDOW * sight.dense <= reached <= target * (1 + 1e-12):
        raise missed(sight.budget, reached, sight.dense)


def _ordered(values: Tensor) -> Tensor:
    """Integers in the order of the floats: their bits, the lower ones turned over where the sign is set."""
    whole = torch.int64 if values.dtype == torch.float64 else torch.int32
    bits = values.contiguous().view(whole)
    return torch.where(bits < 0, bits ^ torch.iinfo(whole).max, bits)


def _weight(net: nn.Module, name: str) -> Tensor:
    weight = net.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def option(choice: object) -> str:
    """The name of a choice: that of its file."""
    return type(choice).__module__.rpartition(".")[2]
