"""Fitting: every image once an epoch, the same end after any interruption, and honest counts."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from rs_prune.contracts import Scenes, Split
from rs_prune.deploy.latency import machine_alone
from rs_prune.errors import RsPruneError
from rs_prune.training import datamodule
from rs_prune.training.augment import dihedral, draws
from rs_prune.training.callbacks import EARLY, Checkpoint
from rs_prune.training.datamodule import SceneData
from rs_prune.training.fit import Recipe, _warn_of_emulation, evaluate, fit, recalibrate
from rs_prune.training.task import Classifier, one_cycle

CLASSES = ("dark", "grey", "bright")
MEAN, STD, SCALE = (0.4, 0.5), (0.2, 0.25), 1 / 255
EPOCHS = 3


@pytest.fixture(autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, and locks of our own: real runs on this machine hold the real ones."""
    torch.set_num_threads(1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("locks")))


def make_pixels(count: int, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Noise whose brightness tells the class, mostly."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, count)
    noise = draw.normal(0, 45, (count, 2, size, size)) + draw.normal(0, 14, (count, 1, 1, 1))
    return np.clip(90 + 35 * labels[:, None, None, None] + noise, 0, 255).astype(np.uint8), labels


def make_data(train: int = 60, val: int = 24, test: int = 24, **options: Any) -> SceneData:
    pixels, labels = make_pixels(train + val + test)
    order = np.random.default_rng(1).permutation(len(labels)).tolist()
    scenes = Scenes(
        name="noise",
        root=Path("nowhere"),
        files=tuple(f"{i}.png" for i in range(len(labels))),
        labels=tuple(labels.tolist()),
        classes=CLASSES,
        bands=("a", "b"),
        size=pixels.shape[2:],
        scale=SCALE,
        mean=MEAN,
        std=STD,
    )
    parts = Split(
        train=tuple(sorted(order[:train])),
        val=tuple(sorted(order[train : train + val])),
        test=tuple(sorted(order[train + val :])),
    )
    words = {"batch_size": 16, "seed": 3, "flips": True, "rotations": True, **options}
    return SceneData(scenes=scenes, pixels=pixels, parts=parts, mean=MEAN, std=STD, **words)


def make_net(seed: int = 0, dropout: float = 0.2) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(2, 6, 3, stride=2, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 3),
        )


def make_recipe(**options: Any) -> Recipe:
    trainer = {"accelerator": "cpu", "devices": 1, "precision": "32-true", "deterministic": "warn"}
    words = {
        "loss": F.cross_entropy, "optimizer": partial(torch.optim.AdamW, lr=0.02), "warmup": 0.3, "selection": "last",
        "seed": 3, "trainer": trainer, "quiet": True,
    }  # fmt: skip
    return Recipe(**{**words, **options})


def run(
    net: nn.Module,
    data: SceneData,
    folder: Path,
    epochs: int = EPOCHS,
    callbacks: Sequence[pl.Callback] = (),
    **options: Any,
) -> list[dict[str, float]]:
    return fit(
        net,
        data,
        epochs=epochs,
        recipe=make_recipe(**options),
        folder=folder,
        label="test",
        logger=lambda: False,
        callbacks=callbacks,
    )


def normalised(data: SceneData, index: Any) -> Tensor:
    """Pixels as a net sees them, worked out here."""
    pixels = data._set.pixels[np.array(index)].astype(np.float64) * SCALE
    return torch.from_numpy((pixels - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]).float()


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return list(one) == list(two) and all(torch.equal(one[key], two[key]) for key in one)


class Interrupted(RuntimeError):
    """Stands for a kill."""


# ------------------------------------------------------------------------------------- batches


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[dict[str, Tensor]]]:
    """The batches that training steps get, by epoch."""
    batches: dict[int, list[dict[str, Tensor]]] = {}
    step = Classifier.training_step

    def note(self: Classifier, batch: Any, batch_idx: int) -> Tensor:
        kept = {name: value.clone() for name, value in batch.items()}
        batches.setdefault(self.current_epoch, []).append(kept)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", note)
    return batches


@pytest.mark.parametrize(("train", "sizes"), [(60, [15] * 4), (65, [17, 16, 16, 16]), (9, [9])])
def test_every_image_once_an_epoch_in_another_order(train: int, sizes: list[int], seen: Any, tmp_path: Path) -> None:
    data = make_data(train=train)
    run(make_net(), data, tmp_path)
    assert list(seen) == list(range(EPOCHS))
    orders = []
    for epoch, batches in seen.items():
        assert [len(batch["label"]) for batch in batches] == sizes
        index = torch.cat([batch["index"] for batch in batches])
        assert sorted(index.tolist()) == list(data.parts.train)
        orders.append(index.tolist())
        labels = torch.cat([batch["label"] for batch in batches])
        assert labels.tolist() == [data.scenes.labels[i] for i in index]
        image = torch.cat([batch["image"] for batch in batches])
        expected = dihedral(normalised(data, index), draws(3, epoch, index), flips=True, rotations=True)
        torch.testing.assert_close(image, expected, atol=1e-5, rtol=1e-5)
        assert image.is_contiguous(memory_format=torch.channels_last)
    assert len({tuple(order) for order in orders}) == EPOCHS
    assert all(order != sorted(order) for order in orders)
    assert data.steps() == len(sizes)


def test_order_depends_on_the_seed_and_only_on_it(seen: Any, tmp_path: Path) -> None:
    orders = []
    for place, seed in enumerate((3, 3, 4)):
        seen.clear()
        torch.manual_seed(place)
        run(make_net(), make_data(seed=seed), tmp_path / str(place), epochs=1)
        orders.append([batch["index"].tolist() for batch in seen[0]])
    assert orders[0] == orders[1] != orders[2]


def test_batches_of_a_part_are_plain_and_in_order() -> None:
    data = make_data(train=600, test=11)
    parts = list(data.batches("train"))
    assert [len(batch["label"]) for batch in parts] == [256, 256, 88]
    assert torch.cat([batch["index"] for batch in parts]).tolist() == list(data.parts.train)
    image = torch.cat([batch["image"] for batch in parts])
    torch.testing.assert_close(image, normalised(data, data.parts.train), atol=1e-5, rtol=1e-5)
    (few,) = data.batches("train", limit=20)
    assert len(few["index"].unique()) == 20
    assert set(few["index"].tolist()) <= set(data.parts.train)
    assert few["index"].tolist() != list(data.parts.train[:20])
    assert torch.equal(next(make_data(train=600, test=11).batches("train", limit=20))["index"], few["index"])
    assert len(torch.cat([batch["index"] for batch in data.batches("train", limit=10_000)])) == 600


def test_validation_is_not_augmented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, rows = make_data(), []
    step = Classifier.validation_step

    def note(self: Classifier, batch: Any, batch_idx: int) -> None:
        rows.append({name: value.clone() for name, value in batch.items()})
        step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "validation_step", note)
    run(make_net(), data, tmp_path, epochs=2)
    assert len(rows) == 2
    for row in rows:
        assert row["index"].tolist() == list(data.parts.val)
        torch.testing.assert_close(row["image"], normalised(data, data.parts.val), atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------------------------- fit at rest


def test_a_fit_learns_and_reports_what_it_did(tmp_path: Path) -> None:
    data, net = make_data(), make_net()
    history = run(net, data, tmp_path, epochs=8)
    assert [row["epoch"] for row in history] == list(range(1, 9))
    assert set(history[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}
    assert history[-1]["loss"] < history[0]["loss"] - 0.2
    accuracy, _ = evaluate(net, data, "val")
    assert accuracy == pytest.approx(history[-1]["val_accuracy"])
    assert accuracy > 0.6
    logits = net(normalised(data, data.parts.val))
    labels = torch.tensor([data.scenes.labels[i] for i in data.parts.val])
    assert history[-1]["val_loss"] == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-4)


def test_equal_seeds_make_equal_weights(tmp_path: Path) -> None:
    nets = [make_net() for _ in range(2)]
    histories = []
    for place, net in enumerate(nets):
        torch.manual_seed(place * 17)  # what went before does not matter
        histories.append(run(net, make_data(), tmp_path / str(place)))
    assert histories[0] == histories[1]
    assert same(nets[0].state_dict(), nets[1].state_dict())
    other = make_net()
    run(other, make_data(), tmp_path / "other", seed=4)  # dropout draws otherwise
    assert not same(nets[0].state_dict(), other.state_dict())


def test_no_epochs_do_nothing(tmp_path: Path) -> None:
    net = make_net()
    before = copy.deepcopy(net.state_dict())
    assert run(net, make_data(), tmp_path / "never", epochs=0) == []
    assert same(net.state_dict(), before)
    assert not (tmp_path / "never").exists()


def test_every_step_has_its_own_learning_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates, step = [], Classifier.training_step

    def note(self: Classifier, batch: Any, batch_idx: int) -> Tensor:
        rates.append(self.optimizers().param_groups[0]["lr"])
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", note)
    run(make_net(), make_data(), tmp_path)
    assert rates == pytest.approx([0.02 * one_cycle(number, 12, 0.3) for number in range(12)])


def test_a_learning_rate_in_steps_falls_to_a_tenth_after_each_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates, step = [], Classifier.training_step

    def note(self: Classifier, batch: Any, batch_idx: int) -> Tensor:
        rates.append(self.optimizers().param_groups[0]["lr"])
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", note)
    run(make_net(), make_data(), tmp_path, lr_steps=[0.5, 0.75])
    assert rates == pytest.approx([0.02] * 6 + [0.002] * 3 + [0.0002] * 3)


def test_learning_rate_rises_and_falls() -> None:
    shares = [one_cycle(step, 100, 0.3) for step in range(100)]
    assert shares[0] == pytest.approx(0.04)
    assert max(shares) == shares[30] == pytest.approx(1)
    assert shares[-1] == pytest.approx(1e-4)
    assert shares[:31] == sorted(shares[:31])
    assert shares[30:] == sorted(shares[30:], reverse=True)
    assert shares[15] == pytest.approx(0.52)


# ----------------------------------------------------------------------------------- resumption


def loss_that_stops(call: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross entropy whose call number `call` (5 an epoch: four batches and one of validation) never returns."""
    calls = iter(range(1, 10_000))

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        if next(calls) == call:
            raise Interrupted
        return F.cross_entropy(logits, labels)

    return loss


@pytest.fixture
def torn_checkpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Dies while the second epoch's state is being written, after the second epoch's best weights were."""
    write, calls = pl.Trainer.save_checkpoint, iter(range(1, 10_000))

    def torn(self: pl.Trainer, path: Any, *rest: Any, **options: Any) -> None:
        write(self, path, *rest, **options)
        if next(calls) == 2:
            data = Path(path).read_bytes()
            Path(path).write_bytes(data[: len(data) // 2])
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(pl.Trainer, "save_checkpoint", torn)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """History and weights by selection."""
    torch.set_num_threads(1)
    results = {}
    for selection in ("last", "val"):
        net = make_net(dropout=0)
        history = run(net, make_data(), tmp_path_factory.mktemp(selection), selection=selection)
        results[selection] = (history, copy.deepcopy(net.state_dict()))
    return results


@pytest.mark.parametrize("selection", ["last", "val"])
@pytest.mark.parametrize("call", [1, 4, 5, 6, 8, 10, 13, 15])
def test_a_fit_goes_on_as_if_nothing_had_happened(call: int, selection: str, undisturbed: Any, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(make_net(dropout=0), make_data(), tmp_path, selection=selection, loss=loss_that_stops(call))
    assert (tmp_path / "last.ckpt").exists() == (call > 5)
    torch.manual_seed(1234)
    net = make_net(seed=99, dropout=0)  # whatever it starts from: the state comes from the folder
    if call <= 5:
        net.load_state_dict(make_net().state_dict())
    history = run(net, make_data(), tmp_path, selection=selection)
    assert history == undisturbed[selection][0]
    assert same(net.state_dict(), undisturbed[selection][1])


@pytest.mark.parametrize("call", [3, 6, 8, 10, 12])
def test_dropout_draws_in_a_resumed_epoch_as_in_an_undisturbed_one(call: int, tmp_path: Path) -> None:
    whole = make_net(dropout=0.5)
    expected = run(whole, make_data(), tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(make_net(dropout=0.5), make_data(), tmp_path / "torn", loss=loss_that_stops(call))
    torch.manual_seed(1234)
    net = make_net(dropout=0.5)
    assert run(net, make_data(), tmp_path / "torn") == expected
    assert same(net.state_dict(), whole.state_dict())


@pytest.mark.parametrize("selection", ["last", "val"])
def test_a_torn_checkpoint_is_no_checkpoint(
    selection: str, undisturbed: Any, tmp_path: Path, torn_checkpoint: None
) -> None:
    with pytest.raises(Interrupted):
        run(make_net(dropout=0), make_data(), tmp_path, selection=selection)
    net = make_net(seed=99, dropout=0)
    assert run(net, make_data(), tmp_path, selection=selection) == undisturbed[selection][0]
    assert same(net.state_dict(), undisturbed[selection][1])


def test_three_interruptions_in_a_row(undisturbed: Any, tmp_path: Path) -> None:
    for call in (7, 3, 8):  # in the second epoch, in it again, in the third
        with pytest.raises(Interrupted):
            run(make_net(dropout=0), make_data(), tmp_path, loss=loss_that_stops(call))
    net = make_net(dropout=0)
    assert run(net, make_data(), tmp_path) == undisturbed["last"][0]
    assert same(net.state_dict(), undisturbed["last"][1])


@pytest.mark.parametrize("selection", ["last", "val"])
def test_a_finished_fit_is_not_repeated(selection: str, undisturbed: Any, tmp_path: Path, seen: Any) -> None:
    run(make_net(dropout=0), make_data(), tmp_path, selection=selection)
    seen.clear()
    net = make_net(seed=99)
    assert run(net, make_data(), tmp_path, selection=selection) == undisturbed[selection][0]
    assert same(net.state_dict(), undisturbed[selection][1])
    assert not seen


def test_an_interrupted_fit_frees_the_machine(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(make_net(), make_data(), tmp_path, loss=loss_that_stops(2))
    with machine_alone():
        pass


def test_ctrl_c_is_passed_on(tmp_path: Path) -> None:
    calls = iter(range(100))

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        if next(calls) == 6:
            raise KeyboardInterrupt
        return F.cross_entropy(logits, labels)

    with pytest.raises(KeyboardInterrupt):
        run(make_net(), make_data(), tmp_path, loss=loss)
    with machine_alone():
        pass
    torch.load(tmp_path / "last.ckpt", weights_only=True)


def test_checkpoints_hold_plain_values(tmp_path: Path) -> None:
    run(make_net(), make_data(), tmp_path, epochs=2)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert {key for key in state["state_dict"] if key.startswith("net.")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.safetensors", "early.safetensors", "last.ckpt"]


# ------------------------------------------------------------------------------------------ NaN


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_fit(bad: float, tmp_path: Path) -> None:
    calls = iter(range(1, 100))

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        value = F.cross_entropy(logits, labels)
        return value * bad if next(calls) == 13 else value  # two epochs take ten calls

    with pytest.raises(RsPruneError, match=rf"loss became {bad} in epoch 3.*optimizer\.lr") as refusal:
        run(make_net(), make_data(), tmp_path, epochs=4, loss=loss)
    assert "\n" not in str(refusal.value)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert state["epoch"] == 1
    weights = {key.removeprefix("net."): v for key, v in state["state_dict"].items() if key.startswith("net.")}
    best = load_file(tmp_path / "best.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert set(best) == set(weights)
    assert all(torch.equal(best[key], weights[key]) for key in best)
    make_net().load_state_dict(best, strict=True)
    with machine_alone():
        pass


# ------------------------------------------------------------------------------------ selection


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The net's state at the end of every epoch."""
    states: list[dict[str, Tensor]] = []
    end = Checkpoint.on_train_epoch_end

    def note(self: Checkpoint, trainer: Any, pl_module: Any) -> None:
        states.append(copy.deepcopy(pl_module.net.state_dict()))
        end(self, trainer, pl_module)

    monkeypatch.setattr(Checkpoint, "on_train_epoch_end", note)
    return states


def loss_that_turns(call: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Learns, then unlearns."""
    calls = iter(range(10_000))
    return lambda logits, labels: F.cross_entropy(logits, labels) * (1 if next(calls) < call else -1)


@pytest.mark.parametrize("selection", ["val", "last"])
def test_the_selected_epoch_is_kept(selection: str, kept: Any, tmp_path: Path) -> None:
    data, net = make_data(), make_net(dropout=0.0)
    history = run(
        net, data, tmp_path, epochs=6, selection=selection, loss=loss_that_turns(15),
        optimizer=partial(torch.optim.SGD, lr=1.0),
    )  # fmt: skip
    accuracies = [row["val_accuracy"] for row in history]
    best = accuracies.index(max(accuracies))
    assert best < 5
    assert accuracies[-1] < max(accuracies) - 0.2
    epoch = best if selection == "val" else 5
    assert same(net.state_dict(), kept[epoch])
    assert not same(kept[best], kept[5])
    assert evaluate(net, data, "val")[0] == pytest.approx(accuracies[epoch])


def test_of_equal_epochs_the_earlier_is_kept(kept: Any, tmp_path: Path) -> None:
    net = make_net(dropout=0.0)
    data = make_data(val=1)
    history = run(net, data, tmp_path, epochs=4, selection="val", optimizer=partial(torch.optim.SGD, lr=1e-5))
    assert len({row["val_accuracy"] for row in history}) == 1
    assert same(net.state_dict(), kept[0])
    assert not same(kept[0], kept[3])


@pytest.mark.parametrize(  # an epoch has four steps; the last epoch may be selected in any case
    ("settled", "lag", "first"), [(0, 0, 0), (2, 0, 2), (3, 0, 3), (4, 0, 3), (1, 4, 2), (1, 5, 3), (1, 90, 3)]
)
def test_epochs_in_which_a_callback_shapes_the_net_are_not_selected(
    settled: int, lag: int, first: int, kept: Any, tmp_path: Path
) -> None:
    class Shaping(pl.Callback):
        def __init__(self) -> None:
            self.settled = settled
            self.lag = lag
            self.starts: list[int] = []

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self.starts.append(trainer.current_epoch)

    shaping, net = Shaping(), make_net(dropout=0.0)
    history = run(
        net, make_data(), tmp_path, epochs=4, selection="val", loss=loss_that_turns(3), callbacks=[shaping],
        optimizer=partial(torch.optim.SGD, lr=1.0),
    )  # fmt: skip
    assert shaping.starts == [0, 1, 2, 3]
    accuracies = [row["val_accuracy"] for row in history]
    best = max(range(first, 4), key=lambda epoch: (accuracies[epoch], -epoch))
    assert same(net.state_dict(), kept[best])
    assert settled == 0 or accuracies[0] > max(accuracies[first:])  # it would have been the first


@pytest.mark.parametrize(("epochs", "early"), [(1, 1), (3, 1), (19, 1), (20, 2)])
def test_the_weights_after_the_first_tenth_are_kept(epochs: int, early: int, kept: Any, tmp_path: Path) -> None:
    run(make_net(), make_data(train=9, val=3), tmp_path, epochs=epochs)
    found = load_file(tmp_path / EARLY)
    assert same(dict(sorted(found.items())), dict(sorted(kept[early - 1].items())))


def test_early_weights_are_there_after_an_interruption(undisturbed: Any, kept: Any, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(make_net(dropout=0), make_data(), tmp_path, loss=loss_that_stops(7))
    run(make_net(dropout=0), make_data(), tmp_path)
    assert same(dict(sorted(load_file(tmp_path / EARLY).items())), dict(sorted(kept[0].items())))


def test_a_teacher_teaches_and_learns_nothing(tmp_path: Path) -> None:
    taught: list[Tensor] = []

    class Distil:
        teacher = True

        def __call__(self, logits: Tensor, labels: Tensor, theirs: Tensor) -> Tensor:
            taught.append(theirs)
            return F.mse_loss(logits, theirs)

    teacher, net = make_net(seed=5).eval(), make_net()
    before = copy.deepcopy(teacher.state_dict())
    history = run(net, make_data(), tmp_path, loss=Distil(), teacher=teacher)
    assert same(teacher.state_dict(), before)
    assert all(not logits.requires_grad for logits in taught)
    assert history[-1]["loss"] < history[0]["loss"]
    assert set(load_file(tmp_path / "best.safetensors")) == set(net.state_dict())


# --------------------------------------------------------------------------------- measurements


@pytest.mark.parametrize("part", ["val", "test"])
@torch.no_grad()
def test_evaluate_counts(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datamodule, "EVAL_BATCH", 7)  # 24 = 7 + 7 + 7 + 3: a mean of batches would differ
    data, net = make_data(), make_net()
    net[1].running_mean.normal_(generator=torch.Generator().manual_seed(0))
    net[6].weight *= 20
    index = list(getattr(data.parts, part))
    guesses = net.eval()(normalised(data, index)).argmax(1).tolist()
    labels = [data.scenes.labels[i] for i in index]
    right = [guess == label for guess, label in zip(guesses, labels, strict=True)]
    assert 0 < sum(right) < 24
    net.train()
    accuracy, per_class = evaluate(net, data, part)
    assert accuracy == pytest.approx(sum(right) / 24)
    assert list(per_class) == list(CLASSES)
    for number, name in enumerate(CLASSES):
        mine = [hit for hit, label in zip(right, labels, strict=True) if label == number]
        assert per_class[name] == pytest.approx(sum(mine) / len(mine))


@torch.no_grad()
def test_a_class_without_images_counts_as_zero() -> None:
    data = make_data(test=1)
    accuracy, per_class = evaluate(make_net(), data, "test")
    assert accuracy in (0.0, 1.0)
    assert sum(per_class.values()) == accuracy


@pytest.mark.parametrize("images", [60, 40])
@torch.no_grad()
def test_recalibrate_by_hand(images: int) -> None:
    data, net = make_data(), make_net()
    net[1].running_mean.fill_(9)
    net[1].momentum = 0.37
    before = copy.deepcopy(net.state_dict())
    assert recalibrate(net, data, images) is net
    index = torch.cat([batch["index"] for batch in data.batches("train", limit=images)])
    assert len(index) == images
    out = net[0](normalised(data, index)).transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(net[1].running_mean, out.mean(1).float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(net[1].running_var, out.var(1).float(), atol=1e-5, rtol=1e-5)
    assert net[1].momentum == 0.37
    assert not any(module.training for module in net.modules())
    for name, value in net.state_dict().items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(value, before[name])
    again = recalibrate(make_net(), data, images)  # does not depend on what the statistics were
    assert torch.equal(again[1].running_mean, net[1].running_mean)


@pytest.mark.parametrize("images", [258, 300, 512, 600])
@torch.no_grad()
def test_recalibrate_weighs_every_image_alike(images: int) -> None:
    """Whatever is left for the last batch."""
    data, net = make_data(train=600), make_net()
    index = torch.cat([batch["index"] for batch in data.batches("train", limit=images)])
    out = net[0](normalised(data, index)).transpose(0, 1).flatten(1).double()
    recalibrate(net, data, images)
    torch.testing.assert_close(net[1].running_mean, out.mean(1).float(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(net[1].running_var, out.var(1).float(), atol=1e-3, rtol=1e-2)


@torch.no_grad()
def test_recalibrate_reaches_every_norm() -> None:
    data = make_data()
    net = nn.Sequential(make_net(dropout=0.5)[:4], nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4, momentum=0.2))
    recalibrate(net, data, 60)
    x = normalised(data, data.parts.train)
    hidden = net[0][0](x)
    hidden = torch.relu(F.batch_norm(hidden, None, None, net[0][1].weight, net[0][1].bias, training=True))
    out = net[1](hidden).transpose(0, 1).flatten(1)  # dropout is off, only the norms see batches
    torch.testing.assert_close(net[2].running_mean, out.mean(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(net[2].running_var, out.var(1), atol=1e-5, rtol=1e-4)


def test_a_net_in_evaluation_mode_is_trained_like_any_other(tmp_path: Path) -> None:
    """Lightning keeps the mode it is given: batch norms would stay frozen after a measurement."""
    data = make_data()
    first = make_net()
    second = copy.deepcopy(first).eval()
    histories = [run(net, data, tmp_path / name) for net, name in ((first, "train"), (second, "eval"))]
    assert histories[0] == histories[1]
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(
    ("capability", "machine", "precision", "warned"),
    [
        ("AVX2", "x86_64", "bf16-mixed", True),
        ("DEFAULT", "AMD64", "bf16-mixed", True),
        ("AVX512", "x86_64", "bf16-mixed", False),
        ("AVX2", "x86_64", "32-true", False),
        ("DEFAULT", "arm64", "bf16-mixed", False),
    ],
)
def test_emulated_bf16_is_told_once(capability, machine, precision, warned, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr("platform.machine", lambda: machine)
    _warn_of_emulation.cache_clear()
    for folder in ("one", "two"):
        run(make_net(), make_data(), tmp_path / folder, 1, trainer={"accelerator": "cpu", "precision": precision})
    told = [line for line in caplog.messages if f"trainer.precision={precision}: this CPU lacks AVX-512" in line]
    assert len(told) == warned
    _warn_of_emulation.cache_clear()
