"""Evidence, and the pure functions that criteria share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from rs_prune.contracts import Evidence, Group, LayerEvidence, Scores
from rs_prune.errors import DoesNotApply
from rs_prune.pruning.gate import Gated, inner
from rs_prune.pruning.graph import Graph


def evidence(
    net: nn.Module, graph: Graph, *, seed: int, images: int, measured: Mapping[str, Tensor] | None = None
) -> Evidence:
    """Collects what criteria may look at from a net whose gates have been observed.

    Args:
        net: The net, gated or bare.
        graph: The graph of the bare net.
        seed: The run's seed.
        images: How many images the gates were observed on.
        measured: What the criterion itself measured, by layer.
    """
    measured = measured or {}
    layers = {}
    for group in graph.all:
        for member in group.members:
            conv = net.get_submodule(member.layer)
            norm = net.get_submodule(graph.norms[member.layer]) if member.layer in graph.norms else None
            gated = norm if isinstance(norm, Gated) else conv
            layers[member.layer] = LayerEvidence(
                weight=_weight(inner(conv)),
                gamma=None if norm is None else _weight(inner(norm)),
                gate=gated.mean.cpu() if isinstance(gated, Gated) else None,
                measured=measured.get(member.layer),
            )
    for name in measured.keys() - layers.keys():
        layers[name] = LayerEvidence(weight=_weight(inner(net.get_submodule(name))), measured=measured[name])
    touched = {touched.layer for group in graph.all for touched in group.touched}
    modules = {name: inner(module) for name, module in net.named_modules() if name in touched}
    weights = {name: _weight(module) for name, module in modules.items() if isinstance(module, nn.Conv2d | nn.Linear)}
    return Evidence(layers=layers, seed=seed, images=images, weights=weights)


def per_group(found: Evidence, groups: Sequence[Group], score: Callable[[LayerEvidence], Tensor | None]) -> Scores:
    """Scores layers and averages over each group's members; a member that has no score takes no part.

    Args:
        found: The evidence.
        groups: The groups to score.
        score: (out,) scores of one layer, or None.

    Raises:
        DoesNotApply: When a group has no member with a score.
    """
    scores: Scores = {}
    for group in groups:
        rows = []
        for member in group.members:
            values = score(found.layers[member.layer])
            if values is not None:
                picked = values.double()[torch.tensor(member.index)]
                rows.append(picked.view(group.channels, -1).mean(1))  # a bundle scores the mean of its channels
        if not rows:
            raise DoesNotApply(
                f"criterion: nothing in group {group.name} carries a score; is there a gate or norm behind its layers?"
            )
        scores[group.name] = torch.stack(rows).mean(0)
    return scores


def need_gates(found: Evidence, criterion: str) -> None:
    """Refuses evidence without gates.

    Raises:
        DoesNotApply: Naming the criterion and what to add.
    """
    if all(layer.gate is None for layer in found.layers.values()):
        raise DoesNotApply(
            f"criterion={criterion} reads gates, and no filter has one (attention=none, or attach.input=only); "
            "add attention=se or attention=eca"
        )


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach().cpu()
