"""One ranking per kind of structure; every kind loses the same share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

import torch

from rs_prune.contracts import Group, Scores


class Isomorphic:
    """Ranks channels only against those of groups of the same structure, by score / mean score of their group.

    Isomorphic pruning (Fang, Ma, Mi, Wang 2024, arXiv 2407.04616): scores of unlike structures do not compare. The
    rank is given as a share of the class, so that one threshold takes the same share of every class, while within a
    class the layers compete. Two groups are isomorphic when their channels pass through the same layers' sides: how
    many of them are prunable convolutions, other outputs (norms, depthwise), and inputs, and how many positions of
    each a channel takes. As in the paper the widths do not count, unless asked for.

    Args:
        widths: Whether isomorphic groups must have the same number of channels too.
    """

    def __init__(self, *, widths: bool = False) -> None:
        self.widths = widths

    def __call__(self, scores: Scores, saved: Mapping[str, float], groups: Sequence[Group]) -> Scores:
        classes: dict[Hashable, list[str]] = defaultdict(list)
        for group in groups:
            classes[structure(group), group.channels if self.widths else None].append(group.name)
        priorities: Scores = {}
        for names in classes.values():
            values = torch.cat(
                [
                    scores[name].double() / scores[name].double().mean().clamp_min(torch.finfo(torch.float64).tiny)
                    for name in names
                ]
            )
            shares = torch.empty(len(values), dtype=torch.float64)
            shares[values.argsort(stable=True)] = torch.arange(1, len(values) + 1, dtype=torch.float64) / len(values)
            parts = torch.split(shares, [len(scores[name]) for name in names])
            priorities |= dict(zip(names, parts, strict=True))
        return priorities


def structure(group: Group) -> tuple[tuple[str, bool, int], ...]:
    """What makes two groups isomorphic: (side, whether it is scored, positions of a channel) of each touched layer."""
    scored = {member.layer for member in group.members}
    return tuple(
        sorted(
            (touched.side, touched.side == "out" and touched.layer in scored, len(touched.index[0]))
            for touched in group.touched
        )
    )
