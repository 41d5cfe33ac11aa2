"""The Lightning task: one net, one loss, one optimiser. It knows nothing of pruning."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics.classification import MulticlassAccuracy

from rs_prune.contracts import Batch, Loss
from rs_prune.errors import RsPruneError

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]


class Classifier(pl.LightningModule):
    """Trains a classifier with a one-cycle learning rate, or one that falls in steps.

    Args:
        net: (N, C, H, W) -> (N, classes) logits.
        loss: The training loss.
        optimizer: Parameters -> optimiser.
        classes: How many classes there are.
        total_steps: Optimiser steps of the whole fit.
        warmup: Share of the steps in which the learning rate rises.
        lr_steps: After each of these shares of the steps the learning rate falls to a tenth; None: one cycle.
        teacher: The net whose logits a loss with `teacher = True` takes.
    """

    def __init__(
        self,
        *,
        net: nn.Module,
        loss: Loss,
        optimizer: MakeOptimizer,
        classes: int,
        total_steps: int,
        warmup: float,
        lr_steps: Sequence[float] | None = None,
        teacher: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.loss = loss
        self.__dict__["teacher"] = teacher  # no part of the state: neither trained nor saved
        self.make_optimizer = optimizer
        self.total_steps = total_steps
        self.warmup = warmup
        self.lr_steps = lr_steps
        self.val_accuracy = MulticlassAccuracy(classes, average="micro")

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images)
        return logits

    def on_train_epoch_start(self) -> None:
        self.seen = 0
        self.loss_sum = torch.zeros((), device=self.device)
        self.right = torch.zeros((), dtype=torch.int64, device=self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        logits = self(batch["image"])
        loss = self._loss(logits, batch)
        if not torch.isfinite(loss):
            raise RsPruneError(
                f"training: the loss became {loss.item()} in epoch {self.current_epoch + 1}; the last good checkpoint "
                "is kept; a smaller optimizer.lr is the usual way out"
            )
        count = len(batch["label"])
        self.seen += count
        self.loss_sum = self.loss_sum + loss.detach().float() * count
        self.right = self.right + (logits.detach().argmax(1) == batch["label"]).sum()
        if self.trainer.is_last_batch:  # a log every step would cost a small net a few per cent of its time
            self.log("train/loss", self.loss_sum / self.seen, on_step=False, on_epoch=True, batch_size=1)
            self.log("train/accuracy", self.right.float() / self.seen, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        logits = self(batch["image"])
        count = len(batch["label"])
        self.val_accuracy(logits, batch["label"])
        self.log("val/loss", self._loss(logits, batch), batch_size=count)
        self.log("val/accuracy", self.val_accuracy, on_step=False, on_epoch=True, batch_size=count)

    def _loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if not getattr(self.loss, "teacher", False):
            return self.loss(logits, batch["label"])
        teacher = self.__dict__["teacher"].to(logits.device)
        with torch.no_grad():
            taught = teacher(batch["image"])
        return self.loss(logits, batch["label"], taught)  # type: ignore[call-arg]

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.net.parameters())
        schedule = LambdaLR(optimizer, self._share_of_lr)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _share_of_lr(self, step: int) -> float:
        if self.lr_steps is None:
            return one_cycle(step, self.total_steps, self.warmup)
        return 0.1 ** sum(step >= share * self.total_steps for share in self.lr_steps)


def one_cycle(step: int, total: int, warmup: float) -> float:
    """The share of the peak learning rate: a cosine up from 1/25, then down to near 0.

    Smith and Topin 2018 (arXiv 1708.07120), in the two-phase cosine form that PyTorch's OneCycleLR has.
    """
    rise = max(1.0, warmup * total)
    if step < rise:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * step / rise)) / 2
    along = min(1.0, (step - rise) / max(1.0, total - 1 - rise))
    return 1e-4 + (1 - 1e-4) * (1 + math.cos(math.pi * along)) / 2
