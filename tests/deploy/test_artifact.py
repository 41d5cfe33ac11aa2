"""Pruned nets on disk: the same net comes back, or one line says which file is wrong."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from rs_prune.budget.macs import MACs
from rs_prune.contracts import Cost, Evidence, Plan, RemoveBlock, RemoveChannels
from rs_prune.criterion.random import Random
from rs_prune.deploy import artifact
from rs_prune.deploy.artifact import CARD, WEIGHTS, compressed_mb, load_net, save_net, save_weights, size_mb
from rs_prune.errors import RsPruneError
from rs_prune.model.timm_net import TimmNet
from rs_prune.pruning.cost import CostModel
from rs_prune.pruning.graph import trace
from rs_prune.pruning.masking import bake, hold, pack
from rs_prune.pruning.planner import WINDOW, plan_channels
from rs_prune.pruning.surgery import remove
from rs_prune.scope.local import Local

BANDS, CLASSES, SIZE = ["a", "b", "c", "d"], ["x", "y", "z"], [32, 32]
EXAMPLE = torch.zeros(1, 4, 32, 32)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def cut(net: nn.Module, keep: float, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    graph = trace(net, EXAMPLE)
    cost = CostModel(net, graph.groups, EXAMPLE)
    dense = cost.dense().macs
    plan = plan_channels(
        scores=Random()(Evidence(layers={}, seed=seed), graph.groups),
        groups=graph.groups,
        cost=cost,
        scope=Local(),
        budget=MACs(keep=keep),
        target=keep * dense,
        tolerance=WINDOW * dense,
        min_channels=2,
        round_to=1,
    )
    return remove(net, plan, graph.groups), plan.as_json()


@pytest.fixture(scope="module")
def pruned() -> tuple[nn.Module, dict[str, Any]]:
    """A net that was cut twice, with its card."""
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = TimmNet(name="test_resnet", kwargs={"drop_rate": 0.1})(len(CLASSES), len(BANDS))
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.running_mean)
                module.num_batches_tracked += 3
    first, one = cut(net, 0.7, 1)
    second, two = cut(first, 0.6, 2)
    card = {
        "model": {"name": "test_resnet", "kwargs": {"drop_rate": 0.1}},
        "classes": CLASSES, "bands": BANDS, "size": SIZE, "scale": 1.0, "mean": [0.0] * 4, "std": [1.0] * 4,
        "plans": [one, two],
    }  # fmt: skip
    return second.to(memory_format=torch.channels_last).eval(), card


@pytest.fixture
def folder(pruned: Any, tmp_path: Path) -> Path:
    save_net(pruned[0], tmp_path / "deep" / "net", pruned[1])
    return tmp_path / "deep" / "net"


def forbid(*_: Any, **__: Any) -> Any:
    raise AssertionError("something was unpickled")


@torch.no_grad()
def test_a_net_comes_back_bit_for_bit(pruned: Any, folder: Path) -> None:
    net, card = pruned
    back = load_net(folder)
    images = torch.randn(5, 4, 32, 32).contiguous(memory_format=torch.channels_last)
    assert torch.equal(back(images), net(images))
    state = net.state_dict()
    assert list(back.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in back.state_dict().items())
    assert not any(module.training for module in back.modules())
    assert back.conv1[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(load_net(str(folder))(images), net(images))
    assert sorted(path.name for path in folder.iterdir()) == sorted([CARD, WEIGHTS])
    assert json.loads((folder / CARD).read_text()) == json.loads(json.dumps(card))


def test_nothing_is_unpickled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (pickle, "_Unpickler"),
        (torch, "load"), (torch.serialization, "load"), (torch.serialization, "_load"),
        (torch.serialization, "_legacy_load"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, forbid)
    load_net(folder)


def test_a_pickle_in_place_of_the_weights_is_refused_unread(folder: Path) -> None:
    fired = folder / "fired"

    class Payload:
        def __reduce__(self) -> Any:
            return Path.touch, (fired,)

    (folder / WEIGHTS).write_bytes(pickle.dumps(Payload()))
    with pytest.raises(RsPruneError, match=WEIGHTS):
        load_net(folder)
    torch.save({"fc.weight": torch.zeros(2)}, folder / WEIGHTS)
    with pytest.raises(RsPruneError, match=WEIGHTS):
        load_net(folder)
    assert not fired.exists()


def refused(folder: Path, name: str) -> None:
    with pytest.raises(RsPruneError) as refusal:
        load_net(folder)
    assert str(folder / name) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    refused(folder, name)
    with pytest.raises(RsPruneError, match="nowhere"):
        load_net(folder / "nowhere")


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "a byte too long": lambda data: data + b"\0",
    "header cut": lambda data: data[:40],
    "a wild length": lambda data: b"\xff" * 8 + data[8:],
    "noise": lambda data: bytes(255 - byte for byte in data[:2000]),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_weights_are_named(damage: Callable[[bytes], bytes], folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(damage((folder / WEIGHTS).read_bytes()))
    refused(folder, WEIGHTS)


@pytest.mark.parametrize(
    "text",
    ["", "{", '"a word"', "[]", "{}", "null", '{"model": 3}', "\udcff"],
    ids=["empty", "torn", "word", "list", "object", "null", "number", "no text"],
)
def test_a_damaged_card_is_named(text: str, folder: Path) -> None:
    (folder / CARD).write_bytes(text.encode(errors="surrogateescape"))
    refused(folder, CARD)


FOREIGN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "other net, other layers": lambda card: card["model"].update(name="mobilenetv3_small_100", kwargs={}),
    "same layers, other widths": lambda card: card["model"].update(name="resnet18", kwargs={}),
    "no such net": lambda card: card["model"].update(name="resnet_of_mine"),
    "arguments that the net refuses": lambda card: card["model"].update(kwargs={"no_such": 1}),
    "a class more": lambda card: card.update(classes=[*CLASSES, "w"]),
    "a band less": lambda card: card.update(bands=BANDS[:3]),
    "a plan less": lambda card: card["plans"].pop(),
    "no plan": lambda card: card.update(plans=[]),
    "a group that is not there": lambda card: card["plans"][0]["edits"][0].update(group="stem.conv9"),
    "a channel that is not there": lambda card: card["plans"][0]["edits"][0].update(channels=[10_000]),
    "one channel more": lambda card: card["plans"][1]["edits"][0]["channels"].pop(),
    "plans that are none": lambda card: card.update(plans=[{"edits": None}]),
    "a plan that is a word": lambda card: card.update(plans=["half"]),
    "channels that are words": lambda card: card["plans"][0]["edits"][0].update(channels=["a"]),
    "a size that is none": lambda card: card.update(size=None),
    "no sizes": lambda card: card.pop("size"),
    "no classes": lambda card: card.pop("classes"),
    "a name that is a number": lambda card: card["model"].update(name=18),
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN.keys())
def test_the_card_of_another_net_is_refused_naming_a_file(
    change: Callable[[dict[str, Any]], Any], folder: Path
) -> None:
    card = json.loads((folder / CARD).read_text())
    change(card)
    (folder / CARD).write_text(json.dumps(card))
    with pytest.raises(RsPruneError) as refusal:
        load_net(folder)
    assert str(folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_weights_of_another_net_are_refused(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    save_weights(TimmNet(name="test_resnet")(len(CLASSES), len(BANDS)), folder / WEIGHTS)
    refused(folder, WEIGHTS)
    artifact.save_file({**state, "one.more": torch.zeros(1)}, folder / WEIGHTS)
    refused(folder, WEIGHTS)
    artifact.save_file({name: value for name, value in state.items() if name != "fc.bias"}, folder / WEIGHTS)
    refused(folder, WEIGHTS)
    artifact.save_file(state, folder / WEIGHTS)
    load_net(folder)


def test_weights_appear_whole_or_not_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / WEIGHTS).read_bytes()

    def torn(state: Any, path: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(artifact, "save_file", torn)
    with pytest.raises(OSError, match="disk full"):
        save_weights(nn.Linear(2, 2), folder / WEIGHTS)
    assert (folder / WEIGHTS).read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == sorted([CARD, WEIGHTS])


def test_size_counts_every_stored_value(pruned: Any, folder: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert size_mb(net) == ((3 * 2 + 2 + 4 * 2) * 4 + 8) / 1e6
    on_disk = (folder / WEIGHTS).stat().st_size / 1e6
    assert 0 < on_disk - size_mb(pruned[0]) < 0.02


# ------------------------------------------------------------------------- masks and blocks


def describe(plans: list[Plan]) -> dict[str, Any]:
    return {
        "model": {"name": "test_resnet", "kwargs": {}},
        "classes": CLASSES, "bands": BANDS, "size": SIZE, "scale": 1.0, "mean": [0.0] * 4, "std": [1.0] * 4,
        "plans": [plan.as_json() for plan in plans],
    }  # fmt: skip


@pytest.fixture
def masked(tmp_path: Path) -> tuple[nn.Module, Path]:
    """A net whose weights were held at zero in two rounds: the fc layer in the first, layer1.0.conv1 in both."""
    torch.manual_seed(1)
    net = TimmNet(name="test_resnet")(len(CLASSES), len(BANDS))
    graph = trace(net, EXAMPLE)
    first = torch.rand(32, 32, 3, 3) > 0.5
    second = first & (torch.rand(32, 32, 3, 3) > 0.5)
    nothing = Cost(macs=0, params=0, channels=0)
    plans = [
        Plan((pack("fc", torch.rand(3, 96) > 0.9), pack("layer1.0.conv1", first)), nothing),
        Plan((pack("layer1.0.conv1", second),), nothing),
    ]
    for plan in plans:
        net = hold(net, plan, graph)
    net = bake(net).to(memory_format=torch.channels_last).eval()
    assert torch.equal(net.layer1[0].conv1.weight != 0, second)
    save_net(net, tmp_path / "masked", describe(plans))
    return net, tmp_path / "masked"


@torch.no_grad()
def test_a_masked_net_comes_back_bit_for_bit(masked: tuple[nn.Module, Path]) -> None:
    net, folder = masked
    back = load_net(folder)
    images = torch.randn(5, 4, 32, 32).contiguous(memory_format=torch.channels_last)
    assert torch.equal(back(images), net(images))
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in back.state_dict().items())
    assert (folder / CARD).stat().st_size < 6000  # 9504 weights' masks, twice


def test_weights_that_a_plan_took_out_are_refused(masked: tuple[nn.Module, Path]) -> None:
    net, folder = masked
    with torch.no_grad():
        net.fc.weight.fill_(1.0)
    save_weights(net, folder / WEIGHTS)
    with pytest.raises(RsPruneError, match=r"net\.json: .*layer fc holds weights that the plan has taken out"):
        load_net(folder)


MASKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a layer that is not there": lambda edit: edit.update(layer="layer9.conv1"),
    "a shape that is another": lambda edit: edit.update(shape=[3, 4]),
    "a shape that is a word": lambda edit: edit.update(shape="ab"),
    "no shape": lambda edit: edit.pop("shape"),
    "a mask that is torn": lambda edit: edit.update(kept=edit["kept"][:-8]),
    "a mask that is a word": lambda edit: edit.update(kept="half"),
    "a mask that is none": lambda edit: edit.update(kept=None),
}


@pytest.mark.parametrize("change", MASKS.values(), ids=MASKS.keys())
def test_a_damaged_mask_is_refused_naming_a_file(
    change: Callable[[dict[str, Any]], Any], masked: tuple[nn.Module, Path]
) -> None:
    card = json.loads((masked[1] / CARD).read_text())
    change(card["plans"][0]["edits"][0])
    (masked[1] / CARD).write_text(json.dumps(card))
    refused(masked[1], CARD)


@torch.no_grad()
def test_a_net_without_blocks_comes_back_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(2)
    net = TimmNet(name="test_resnet")(len(CLASSES), len(BANDS))
    edits = (RemoveBlock("layer1.0"), RemoveChannels("layer2.0.conv1", (0, 7)), RemoveChannels("conv1.6", (3,)))
    plan = Plan(edits, Cost(macs=0, params=0, channels=0))
    small = remove(net, plan, trace(net, EXAMPLE).groups).to(memory_format=torch.channels_last).eval()
    assert isinstance(small.layer1[0], nn.Identity)
    save_net(small, tmp_path / "net", describe([plan]))
    back = load_net(tmp_path / "net")
    images = torch.randn(5, 4, 32, 32).contiguous(memory_format=torch.channels_last)
    assert torch.equal(back(images), small(images))
    card = json.loads((tmp_path / "net" / CARD).read_text())
    card["plans"][0]["edits"][0]["block"] = "layer1.7"
    (tmp_path / "net" / CARD).write_text(json.dumps(card))
    refused(tmp_path / "net", CARD)


def test_zeros_take_a_bit() -> None:
    net = nn.Linear(10, 8, bias=True)
    nn.init.ones_(net.weight)
    nn.init.ones_(net.bias)
    assert compressed_mb(net) == size_mb(net) == (80 + 8) * 4 / 1e6
    with torch.no_grad():
        net.weight[:, 3:] = 0  # 24 of 80 are left
        net.bias[0] = 0
    assert compressed_mb(net) == ((80 // 8 + 24 * 4) + (1 + 7 * 4)) / 1e6
    assert size_mb(net) == (80 + 8) * 4 / 1e6
