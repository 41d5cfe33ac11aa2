"""Residual blocks that can go whole, because what is left of them is the identity."""

from __future__ import annotations

import copy
import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from rs_prune.contracts import Cost, Group, Plan, RemoveBlock, Sight
from rs_prune.errors import RsPruneError
from rs_prune.pruning.cost import filters


@torch.no_grad()
def blocks(net: nn.Module, example: Tensor) -> tuple[str, ...]:
    """The blocks of a bare net whose shortcut is the identity, in the order of their definition.

    Names do not matter. A block is a module with children that takes one tensor and, with all its parameters at zero
    and in evaluation mode, gives it back unchanged; the probe is negative only where the block's own input is, so that
    a ReLU behind the sum counts as the identity where it is one. A stage of such blocks does the same; the innermost
    modules are the blocks.

    Args:
        net: The bare net. Left as it was.
        example: (1, C, H, W) input; its shape matters, not its values.
    """
    net = copy.deepcopy(net).eval()
    draw = torch.Generator().manual_seed(0)
    calls: dict[str, list[tuple[torch.Size, bool] | None]] = defaultdict(list)
    handles = []
    for name, module in net.named_modules():
        if name and next(module.children(), None) is not None and next(module.parameters(), None) is not None:

            def note(_: nn.Module, args: tuple[Any, ...], out: Any, name: str = name) -> None:
                x = args[0] if len(args) == 1 else None
                if isinstance(x, Tensor) and isinstance(out, Tensor) and x.shape == out.shape:
                    calls[name].append((x.shape, bool((x < 0).any())))
                else:
                    calls[name].append(None)

            handles.append(module.register_forward_hook(note))
    net(torch.rand(example.shape, generator=draw).to(example))
    for handle in handles:
        handle.remove()
    for parameter in net.parameters():
        parameter.zero_()
    found = []
    for name, seen in calls.items():
        if len(seen) == 1 and seen[0] is not None:
            shape, negative = seen[0]
            probe = (torch.rand(shape, generator=draw) - 0.5 * negative).to(example)
            if torch.equal(net.get_submodule(name)(probe.clone()), probe):
                found.append(name)
    innermost = {name for name in found if not any(other.startswith(f"{name}.") for other in found)}
    return tuple(name for name, _ in net.named_modules() if name in innermost)


def removed_blocks(plan: Plan) -> tuple[str, ...]:
    """The blocks that a plan removes."""
    return tuple(edit.block for edit in plan.edits if isinstance(edit, RemoveBlock))


def take_out(net: nn.Module, names: Iterable[str]) -> None:
    """Puts the identity in the place of blocks; in place.

    Raises:
        RsPruneError: When the net has no such block.
    """
    for name in names:
        _block(net, name)
        net.set_submodule(name, nn.Identity())


@torch.no_grad()
def zero_out(net: nn.Module, names: Iterable[str]) -> None:
    """Sets all parameters of blocks to zero, which leaves their shortcuts; in place."""
    for name in names:
        for parameter in _block(net, name).parameters():
            parameter.zero_()


def inside(layer: str, names: Collection[str]) -> bool:
    """Whether a layer lies in one of the blocks."""
    return any(layer.startswith(f"{name}.") for name in names)


def groups_without(groups: Iterable[Group], names: Collection[str]) -> tuple[Group, ...]:
    """The groups with the layers that are left, numbered as they were; those with no prunable layer are gone."""
    left = (
        replace(
            group,
            members=tuple(member for member in group.members if not inside(member.layer, names)),
            touched=tuple(touched for touched in group.touched if not inside(touched.layer, names)),
        )
        for group in groups
    )
    return tuple(group for group in left if group.members)


def block_cost(sight: Sight, name: str) -> Cost:
    """What a block takes by itself, and so what its removal saves."""
    module = _block(sight.net, name)
    weights = {layer: sight.net.get_submodule(layer).weight for layer in sight.cost.positions if inside(layer, [name])}
    groups = sight.graph.groups
    return Cost(
        macs=sum(weight.numel() * sight.cost.positions[layer] for layer, weight in weights.items()),  # type: ignore[operator,misc]
        params=sum(parameter.numel() for parameter in module.parameters()),
        channels=sum(map(filters, groups)) - sum(map(filters, groups_without(groups, [name]))),
    )


def cheapest(
    saves: Mapping[str, int], scores: Mapping[str, float], least: float, most: float
) -> tuple[list[str], bool]:
    """The set of blocks with the lowest sum of scores that saves what it should.

    Of blocks that save the same the lower-scoring go first, so that few sets are to be looked at.

    Args:
        saves: What the removal of each block saves.
        scores: Block -> score, higher = keep.
        least: What is to be saved at least.
        most: And at most.

    Returns:
        The set and True; where no set fits, the one that comes nearest to `least` and False.
    """
    alike: dict[int, list[str]] = defaultdict(list)
    for name in sorted(saves, key=lambda name: scores[name]):
        alike[saves[name]].append(name)

    def chosen(counts: Sequence[int]) -> list[str]:
        return [name for names, count in zip(alike.values(), counts, strict=True) for name in names[:count]]

    def badness(counts: Sequence[int]) -> tuple[float, float]:
        saved = sum(count * unit for count, unit in zip(counts, alike, strict=True))
        fits = least <= saved <= most
        return 0.0 if fits else abs(saved - least) or 1.0, sum(scores[name] for name in chosen(counts))

    best = min(itertools.product(*(range(len(names) + 1) for names in alike.values())), key=badness)
    return chosen(best), badness(best)[0] == 0


def _block(net: nn.Module, name: str) -> nn.Module:
    try:
        return net.get_submodule(name)
    except AttributeError:
        raise RsPruneError(f"plan: the net has no block {name}; is this the net it was made for?") from None
