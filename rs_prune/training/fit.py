"""Training a net for a number of epochs, resumably, and measuring its accuracy."""

from __future__ import annotations

import logging
import math
import platform
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from safetensors.torch import load_file
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from rs_prune.contracts import Device, Loss
from rs_prune.deploy.latency import machine_shared
from rs_prune.errors import RsPruneError
from rs_prune.training.callbacks import BatchSeed, Checkpoint, Report, ShareMachine
from rs_prune.training.datamodule import SceneData
from rs_prune.training.task import Classifier, MakeOptimizer

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How nets are trained; the same for every arm of a comparison.

    Attributes:
        loss: The training loss.
        teacher: The net whose logits a loss with `teacher = True` takes, or None.
        optimizer: Parameters -> optimiser.
        warmup: Share of the steps in which the learning rate rises.
        lr_steps: Shares of the steps after which the learning rate falls to a tenth; None: one cycle.
        selection: Which epoch is kept: `val` (best), `last`, or `test_as_published` (best; validated on the test part).
        seed: Decides everything that is drawn.
        trainer: Arguments of Lightning's Trainer.
        live: Whether a moving progress bar can be drawn; False: a line an epoch.
        quiet: No progress at all.
    """

    loss: Loss
    optimizer: MakeOptimizer
    warmup: float
    selection: str
    seed: int
    trainer: dict[str, Any] = field(default_factory=dict)
    live: bool = True
    quiet: bool = False
    teacher: nn.Module | None = None
    lr_steps: Sequence[float] | None = None


def fit(
    net: nn.Module,
    data: SceneData,
    *,
    epochs: int,
    recipe: Recipe,
    folder: Path,
    label: str,
    logger: Callable[[], Any],
    callbacks: Sequence[pl.Callback] = (),
) -> list[dict[str, float]]:
    """Trains the net in place and leaves it with the weights of the selected epoch.

    A fit that was killed goes on from its last whole epoch when called again with the same folder.

    Args:
        net: The net.
        data: The scenes.
        epochs: Passes over the training part; 0 does nothing.
        recipe: How.
        folder: Where checkpoints go.
        label: What progress and errors call it.
        logger: Makes the Lightning logger, or False for none.
        callbacks: What else happens while it trains. One that shapes the net says with the attributes `settled` and
            `lag` how many epochs, and steps besides, that takes; no epoch before is selected.

    Returns:
        One entry an epoch: epoch, loss, accuracy, val_loss, val_accuracy.

    Raises:
        RsPruneError: When the loss becomes NaN or infinite.
        KeyboardInterrupt: When the user interrupts.
    """
    if epochs == 0:
        return []
    _quieten()
    # Lightning's `deterministic` would have every new tensor filled: a third of a CPU's time, and no other result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    folder.mkdir(parents=True, exist_ok=True)
    settled = max(
        [
            int(getattr(callback, "settled", 0)) + math.ceil(getattr(callback, "lag", 0) / data.steps())
            for callback in callbacks
        ],
        default=0,
    )
    checkpoint = Checkpoint(folder, recipe.selection, early=max(1, epochs // 10), first=min(settled, epochs - 1))
    everything: list[pl.Callback] = [ShareMachine(), BatchSeed(recipe.seed), *callbacks, checkpoint]
    if not recipe.quiet:
        everything.append(Report(label, recipe.live))
    journal = logger()
    trainer = pl.Trainer(
        **recipe.trainer,
        max_epochs=epochs,
        logger=journal,
        callbacks=everything,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10_000,
    )
    if isinstance(trainer.accelerator, CPUAccelerator):
        _warn_of_emulation(str(trainer.precision))
    task = Classifier(
        net=net.to(memory_format=torch.channels_last).train(),  # Lightning would leave a net in evaluation mode so
        loss=recipe.loss,
        teacher=recipe.teacher,
        optimizer=recipe.optimizer,
        classes=data.num_classes,
        total_steps=epochs * data.steps(),
        warmup=recipe.warmup,
        lr_steps=recipe.lr_steps,
    )
    last = folder / "last.ckpt"
    on_ctrl_c = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            trainer.fit(task, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, on_ctrl_c)  # Lightning leaves it ignored, for child processes too
        close(journal)
    if trainer.interrupted:
        raise KeyboardInterrupt
    best = folder / "best.safetensors"
    if not best.exists():
        raise RsPruneError(f"{label}: training ended without a checkpoint in {folder}")
    net.load_state_dict(load_file(best), strict=True)
    return checkpoint.history


@torch.inference_mode()
def predict(net: nn.Module, data: SceneData, part: str, device: Device = "cpu") -> Tensor:
    """(images,) the class that the net gives each image of a part, in the part's order; on the CPU."""
    net = net.to(device).eval()
    found = []
    for batch in data.batches(part, device=device):
        with machine_shared():
            found.append(net(batch["image"]).argmax(1).cpu())
    return torch.cat(found)


def evaluate(net: nn.Module, data: SceneData, part: str, device: Device = "cpu") -> tuple[float, dict[str, float]]:
    """Accuracy over a part, and per class, from summed counts."""
    return score(predict(net, data, part, device), data, part)


def score(predicted: Tensor, data: SceneData, part: str) -> tuple[float, dict[str, float]]:
    """Accuracy over a part, and per class, of what `predict` gave."""
    labels = torch.tensor(data.scenes.labels)[torch.tensor(getattr(data.parts, part))]
    counts = MulticlassConfusionMatrix(data.num_classes)(predicted, labels)
    right, total = counts.diag(), counts.sum(1)
    per_class = {
        name: float(right[label]) / max(int(total[label]), 1) for label, name in enumerate(data.scenes.classes)
    }
    return float(right.sum()) / int(total.sum()), per_class


@torch.no_grad()
def recalibrate(net: nn.Module, data: SceneData, images: int, device: Device = "cpu") -> nn.Module:
    """Re-estimates every batch norm's running statistics on training images; in place.

    Means and variances of batches are averaged with the batches' sizes as weights.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    net.to(device).eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    seen = 0
    for batch in data.batches("train", limit=images, device=device):
        count = len(batch["image"])
        seen += count
        for norm in norms:
            norm.momentum = count / seen
        net(batch["image"])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    return net


def close(logger: Any) -> None:
    """Ends a Weights & Biases run, so that the next fit starts one of its own; other loggers need nothing."""
    finish = getattr(getattr(logger, "experiment", None), "finish", None)
    if callable(finish):
        finish()


@cache
def _warn_of_emulation(precision: str) -> None:
    """Says once that an x86 processor without AVX-512 has no instructions for bf16."""
    emulated = (
        platform.machine().lower() in ("x86_64", "amd64") and "AVX512" not in torch.backends.cpu.get_cpu_capability()
    )
    if emulated and precision.startswith("bf16"):
        log.warning(
            "trainer.precision=%s: this CPU lacks AVX-512, so that bf16 is emulated and takes tens of times as long; "
            "set trainer.precision=32-true",
            precision,
        )


def _quieten() -> None:
    """Lightning's tips and device lines are not for our users."""
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
