"""From scores to a plan whose cost is known before anything is cut."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rs_prune.contracts import Budget, Group, Plan, RemoveChannels, Scope, Scores, Sight
from rs_prune.errors import RsPruneError
from rs_prune.pruning.cost import CostModel, filters

WINDOW = 0.01  # a plan may stay below its target by this share of the dense net's cost


def plan_channels(
    *,
    scores: Scores,
    groups: Sequence[Group],
    cost: CostModel,
    scope: Scope,
    budget: Budget,
    target: float,
    tolerance: float,
    min_channels: int,
    round_to: int,
) -> Plan:
    """The plan that removes channels in the scope's order until the predicted cost reaches the target.

    What then still fits below the target is filled up again, the most valuable first.

    Args:
        scores: Group -> (channels,), higher = keep.
        groups: The groups that may lose channels.
        cost: The net's cost model; what it knows beyond `groups` stays whole.
        scope: Makes one order of removal from the scores.
        budget: Which cost is limited.
        target: The cost to reach, in the budget's unit.
        tolerance: How far below the target the plan may land, in the budget's unit.
        min_channels: Channels that every group keeps at least; bundles, where they are bundles.
        round_to: Kept channels are a multiple of this, in filters (a group that is smaller stays whole).

    Raises:
        RsPruneError: When no plan lands in [target - tolerance, target], with the nearest that does exist. A target
            above the budget's own, a step on the way, may be undershot by more.
    """
    dense = tolerance / WINDOW
    limit = target * (1 + 1e-12)  # a share written as a float must not lose a channel to rounding
    priorities = scope(scores, cost.saved(), groups)
    order, owner, value, size = _units(priorities, groups, min_channels, round_to)
    ranked = np.lexsort((np.arange(len(owner)), value))
    columns = np.array([cost.names.index(group.name) for group in groups], np.int64)
    owner, size = columns[owner[ranked]], size[ranked]

    def kept(units: int) -> NDArray[np.int64]:
        gone = np.bincount(owner[:units], weights=size[:units], minlength=len(cost.names))
        return cost.channels - gone.astype(np.int64)

    def reached(counts: NDArray[np.int64]) -> int:
        return budget(cost.predict(counts))

    low, high = 0, len(owner)
    least = reached(kept(high))
    if least > limit:
        raise RsPruneError(
            f"budget.keep={budget.keep:g}: cannot be reached; the least that can stay is "
            f"{offer(least, dense)} (granularity.min_channels={min_channels}, round_to={round_to})"
        )
    while low < high:  # cost falls with every unit that goes
        middle = (low + high) // 2
        low, high = (low, middle) if reached(kept(middle)) <= limit else (middle + 1, high)
    counts = kept(low)
    open_groups = np.isin(np.arange(len(cost.names)), columns)
    for unit in range(low - 1, -1, -1):
        group = owner[unit]
        if not open_groups.any():
            break
        if open_groups[group]:
            counts[group] += size[unit]
            if reached(counts) > limit:
                counts[group] -= size[unit]
                open_groups[group] = False
    predicted = cost.predict(counts)
    if budget(predicted) < target - tolerance and target <= budget.keep * dense * (1 + 1e-9):
        raise missed(budget, budget(predicted), dense)
    edits = tuple(
        RemoveChannels(group.name, tuple(sorted(order[column][: group.channels - count])))
        for column, (group, count) in enumerate(zip(groups, counts[columns].tolist(), strict=True))
        if count < group.channels
    )
    return Plan(edits, predicted, target)


def plan_groups(sight: Sight, groups: Sequence[Group], cost: CostModel, *, min_channels: int, round_to: int) -> Plan:
    """`plan_channels` over these groups of what a granularity sees, with the criterion's scores.

    Args:
        sight: What is planned from.
        groups: The groups that may lose channels.
        cost: The cost model of the net that loses them.
        min_channels: Channels that every group keeps at least.
        round_to: Kept channels are a multiple of this.
    """
    return plan_channels(
        scores=sight.criterion(sight.evidence, groups),
        groups=groups,
        cost=cost,
        scope=sight.scope,
        budget=sight.budget,
        target=sight.keep * sight.dense,
        tolerance=WINDOW * sight.dense,
        min_channels=min_channels,
        round_to=round_to,
    )


def checked_widths(min_channels: int, round_to: int) -> tuple[int, int]:
    """The options `min_channels` and `round_to`, if they can be.

    Raises:
        RsPruneError: When one is below 1.
    """
    if min_channels < 1 or round_to < 1:
        raise RsPruneError("granularity: min_channels and round_to must be at least 1")
    return min_channels, round_to


def missed(budget: Budget, reached: int, dense: float) -> RsPruneError:
    """The error of a plan that lands outside the budget's window, with the share that its cost fits into."""
    return RsPruneError(
        f"budget.keep={budget.keep:g}: no plan lands within {WINDOW:.0%} below it; the nearest is "
        f"budget.keep={offer(reached, dense)}"
    )


def offer(cost: int, dense: float) -> str:
    """A share that a user can type and that this cost fits into: four digits, rounded up."""
    return f"{math.ceil(cost / dense * 1e4 - 1e-9) / 1e4:.4f}"


def _units(
    priorities: Scores, groups: Sequence[Group], min_channels: int, round_to: int
) -> tuple[list[list[int]], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """What can go, in steps: per group its channels in order of removal; per step its group, priority and size.

    A step's priority is the highest of its channels, so within a group steps go in order.
    """
    order: list[list[int]] = []
    owner: list[int] = []
    value: list[float] = []
    size: list[int] = []
    for column, group in enumerate(groups):
        priority = priorities[group.name].double().numpy()
        multiple = round_to // math.gcd(round_to, filters(group) // group.channels)
        ranked = np.argsort(priority, kind="stable")
        order.append(ranked.tolist())
        floor = max(min_channels, 1)
        floor = -(-floor // multiple) * multiple
        start = 0
        while True:
            left = group.channels - start
            step = left % multiple or multiple
            if left - step < floor:
                break
            start += step
            owner.append(column)
            value.append(float(priority[ranked[start - 1]]))
            size.append(step)
    return order, np.array(owner, np.int64), np.array(value), np.array(size, np.int64)
