"""Masks that change while a net trains: the callbacks of soft and gradual pruning."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from rs_prune.contracts import Plan
from rs_prune.errors import RsPruneError
from rs_prune.pruning.gate import bare, inner
from rs_prune.pruning.graph import Graph, trace
from rs_prune.pruning.masking import bake, masked_channels, masks, masks_of, original, set_masks
from rs_prune.training.course import cubic, last_change, net_of, settled, total_steps
from rs_prune.training.datamodule import SceneData

MakePlan = Callable[[nn.Module, float], Plan]
"""`Verbs.plan`."""


class Masking(pl.Callback):
    """What callbacks that change masks share: the net under training, its graph, new masks from a new plan.

    The net must come with masks (`Verbs.mask`), which are part of its state; what a callback does depends on that
    state and the step alone, so that a killed fit goes on as if nothing had happened.
    """

    _graph: Graph | None = None

    def graph(self, trainer: pl.Trainer, net: nn.Module) -> Graph:
        """The net's graph; masks do not change it, so it is traced once."""
        if self._graph is None:
            data = trainer.datamodule  # type: ignore[attr-defined]
            assert isinstance(data, SceneData)
            with torch.inference_mode(False), torch.enable_grad():
                self._graph = trace(bake(bare(net)).cpu(), data.example())
        return self._graph

    def remask(self, trainer: pl.Trainer, net: nn.Module, plan: MakePlan, keep: float) -> None:
        """Sets the net's masks to those of a new plan, made on a copy; in place."""
        with torch.inference_mode(False), torch.enable_grad():
            set_masks(net, masks_of(net, plan(copy.deepcopy(net), keep), self.graph(trainer, net)))


class SoftMasks(Masking):
    """Plans and masks at the end of each epoch; sets the masked filters to zero and frees them in the next.

    While it validates, the net is the one that the cut would leave.

    Args:
        plan: `Verbs.plan`.
        keep: The budget's share.
        free: Whether masked filters learn again in the next epoch; else they stay zero through it.
    """

    def __init__(self, plan: MakePlan, *, keep: float, free: bool = True) -> None:
        self.plan = plan
        self.keep = keep
        self.free = free

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        net = net_of(pl_module)
        if trainer.current_epoch > 0:
            zero_masked(net, self.graph(trainer, net))
        if trainer.current_epoch == 0 or self.free:  # the plan of the untrained net says nothing
            open_all(net)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        net = net_of(pl_module)
        if not self.free:
            zero_masked(net, self.graph(trainer, net))  # the optimiser's momentum has moved them
        self.remask(trainer, net, self.plan, self.keep)


class GradualMasks(Masking):
    """Masks nothing at first, and more with every update, until the budget is reached.

    Args:
        plan: `Verbs.plan`.
        keep: The budget's share.
        until: Share of the steps after which the masks stay.
        updates: How often they change.
        epochs: Of the fit.

    Attributes:
        settled: Epochs after which the masks stay.
    """

    def __init__(self, plan: MakePlan, *, keep: float, until: float, updates: int, epochs: int) -> None:
        self.plan = plan
        self.keep = keep
        self.until = until
        self.updates = updates
        self.settled = settled(until, epochs)

    def share(self, along: float) -> float:
        """What stays when that share of the updates is done: Zhu and Gupta's cubic."""
        return cubic(self.keep, along)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        along = update_steps(total_steps(trainer), self.until, self.updates).get(trainer.global_step)
        if along == 0:
            open_all(net_of(pl_module))
        elif along is not None:
            self.remask(trainer, net_of(pl_module), self.plan, self.share(along))


def checked_updates(until: float, updates: int) -> tuple[float, int]:
    """The options `until` and `updates`, if they are what they can be.

    Raises:
        RsPruneError: When the share is not above 0 and up to 1, or there would be no update.
    """
    if not 0 < until <= 1:
        raise RsPruneError(f"schedule.until={until}: must be above 0 and up to 1, a share of the training steps")
    if not isinstance(updates, int) or updates < 1:
        raise RsPruneError(f"schedule.updates={updates}: must be a whole number of at least 1")
    return until, updates


def update_steps(total: int, until: float, updates: int) -> dict[int, float]:
    """Before which steps masks change -> the share of the updates that is done then, from 0 at the first step to 1.

    Where there are fewer steps than updates, several fall into one. The last comes before the last step at latest.
    """
    end = last_change(total, until)
    return {-(-number * end // updates): number / updates for number in range(updates + 1)}


@torch.no_grad()
def open_all(net: nn.Module) -> None:
    """Sets every mask to one; in place."""
    for *_, mask in masks(net):
        mask.mask.fill_(1)


@torch.no_grad()
def zero_masked(net: nn.Module, graph: Graph) -> None:
    """Sets masked weights, and the filters of masked channels, to zero, norms untouched; in place."""
    for _, name, module, mask in masks(net):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            weight = original(module, name)
            assert weight is not None
            weight.mul_(mask.mask)
    groups = {group.name: group for group in graph.all}
    for edit in masked_channels(net, graph):
        group = groups[edit.group]
        for member in group.members:
            rows = torch.tensor(member.index).view(group.channels, -1)[list(edit.channels)].flatten()
            weight = original(inner(net.get_submodule(member.layer)), "weight")
            assert weight is not None
            weight[rows.to(weight.device)] = 0
