"""What happens around an epoch: checkpoints that survive a kill, progress, sharing the machine."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from rs_prune.deploy.artifact import save_weights
from rs_prune.deploy.latency import machine_shared
from rs_prune.results.files import whole
from rs_prune.training.augment import draws

EARLY = "early.safetensors"
"""The weights after the first tenth of a fit."""


class Checkpoint(pl.Callback):
    """Keeps the best epoch on validation data, and the state to go on from after a kill.

    Every file appears whole or not at all. `last.ckpt` holds plain values only.

    Args:
        folder: Where `best.safetensors`, `early.safetensors` and `last.ckpt` go.
        selection: `val` (best validation accuracy, the earlier epoch on a tie) or `last`.
        early: After so many epochs the weights are kept for schedules that rewind to them.
        first: Epochs before this one (counted from 0) are not selected.
    """

    def __init__(self, folder: Path, selection: str, *, early: int = 1, first: int = 0) -> None:
        self.folder = folder
        self.selection = selection
        self.early = early
        self.first = first
        self.best = -1.0
        self.history: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = float(state_dict["best"])
        self.history = list(state_dict["history"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        accuracy = metrics["val/accuracy"]
        self.history.append(
            {
                "epoch": trainer.current_epoch + 1,
                "loss": metrics["train/loss"],
                "accuracy": metrics["train/accuracy"],
                "val_loss": metrics["val/loss"],
                "val_accuracy": accuracy,
            }
        )
        net = pl_module.net
        assert isinstance(net, torch.nn.Module)
        if trainer.current_epoch + 1 == self.early:
            save_weights(net, self.folder / EARLY)
        if trainer.current_epoch >= self.first and (accuracy > self.best or self.selection == "last"):
            self.best = accuracy
            save_weights(net, self.folder / "best.safetensors")
        with whole(self.folder / "last.ckpt") as draft:
            trainer.save_checkpoint(draft)


class BatchSeed(pl.Callback):
    """Seeds torch from (seed, epoch, batch), so that dropout in a resumed run draws as in an undisturbed one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        number = int(draws(self.seed, trainer.current_epoch, torch.tensor([batch_idx])))
        torch.default_generator.manual_seed(number)  # torch.manual_seed keeps a traceback for each absent device
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.manual_seed_all(number)


class ShareMachine(pl.Callback):
    """Trains only while nobody measures latency; waits before a batch if need be."""

    def __init__(self) -> None:
        self.stack = ExitStack()

    def on_train_batch_start(self, *_: Any) -> None:
        self.stack.enter_context(machine_shared())

    def on_train_batch_end(self, *_: Any) -> None:
        self.stack.close()

    def on_validation_batch_start(self, *_: Any, **__: Any) -> None:
        self.stack.enter_context(machine_shared())

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        self.stack.close()

    def on_exception(self, *_: Any) -> None:
        self.stack.close()


class Report(pl.Callback):
    """A bar with epoch, loss, accuracy and time left; without a terminal a line an epoch.

    Args:
        label: What is being trained.
        live: Whether a moving bar can be drawn.
    """

    def __init__(self, label: str, live: bool) -> None:
        self.label = label
        self.console = Console(highlight=False, soft_wrap=True)
        self.live = live and self.console.is_terminal
        self.bar: Progress | None = None
        self.started = 0.0
        self.first_epoch = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started, self.first_epoch = time.monotonic(), trainer.current_epoch
        if self.live:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(compact=True),
                console=self.console,
                transient=True,
            )
            epochs = trainer.max_epochs or 0
            self.task = self.bar.add_task(
                self.label,
                total=epochs * trainer.num_training_batches,
                completed=int(trainer.current_epoch * trainer.num_training_batches),
                figures="",
            )
            self.bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.bar is not None:
            loss = outputs["loss"] if isinstance(outputs, dict) else outputs
            accuracy = trainer.callback_metrics.get("val/accuracy")
            figures = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  loss {float(loss):.3f}"
            if accuracy is not None:
                figures += f"  val {float(accuracy):.1%}"
            self.bar.update(self.task, advance=1, figures=figures)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar is None:
            done = trainer.current_epoch + 1
            each = (time.monotonic() - self.started) / (done - self.first_epoch)
            left = each * ((trainer.max_epochs or done) - done)
            metrics = trainer.callback_metrics
            self.console.print(
                f"{self.label}  epoch {done}/{trainer.max_epochs}  loss {float(metrics['train/loss']):.3f}  "
                f"val {float(metrics['val/accuracy']):.1%}  {left:.0f} s left"
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
