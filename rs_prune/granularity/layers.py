"""Whole residual blocks: the net gets shallower."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import nn

from rs_prune.contracts import Group, Member, Plan, RemoveBlock, Sight, Touched
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.pruning.blocks import block_cost, blocks, cheapest, groups_without, inside, take_out
from rs_prune.pruning.cost import CostModel
from rs_prune.pruning.gate import fold
from rs_prune.pruning.planner import WINDOW, checked_widths, plan_groups
from rs_prune.pruning.weights import check_window


class Layers:
    """Removes residual blocks whose shortcut is the identity, then channels, under one budget.

    Blocks as in Chen and Zhao 2018 (IEEE TPAMI 41(12), "Shallowing deep networks").

    Args:
        rank: `criterion`: a block scores the mean over its prunable layers of their channels' mean score by the
            criterion, scores as they are. `effect`: it scores the increase of the training loss when it alone is
            removed.
        channels: Whether channels go the rest of the way: the lowest blocks go as long as the cost does not fall below
            the target. Else blocks alone must land on it: the set with the lowest sum of scores that does.
        min_channels: Every group keeps at least so many.
        round_to: Kept channels are a multiple of this.
    """

    ranks_blocks = True

    def __init__(
        self, *, rank: str = "criterion", channels: bool = True, min_channels: int = 2, round_to: int = 1
    ) -> None:
        if rank not in ("criterion", "effect"):
            raise RsPruneError(f"granularity.rank={rank}: must be criterion or effect")
        self.rank = rank
        self.channels = channels
        self.min_channels, self.round_to = checked_widths(min_channels, round_to)

    def __call__(self, sight: Sight) -> Plan:
        names = blocks(sight.net, sight.cost.example)
        now, target = sight.budget(sight.cost.dense()), sight.keep * sight.dense
        if not names and now == sight.dense:  # in a later round they may all have gone
            raise DoesNotApply(
                f"granularity=layers: {type(sight.net).__name__} has no residual block whose shortcut is the identity; "
                "choose granularity=channels, or a net with more blocks such as model=resnet18"
            )
        if not self.channels and sight.keep != sight.budget.keep:
            raise DoesNotApply(
                "granularity=layers: blocks alone know no steps on the way to the budget; choose schedule=one_shot or "
                "granularity.channels=true"
            )
        scores = _by_effect(sight, names) if self.rank == "effect" else _by_criterion(sight, names)
        saves = {name: sight.budget(block_cost(sight, name)) for name in names}
        gone: list[str] = []
        if self.channels:
            for name in sorted(names, key=lambda name: scores[name]):
                now -= saves[name]
                if now < target:
                    break
                gone.append(name)
        else:
            gone, _ = cheapest(saves, scores, now - target * (1 + 1e-12), now - target + WINDOW * sight.dense)
        edits = tuple(RemoveBlock(name) for name in names if name in gone)
        groups = groups_without(sight.graph.groups, gone)
        cost = CostModel(_without(sight.net, gone), groups, sight.cost.example)
        if not self.channels:
            check_window(sight, cost.dense())
            return Plan(edits, cost.dense(), target)
        rest = plan_groups(sight, groups, cost, min_channels=self.min_channels, round_to=self.round_to)
        return Plan((*edits, *rest.edits), rest.predicted, target)


def _by_criterion(sight: Sight, names: Sequence[str]) -> dict[str, float]:
    """Block -> mean over its prunable layers of their channels' mean score; a layer that has none takes no part."""
    made = [member.layer for group in sight.graph.all for member in group.members]
    layers = [layer for layer in made if layer in sight.evidence.layers]
    scores = {}
    for name in names:
        alone = [_alone(layer, len(sight.evidence.layers[layer].weight)) for layer in layers if inside(layer, [name])]
        if not alone:
            raise DoesNotApply(
                f"granularity=layers: block {name} has no prunable layer that a criterion could score; set "
                "granularity.rank=effect"
            )
        found: list[float] = []
        for layer in alone:
            try:
                found.append(float(sight.criterion(sight.evidence, [layer])[layer.name].mean()))
            except DoesNotApply:  # squeeze layers have neither gate nor norm
                if layer is alone[-1] and not found:
                    raise
        scores[name] = sum(found) / len(found)
    return scores


def _alone(layer: str, channels: int) -> Group:
    alone = Touched(layer, "out", tuple((channel,) for channel in range(channels)))
    return Group(layer, channels, (Member(layer, tuple(range(channels))),), (alone,))


def _by_effect(sight: Sight, names: Sequence[str]) -> dict[str, float]:
    """Block -> increase of the training loss when it alone is removed from the net whose mean gates are folded in."""
    net = _folded(sight)
    whole = sight.loss(copy.deepcopy(net))
    return {name: sight.loss(_without(net, [name])) - whole for name in names}


def _folded(sight: Sight) -> nn.Module:
    net = copy.deepcopy(sight.net)
    for layer, found in sight.evidence.layers.items():
        if found.gate is not None:
            fold(net.get_submodule(sight.graph.norms.get(layer, layer)), found.gate)
    return net


def _without(net: nn.Module, names: Sequence[str]) -> nn.Module:
    net = copy.deepcopy(net)
    take_out(net, names)
    return net
