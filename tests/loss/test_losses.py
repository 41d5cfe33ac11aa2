"""Losses by hand, what every loss holds to, and who the teacher is."""

from __future__ import annotations

import json
from math import exp, log
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fakes import TINY_RUN
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import Tensor, nn

from rs_prune.errors import RsPruneError
from rs_prune.loss.adaptive_mining import AdaptiveMining
from rs_prune.loss.distill import Distill
from rs_prune.loss.focal import Focal
from rs_prune.training.task import Classifier

CONF = Path(__file__).parents[2] / "conf" / "loss"
LOSSES = sorted(path.stem for path in CONF.glob("*.yaml"))
EVEN = torch.tensor([[0.0, 0.0]])
FIRST = torch.tensor([0])


def build(name: str) -> Any:
    return instantiate(OmegaConf.load(CONF / f"{name}.yaml"), _convert_="all")


def value(loss: Any, logits: Tensor, labels: Tensor) -> Tensor:
    """The loss; a teacher, where one is asked for, is sure of the next class."""
    if not getattr(loss, "teacher", False):
        return loss(logits, labels)
    return loss(logits, labels, 3.0 * nn.functional.one_hot((labels + 1) % logits.shape[1], logits.shape[1]))


def test_focal_by_hand() -> None:
    assert float(Focal(gamma=2)(EVEN, FIRST)) == pytest.approx(0.25 * log(2))
    quarter = torch.tensor([[0.0, log(3)]])  # p = 1/4
    assert float(Focal(gamma=1)(quarter, FIRST)) == pytest.approx(0.75 * log(4))
    both = torch.cat([EVEN, quarter])
    expected = (0.25 * log(2) + 0.75**2 * log(4)) / 2
    assert float(Focal(gamma=2)(both, torch.tensor([0, 0]))) == pytest.approx(expected)


def test_focal_without_gamma_is_cross_entropy() -> None:
    logits, labels = torch.randn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    torch.testing.assert_close(Focal(gamma=0)(logits, labels), nn.functional.cross_entropy(logits, labels))


def test_adaptive_mining_by_hand() -> None:
    # |y - yhat| = 0.5, 0.5. Their mean is 0.5; every entry over N = 2 is 0.25
    assert float(AdaptiveMining(r=0.4)(EVEN, FIRST)) == pytest.approx(0.4 * log(2) + exp(0.75))
    assert float(AdaptiveMining(r=1.0)(EVEN, FIRST)) == pytest.approx(log(2) + exp(0.75))
    entry = AdaptiveMining(r=0.4, distance="entry")
    assert float(entry(EVEN, FIRST)) == pytest.approx(0.4 * log(2) + exp(0.25 + 0.0625))
    # softmax 1/6, 1/3, 1/2 and label 2: |y - yhat| = 1/6, 1/3, 1/2, their mean 1/3; entries 1/18, 1/9, 1/6
    three, last = torch.tensor([[0.0, log(2), log(3)]]), torch.tensor([2])
    assert float(AdaptiveMining(r=0)(three, last)) == pytest.approx(exp(1 / 3 + 1 / 9))
    parts = [exp(d + d * d) for d in (1 / 18, 1 / 9, 1 / 6)]
    assert float(AdaptiveMining(r=0, distance="entry")(three, last)) == pytest.approx(sum(parts) / 3)


def test_distillation_by_hand() -> None:
    teacher = torch.tensor([[2 * log(3), 0.0]])  # at T = 2: 3/4, 1/4
    divergence = 0.75 * log(1.5) + 0.25 * log(0.5)
    loss = Distill(temperature=2, weight=0.3)(EVEN, FIRST, teacher)
    assert float(loss) == pytest.approx(0.7 * log(2) + 0.3 * 4 * divergence)
    assert float(Distill(temperature=2, weight=1)(teacher, FIRST, teacher)) == pytest.approx(0, abs=1e-7)
    smooth = Distill(weight=0, label_smoothing=0.1)(teacher, FIRST, EVEN)
    torch.testing.assert_close(smooth, nn.functional.cross_entropy(teacher, FIRST, label_smoothing=0.1))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_the_mean_over_the_batch(name: str) -> None:
    logits, labels = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])
    loss = build(name)
    alone = [value(loss, logits[i : i + 1], labels[i : i + 1]) for i in range(6)]
    torch.testing.assert_close(value(loss, logits, labels), torch.stack(alone).mean())


@pytest.mark.parametrize("name", [*LOSSES, "focal gamma=0.5", "adaptive_mining distance=entry"])
def test_every_gradient_is_finite_and_right_wherever_the_net_is_sure(name: str) -> None:
    option = dict([name.partition(" ")[2].split("=")]) if " " in name else {}
    node = OmegaConf.load(CONF / f"{name.split()[0]}.yaml")
    loss = instantiate(OmegaConf.merge(node, OmegaConf.create({k: _number(v) for k, v in option.items()})))
    for scale in (0.0, 1.0, 30.0, 1e4):
        logits = torch.tensor([[scale, 0.0, -scale], [scale, 0.0, -scale]], requires_grad=True)
        value(loss, logits, torch.tensor([0, 2])).backward()
        assert torch.isfinite(logits.grad).all()
    start = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: value(loss, x, torch.tensor([0, 1, 3])), start)


def _number(text: str) -> Any:
    return float(text) if text[0].isdigit() else text


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Focal(gamma=-1), "gamma"),
        (lambda: AdaptiveMining(r=-0.1), "r="),
        (lambda: AdaptiveMining(distance="sum"), "distance"),
        (lambda: Distill(temperature=0), "temperature"),
        (lambda: Distill(weight=1.5), "weight"),
        (lambda: Distill(label_smoothing=-1), "label_smoothing"),
    ],
)
def test_an_argument_out_of_range_is_named(make: Any, name: str) -> None:
    with pytest.raises(RsPruneError, match=f"loss.{name}"):
        make()


# ------------------------------------------------------------------------------------- the teacher


def small() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.BatchNorm1d(3))


def test_the_teacher_is_no_part_of_the_task_and_does_not_move() -> None:
    net, teacher = small(), small().eval()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    task = Classifier(
        net=net, loss=Distill(), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0),
        classes=3, total_steps=4, warmup=0.0, teacher=teacher,
    )  # fmt: skip
    task.train()
    assert not teacher.training
    assert not any("teacher" in name for name in task.state_dict())
    trained = {id(parameter) for parameter in task.parameters()}
    assert trained == {id(parameter) for parameter in net.parameters()}
    task.trainer = SimpleNamespace(is_last_batch=False)  # a step within an epoch: nothing is logged
    task.on_train_epoch_start()
    optimizer = task.configure_optimizers()["optimizer"]
    images = torch.randn(8, 3, 2, 2)
    loss = task.training_step({"image": images, "label": torch.arange(8) % 3}, 0)
    loss.backward()
    optimizer.step()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert not torch.equal(net[1].weight, small()[1].weight)


def test_in_a_run_the_trained_dense_net_teaches(rs_prune: Any, scene_folder: Path, tmp_path: Path, monkeypatch: Any):
    from rs_prune import steps

    seen = []
    fit = steps.fit

    def spy(net: nn.Module, *args: Any, **kwargs: Any) -> Any:
        seen.append((kwargs["recipe"].teacher, net))
        return fit(net, *args, **kwargs)

    monkeypatch.setattr(steps, "fit", spy)
    words = (*TINY_RUN, f"dataset.root={scene_folder}", "attention=se", "criterion=l1", "out=here")
    answer = rs_prune("run", *words, "loss=distill", "loss.temperature=3")
    assert answer.status == 0, answer.err
    ((teacher, student),) = seen
    (dense,) = (tmp_path / "here" / "cache" / "dense").glob("*/net.safetensors")
    expected = load_file(dense)
    state = teacher.state_dict()
    assert set(state) == set(expected)
    assert all(torch.equal(tensor.cpu(), expected[name]) for name, tensor in state.items())
    assert not teacher.training
    assert sum(p.numel() for p in student.parameters()) < sum(p.numel() for p in teacher.parameters())
    (saved,) = (tmp_path / "here" / "nets").glob("*/*.safetensors")
    assert not any("teacher" in name for name in load_file(saved))
    (record,) = (tmp_path / "here" / "records").glob("*.json")
    assert json.loads(record.read_text())["config"]["loss"]["temperature"] == 3

    refused = rs_prune("run", *words, "loss@dense_loss=distill", "epochs=1")
    assert refused.status == 1
    assert "dense_loss: learns from the trained dense net" in refused.err
    assert "loss@dense_loss=cross_entropy" in refused.err
    scratch = rs_prune("run", *words, "loss=distill", "schedule=soft")
    assert scratch.status == 1
    assert "loss=distill" in scratch.err
