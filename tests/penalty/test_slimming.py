"""The sparsity penalty on batch-norm scales."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from rs_prune.attention.bam import BAM
from rs_prune.contracts import Place
from rs_prune.errors import RsPruneError
from rs_prune.penalty.slimming import Slimming
from rs_prune.pruning.gate import attach


class Task(pl.LightningModule):
    """Two norms under plain gradient descent; the loss pulls at nothing but the linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(2, affine=False), nn.Linear(1, 1))
        self.net[0].weight.data = torch.tensor([2.0, -0.5, 0.0])

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.net[0].weight * 0).sum() + self.net[2].weight.sum()

    def train_dataloader(self) -> Any:
        return DataLoader(torch.zeros(8, 1), batch_size=2)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def train(strength: float, **trainer: Any) -> nn.Module:
    task = Task()
    callbacks = Slimming(strength=strength).callbacks(task.net, None, 1)  # type: ignore[arg-type]
    pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        **trainer,
    ).fit(task)
    return task.net


def test_every_step_takes_the_strength_off_each_scale() -> None:
    torch.testing.assert_close(train(0.125)[0].weight.detach(), torch.tensor([1.5, 0.0, 0.0]))


def test_accumulated_batches_are_penalised_once_a_step() -> None:
    net = train(0.125, accumulate_grad_batches=2)
    torch.testing.assert_close(net[0].weight.detach(), torch.tensor([1.75, -0.25, 0.0]))


def test_nothing_else_is_penalised() -> None:
    torch.manual_seed(0)
    plain = train(0.0)
    torch.manual_seed(0)
    net = train(0.5)
    assert torch.equal(net[2].weight, plain[2].weight)
    assert torch.equal(net[0].bias, plain[0].bias)
    assert torch.equal(plain[0].weight, torch.tensor([2.0, -0.5, 0.0]))


def test_norms_inside_an_attention_branch_are_left_alone() -> None:
    task = Task()
    attach(task.net, [[Place("0", (0, 1, 2), "0", "0")]], BAM())
    inside = [norm for norm in task.net[0].branch.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)]
    assert inside
    for module in task.modules():
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
    (callback,) = Slimming(strength=0.5).callbacks(task.net, None, 1)  # type: ignore[arg-type]
    callback.on_fit_start(None, task)  # type: ignore[arg-type]
    callback.on_before_optimizer_step(None, task, None)  # type: ignore[arg-type]
    assert all(not norm.weight.grad.any() for norm in inside)  # type: ignore[union-attr]
    assert task.net[0].inner.weight.grad.tolist() == [0.5, -0.5, 0.0]


def test_a_negative_strength_is_refused() -> None:
    with pytest.raises(RsPruneError, match=r"penalty.strength=-1: must not be negative"):
        Slimming(strength=-1)
