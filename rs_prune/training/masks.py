"""Masks that change while a net trains: the callbacks of soft, gradual and dynamic pruning."""

from __future__ import annotations

import copy
from collections.abc import Callable

import lightning.pytorch as pl
import torch
from torch import nn

from rs_prune.contracts import Plan
from rs_prune.pruning.gate import bare, inner
from rs_prune.pruning.graph import Graph, trace
from rs_prune.pruning.masking import bake, masked_channels, masks, masks_of, original, set_masks
from rs_prune.training.datamodule import SceneData

Replan = Callable[[nn.Module], Plan]


class Masking(pl.Callback):
    """What callbacks that change masks share: the net under training, its graph, new masks from a new plan.

    The net must come with masks (`Verbs.mask`).

    Args:
        replan: A copy of the net -> a plan.
    """

    def __init__(self, replan: Replan) -> None:
        self.replan = replan
        self._graph: Graph | None = None

    def graph(self, trainer: pl.Trainer, net: nn.Module) -> Graph:
        """The net's graph; masks do not change it, so it is traced once."""
        if self._graph is None:
            data = trainer.datamodule  # type: ignore[attr-defined]
            assert isinstance(data, SceneData)
            with torch.inference_mode(False), torch.enable_grad():
                self._graph = trace(bake(bare(net)).cpu(), data.example())
        return self._graph

    def remask(self, trainer: pl.Trainer, net: nn.Module) -> None:
        """Sets the net's masks to those of a new plan, made on a copy; in place."""
        with torch.inference_mode(False), torch.enable_grad():
            plan = self.replan(copy.deepcopy(net))
            set_masks(net, masks_of(net, plan, self.graph(trainer, net)))


class SoftMasks(Masking):
    """Plans and masks at the end of each epoch; sets the masked filters to zero and frees them in the next.

    While it validates, the net is the one that the cut would leave.

    Args:
        replan: A copy of the net -> the plan of this epoch.
        free: Whether masked filters learn again in the next epoch; else their channels stay masked through it.
    """

    def __init__(self, replan: Replan, *, free: bool = True) -> None:
        super().__init__(replan)
        self.free = free

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        net = net_of(pl_module)
        if trainer.current_epoch > 0:
            zero_filters(net, self.graph(trainer, net))
        if trainer.current_epoch == 0 or self.free:  # the plan of the untrained net says nothing
            open_all(net)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.remask(trainer, net_of(pl_module))


def net_of(pl_module: pl.LightningModule) -> nn.Module:
    net = pl_module.net
    assert isinstance(net, nn.Module)
    return net


@torch.no_grad()
def open_all(net: nn.Module) -> None:
    """Sets every mask to one; in place."""
    for *_, mask in masks(net):
        mask.mask.fill_(1)


@torch.no_grad()
def zero_filters(net: nn.Module, graph: Graph) -> None:
    """Sets the filters of masked channels to zero, their norms untouched; in place."""
    groups = {group.name: group for group in graph.groups}
    for edit in masked_channels(net, graph):
        group = groups[edit.group]
        for member in group.members:
            rows = torch.tensor(member.index).view(group.channels, -1)[list(edit.channels)].flatten()
            weight = original(inner(net.get_submodule(member.layer)), "weight")
            assert weight is not None
            weight[rows.to(weight.device)] = 0
