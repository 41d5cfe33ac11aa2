"""Masks that exchange what they hold for what the loss asks for: the callback of dynamic pruning."""

from __future__ import annotations

import copy
import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from rs_prune.contracts import Batch, Group, Plan, RemoveChannels
from rs_prune.pruning.gate import inner
from rs_prune.pruning.graph import Graph
from rs_prune.pruning.layers import channel_dim, owner
from rs_prune.pruning.masking import masked_channels, masks, masks_of, original, set_masks
from rs_prune.pruning.scores import evidence, per_group
from rs_prune.training.course import net_of, settled, total_steps
from rs_prune.training.masks import Masking, update_steps

SLIT = 2.0**-20
"""How far masks are opened to see the gradients behind them.

Not zero: behind a rectifier a channel that is exactly zero has none. A power of two is divided out exactly.
"""


class DynamicMasks(Masking):
    """Exchanges a share of what each layer's (or group's) masks keep; how many they keep never changes.

    Single weights: those of the smallest magnitude go, those with the greatest gradient come, and start from zero.
    Channels: those whose filters have the smallest L2 norm (mean over the group's layers) go, those with the greatest
    effect on the loss come: |sum of value * gradient| over what their masks hold at zero, scales and offsets of norms.
    They come back with the values they had. What has just gone may come back at once, as in RigL.

    Gradients are of the training loss on the batch of that step, taken on a copy; the step itself trains as any other.

    Args:
        alpha: Share of what is there that the first exchange would replace at most.
        until: Share of the steps after which nothing is exchanged.
        updates: How many exchanges, evenly spaced.
        epochs: Of the fit.

    Attributes:
        settled: Epochs after which the masks stay.
    """

    def __init__(self, *, alpha: float, until: float, updates: int, epochs: int) -> None:
        self.alpha = alpha
        self.until = until
        self.updates = updates
        self.settled = settled(until, epochs)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        along = update_steps(total_steps(trainer), self.until, self.updates).get(trainer.global_step, 0)
        share = self.alpha / 2 * (1 + math.cos(math.pi * along))
        if not 0 < along < 1:
            return
        net = net_of(pl_module)
        graph = self.graph(trainer, net)
        seen = slit_open(net, batch, pl_module.loss)
        if closed := masked_channels(net, graph):
            exchange_channels(net, seen, graph, closed, share)
        else:
            exchange_weights(net, seen, share)


def slit_open(net: nn.Module, batch: Batch, loss: Any) -> nn.Module:
    """A copy whose masks are ajar, with the gradients of the loss on the batch behind every mask."""
    net = copy.deepcopy(net)
    net.zero_grad()
    for *_, mask in masks(net):
        mask.mask.clamp_(min=SLIT)
    loss(net(batch["image"]), batch["label"]).backward()
    return net


@torch.no_grad()
def exchange_weights(net: nn.Module, seen: nn.Module, share: float) -> None:
    """Exchanges single weights, layer by layer; in place.

    Args:
        net: The net whose masks change.
        seen: Its copy from `slit_open`.
        share: Of the kept weights of each layer.
    """
    for (_, name, module, mask), (_, _, twin, ajar) in zip(masks(net), masks(seen), strict=True):
        weight, behind = original(module, name), original(twin, name)
        assert weight is not None and behind is not None and behind.grad is not None
        keep = mask.mask != 0
        new = exchanged(keep, weight.abs(), (behind.grad / ajar.mask).abs(), share)
        weight[new != keep] = 0
        mask.mask.copy_(new)


@torch.no_grad()
def exchange_channels(
    net: nn.Module, seen: nn.Module, graph: Graph, closed: tuple[RemoveChannels, ...], share: float
) -> None:
    """Exchanges channels, group by group; in place.

    Args:
        net: The net whose masks change.
        seen: Its copy from `slit_open`.
        graph: The net's graph.
        closed: What the masks hold.
        share: Of the kept channels of each group.
    """
    groups = {group.name: group for group in graph.all}
    touched = [groups[edit.group] for edit in closed]
    norms = per_group(
        evidence(net, graph, seed=0, images=0), touched, lambda layer: layer.weight.flatten(1).norm(dim=1)
    )
    edits = []
    for edit, group in zip(closed, touched, strict=True):
        keep = torch.ones(group.channels, dtype=torch.bool)
        keep[list(edit.channels)] = False
        new = exchanged(keep, norms[group.name], effect(seen, group, graph), share)
        edits.append(RemoveChannels(group.name, tuple((~new).nonzero().flatten().tolist())))
    plan = Plan(tuple(edits), predicted=None)  # type: ignore[arg-type]
    set_masks(net, masks_of(net, plan, graph))


def effect(seen: nn.Module, group: Group, graph: Graph) -> Tensor:
    """(channels,) first-order effect on the loss of all that a group's masks hold at zero, channel by channel."""
    total = torch.zeros(group.channels, dtype=torch.float64)
    ajar = {(layer, name): mask.mask for layer, name, _, mask in masks(seen)}
    for touched in group.touched:
        if touched.side != "out" or touched.layer in graph.norms:
            continue
        place, names = owner(seen, touched.layer)
        for name in names:
            value = original(inner(seen.get_submodule(place)), name)
            if value is None or value.grad is None:
                continue
            change = (value.detach() * value.grad / ajar[place, name]).movedim(channel_dim(value, names), 0)
            change = change.flatten(1).sum(1) if change.dim() > 1 else change
            change = change.double().cpu()
            total += torch.stack([change[list(positions)].sum() for positions in touched.index])
    return total.abs()


def exchanged(keep: Tensor, strength: Tensor, growth: Tensor, share: float) -> Tensor:
    """A mask with as many ones: of the kept the weakest share goes, of all others those of the greatest growth come.

    Args:
        keep: Booleans, any shape.
        strength: Of the same shape: the lowest go; of equal ones the first.
        growth: Of the same shape: the highest come; of equal ones the first.
        share: Of the kept, rounded down.
    """
    kept = keep.flatten()
    count = int(share * int(kept.sum()))
    weakest = strength.flatten().masked_fill(~kept, torch.inf).argsort(stable=True)[:count]
    staying = kept.clone()
    staying[weakest] = False
    best = growth.flatten().masked_fill(staying, -torch.inf).argsort(descending=True, stable=True)[:count]
    staying[best] = True
    return staying.view_as(keep)
