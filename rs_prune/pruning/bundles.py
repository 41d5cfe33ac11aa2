"""Bundles: the channels that a grouped convolution ties together.

Each of a grouped convolution's conv-groups reads its own input channels and makes its own output channels, so the
unit that can go is a whole conv-group: the channels that feed it together with those that it puts out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

Unit = tuple[int, int]
"""(part, channel)"""


@dataclass
class Part:
    """Coupled channels, as the dependency graph gives them.

    Attributes:
        name: The layer that roots them.
        channels: How many there are.
        touched: (layer, side) -> the positions that each channel occupies.
        reason: Why they must all stay; "" if they need not.
        bundled: Whether a channel is a bundle of several.
    """

    name: str
    channels: int
    touched: dict[tuple[str, str], list[list[int]]] = field(default_factory=dict)
    reason: str = ""
    bundled: bool = False

    def at(self, layer: str, side: str, channel: int) -> list[int]:
        """The positions that a channel occupies."""
        found = self.touched.get((layer, side))
        return found[channel] if found else []


def bundle(parts: Sequence[Part], grouped: Mapping[str, nn.Conv2d]) -> list[Part]:
    """Merges the parts on both sides of every grouped convolution; the others pass as they are.

    Args:
        parts: Coupled channels; those of a grouped convolution's two sides are still apart.
        grouped: Name -> grouped convolution; depthwise ones, whose sides the graph has coupled, are left out.

    Returns:
        Parts in which a channel is a bundle, where grouped convolutions tie channels together. A part with a reason
        hands it to all that it is merged with.
    """
    tied = _Union()
    reasons: dict[int, str] = {}
    for layer, conv in grouped.items():
        knots: list[list[Unit]] = [[] for _ in range(conv.groups)]
        complete = True
        for side, width in (("in", conv.in_channels), ("out", conv.out_channels)):
            positions = list(_positions(parts, layer, side))
            complete &= len(positions) == width
            for unit, position in positions:
                knots[position * conv.groups // width].append(unit)
        for knot in knots:
            for unit in knot:
                tied.join(knot[0], unit)
                if not complete:
                    reasons[unit[0]] = f"{layer} is a grouped convolution of channels that stay"
    families = tied.families()
    merged = []
    for index, part in enumerate(parts):
        family = families.get(index)
        if family is None:
            merged.append(part)
        elif index == family[0]:
            whole = _merge(parts, family, tied, grouped)
            whole.reason = next((why for member in family if (why := parts[member].reason or reasons.get(member))), "")
            merged.append(whole)
    return merged


def _positions(parts: Iterable[Part], layer: str, side: str) -> Iterator[tuple[Unit, int]]:
    for index, part in enumerate(parts):
        for channel, positions in enumerate(part.touched.get((layer, side), ())):
            for position in positions:
                yield (index, channel), position


def _merge(parts: Sequence[Part], family: Sequence[int], tied: _Union, grouped: Mapping[str, nn.Conv2d]) -> Part:
    """One part of bundles, in the order of their first channels."""
    bundles: dict[Unit, list[Unit]] = defaultdict(list)
    for index in family:
        for channel in range(parts[index].channels):
            bundles[tied.root((index, channel))].append((index, channel))
    whole = Part(parts[family[0]].name, len(bundles), bundled=True)
    for layer, side in dict.fromkeys(key for index in family for key in parts[index].touched):
        if layer in grouped and side == "in":
            continue  # its weight's second dimension counts the inputs of one conv-group
        whole.touched[layer, side] = [
            [place for index, channel in units for place in parts[index].at(layer, side, channel)]
            for units in bundles.values()
        ]
    return whole


class _Union:
    """Disjoint sets of units."""

    def __init__(self) -> None:
        self.above: dict[Unit, Unit] = {}

    def root(self, unit: Unit) -> Unit:
        while (above := self.above.get(unit, unit)) != unit:
            unit = above
        return unit

    def join(self, one: Unit, other: Unit) -> None:
        first, second = sorted((self.root(one), self.root(other)))
        self.above[second] = first
        self.above.setdefault(first, first)

    def families(self) -> dict[int, tuple[int, ...]]:
        """Part -> the parts that it is tied to, itself among them; parts without ties are left out."""
        families: dict[int, set[int]] = {}
        for unit in self.above:
            one, other = unit[0], self.root(unit)[0]
            family = families.get(one, {one}) | families.get(other, {other})
            for index in family:
                families[index] = family
        return {index: tuple(sorted(family)) for index, family in families.items()}
