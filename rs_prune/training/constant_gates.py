"""Gates that stop depending on the image before a fit ends: the callback of schedules that fold them after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from torch import Tensor, nn

from rs_prune.pruning.gate import gates
from rs_prune.training.course import last_change, net_of, settled, total_steps


class ConstantGates(pl.Callback):
    """Holds every gate that depends on the image at its mean from a point of the fit on.

    Folding it afterwards changes nothing then. A net whose gates depend on the image until the end is not the net that
    remains when they are folded: on EuroSAT a quarter-sized net lost 9 points so, with no epoch left to win them back.

    Args:
        observe: Sets the gates' means on training images, in place.
        until: Share of the steps after which gates are constant.
        epochs: Of the fit.

    Attributes:
        settled: Epochs after which gates are constant.
    """

    def __init__(self, observe: Callable[[nn.Module], Any], *, until: float, epochs: int) -> None:
        self.observe = observe
        self.until = until
        self.settled = settled(until, epochs)
        self.means: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"means": self.means}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.means = dict(state_dict["means"])

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for name, gate in gates(net_of(pl_module)):
            if name in self.means:
                gate.settle(self.means[name])

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.means or trainer.global_step < last_change(total_steps(trainer), self.until):
            return
        net = net_of(pl_module)
        self.observe(net)
        for name, gate in gates(net):
            if gate.branch.varies:
                self.means[name] = gate.mean.cpu()
                gate.settle(gate.mean)
