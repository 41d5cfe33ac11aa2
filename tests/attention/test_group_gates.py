"""Gates that a coupled group shares, and the two ways to train them to the budget."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from fakes import TINY_RUN
from torch import nn

from rs_prune.attention.budgeted import Budgeted
from rs_prune.attention.hard_concrete import HardConcrete
from rs_prune.contracts import Place, RemoveChannels
from rs_prune.errors import RsPruneError
from rs_prune.pruning.cost import CostModel
from rs_prune.pruning.gate import attach, detach, gates, observe
from rs_prune.pruning.graph import Graph, trace
from rs_prune.pruning.group_gate import FadingSE, PlaceGate, group_gates
from rs_prune.pruning.surgery import remove
from rs_prune.training.dual import DualAscent, HardConcreteGate
from rs_prune.training.price import CLOSED, CloseByPrice, PricedGate

EXAMPLE = torch.zeros(1, 3, 32, 32)
Made = tuple[nn.Module, Graph, CostModel]


def made(attention: Any, name: str = "test_resnet") -> Made:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.create_model(name, num_classes=4)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):  # timm starts some of them at zero
                nn.init.normal_(module.weight)
        graph = trace(net, EXAMPLE)
        cost = CostModel(net, graph.groups, EXAMPLE, graph.hidden)
        attach(net, graph.places(shortcuts=True), attention)
    return net.eval(), graph, cost


def close_some(net: nn.Module) -> tuple[RemoveChannels, ...]:
    """Closes every third gate of every group but the first two; says which."""
    edits = []
    for name, shared in group_gates(net).items():
        assert isinstance(shared, PricedGate)
        gone = tuple(range(2, len(shared.gate), 3))
        with torch.no_grad():
            shared.gate[list(gone)] = 0
        edits.append(RemoveChannels(name, gone))
    return tuple(edits)


def images(count: int = 4, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------ shared gates


def test_every_norm_of_a_group_has_the_same_gates() -> None:
    net, graph, _ = made(Budgeted(keep=0.5))
    shared = group_gates(net)
    assert set(shared) == {group.name for group in graph.groups}
    assert max(len(group.members) for group in graph.groups) > 1
    for group in graph.groups:
        for member in group.members:
            gated = dict(gates(net))[graph.norms[member.layer]]
            assert isinstance(gated.branch, PlaceGate)
            assert gated.branch.shared is shared[group.name]
    assert sum("gate" in name.split(".")[-1] for name, _ in net.named_parameters()) == len(graph.groups)


def test_a_copy_has_gates_of_its_own() -> None:
    net, _, _ = made(Budgeted(keep=0.5))
    twin = copy.deepcopy(net)
    own = set(group_gates(twin).values())
    assert not own & set(group_gates(net).values())
    for _, gated in gates(twin):
        assert isinstance(gated.branch, PlaceGate)
        assert gated.branch.shared in own


@pytest.mark.parametrize("name", ["test_resnet", "resnext26ts"])
def test_a_closed_gate_removes_exactly(name: str) -> None:
    """Also where channels go in bundles: the grouped convolutions of the second net."""
    net, graph, _ = made(Budgeted(keep=0.5), name)
    plan = SimpleNamespace(edits=close_some(net))
    observe(net, [{"image": images()}])
    with torch.no_grad():
        gated = net(images(seed=2))
        flat = detach(net)(images(seed=2))
        small = remove(net, plan, graph.all)  # type: ignore[arg-type]
        torch.testing.assert_close(flat, gated, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(small(images(seed=2)), gated, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(detach(small)(images(seed=2)), gated, rtol=1e-4, atol=1e-4)
    for shared in group_gates(small).values():
        assert isinstance(shared, PricedGate)
        assert len(shared.open) == len(shared.effect) == len(shared.gate)
        assert shared.values().min() == 1


def test_gates_of_bundles_are_one_value_per_bundle() -> None:
    place = Place("norm", (0, 0, 1, 1, 2, 2), "group", "conv")
    shared = PricedGate(place)
    branch = PlaceGate(place, shared, owner=True)
    with torch.no_grad():
        shared.gate.copy_(torch.tensor([0.5, 0.0, 1.0]))
    found = branch.gates(torch.zeros(2, 6, 4, 4))
    assert found.shape == (2, 6, 1, 1)
    assert found[1].flatten().tolist() == [0.5, 0.5, 0, 0, 1, 1]
    branch.keep(torch.tensor([0, 1, 4, 5]))
    assert branch.gates(torch.zeros(1, 4, 4, 4)).flatten().tolist() == [0.5, 0.5, 1, 1]
    assert shared.gate.tolist() == [0.5, 1.0]


def test_factors_fade_to_a_constant_that_folds_exactly() -> None:
    net, _, _ = made(Budgeted(keep=0.5, image=True))
    factors = [module for module in net.modules() if isinstance(module, FadingSE)]
    assert len(factors) == len(list(gates(net)))
    for factor in factors:
        nn.init.normal_(factor.mlp.excite.bias)
    net.train()
    net(images(16))
    net.eval()
    assert all((factor.usual != 1).all() for factor in factors)
    observe(net, [{"image": images()}])
    with torch.no_grad():
        assert not torch.allclose(detach(net)(images(seed=2)), net(images(seed=2)), atol=1e-3)
        for factor in factors:
            factor.fade.zero_()
        observe(net, [{"image": images()}])
        torch.testing.assert_close(detach(net)(images(seed=2)), net(images(seed=2)), rtol=1e-4, atol=1e-4)


def test_a_fading_factor_by_hand() -> None:
    factor = FadingSE(2).eval()
    for parameter in factor.parameters():
        nn.init.zeros_(parameter)
    factor.usual.copy_(torch.tensor([0.5, 2.0]))
    factor.fade.fill_(0.25)  # the factor for any image is 2 * sigmoid(0) = 1
    assert factor(torch.ones(1, 2, 3, 3)).flatten().tolist() == [0.625, 1.75]
    factor.train()
    factor(torch.ones(1, 2, 3, 3))
    torch.testing.assert_close(factor.usual, torch.tensor([0.51, 1.98]))


# ------------------------------------------------------------------------------- closing by price


def closer(cost: CostModel, **options: Any) -> CloseByPrice:
    words = {"keep": 0.2, "start": 0.1, "end": 0.6, "floor": 0.0, "every": 1, "memory": 0.5, "speed": 0.5, "epochs": 10}
    return CloseByPrice(cost, **(words | options))


def test_the_share_allowed_falls_as_a_cubic() -> None:
    price = closer(made(Budgeted(keep=0.5))[2])
    assert [round(price.allowed(at), 6) for at in (0, 0.1, 0.35, 0.6, 1)] == [1, 1, 0.3, 0.2, 0.2]
    assert price.settled == 6
    assert closer(price.cost, end=0.55).settled == 6


@pytest.mark.parametrize(("speed", "every"), [(0.5, 1), (0.1, 5), (1.0, 3)])
def test_the_last_gates_to_close_are_closed_after_the_lag(speed: float, every: int) -> None:
    price = closer(made(Budgeted(keep=0.5))[2], speed=speed, every=every)
    gate = torch.ones(1)
    for _ in range(price.lag - every):
        assert gate >= CLOSED
        gate.lerp_(torch.zeros(1), speed)
    assert gate < CLOSED


def priced(net: nn.Module) -> dict[str, PricedGate]:
    return {name: shared for name, shared in group_gates(net).items() if isinstance(shared, PricedGate)}


def test_the_cheapest_effect_per_saved_mac_closes_first() -> None:
    net, _, cost = made(Budgeted(keep=0.5))
    found = priced(net)
    saved = cost.saved()
    for name, shared in found.items():
        shared.effect.copy_(torch.arange(1.0, len(shared.gate) + 1) * saved[name] * 1e-6)  # prices 1, 2, 3, … in all
    closer(cost).close(found, 0.6)
    assert 0.5 < cost.predict(kept(cost, found)).macs / cost.dense().macs <= 0.6
    closed = {name: int((shared.open == 0).sum()) for name, shared in found.items()}
    assert max(closed.values()) - min(closed.values()) <= 1  # at one price the same number closes everywhere
    for name, shared in found.items():
        assert shared.open.tolist() == [0.0] * closed[name] + [1.0] * (len(shared.open) - closed[name])


def kept(cost: CostModel, found: dict[str, PricedGate]) -> Any:
    counts = cost.channels.copy()
    for column, name in enumerate(cost.names):
        if name in found:
            counts[column] = int(found[name].open.sum())
    return counts


def test_as_few_close_as_the_limit_asks_for_and_the_floor_holds() -> None:
    net, _, cost = made(Budgeted(keep=0.5))
    found = priced(net)
    for shared in found.values():
        shared.effect.uniform_(1, 2)
    price = closer(cost, floor=0.5, keep=0.5)
    price.close(found, 1.0)
    assert all(shared.open.all() for shared in found.values())
    price.close(found, 0.5)
    assert cost.predict(kept(cost, found)).macs <= 0.5 * cost.dense().macs
    price.close(found, 0.01)  # cannot be met: all stop at the floor
    assert all(int(shared.open.sum()) == -(-len(shared.open) // 2) for shared in found.values())


def step(price: CloseByPrice, net: nn.Module, number: int, of: int = 10) -> None:
    trainer = SimpleNamespace(global_step=number, estimated_stepping_batches=of)
    price.on_after_backward(trainer, SimpleNamespace(net=net))  # type: ignore[arg-type]


def test_effects_are_running_means_of_squared_gradients_and_the_optimiser_is_kept_away() -> None:
    net, _, cost = made(Budgeted(keep=0.5))
    shared = next(iter(priced(net).values()))
    for value in (2.0, 3.0):
        for each in priced(net).values():
            each.gate.grad = torch.full_like(each.gate, value)
        step(closer(cost, every=100), net, 1)
    assert shared.effect.tolist() == [0.5 * 0.5 * 4 + 0.5 * 9] * len(shared.effect)
    assert all(each.gate.grad is None for each in priced(net).values())


def test_a_closing_gate_goes_to_zero_and_an_open_one_stays() -> None:
    net, _, cost = made(Budgeted(keep=0.5))
    for each in priced(net).values():
        each.effect.uniform_(1, 2)
    for number in range(10):
        for each in priced(net).values():
            each.gate.grad = torch.zeros_like(each.gate)
        step(closer(cost, memory=1.0), net, number)
        if number == 2:
            assert any(((each.gate > 0) & (each.gate < 1)).any() for each in priced(net).values())
    for _ in range(8):
        for each in priced(net).values():
            each.gate.grad = torch.zeros_like(each.gate)
        step(closer(cost, memory=1.0), net, 9)
    assert all(torch.equal(each.gate.detach(), each.open) for each in priced(net).values())
    assert cost.predict(kept(cost, priced(net))).macs <= 0.2 * cost.dense().macs


# -------------------------------------------------------------------------------- hard concrete


def test_hard_concrete_gates_by_hand() -> None:
    shared = HardConcreteGate(Place("norm", (0, 1, 2), "group", "conv"), 0.0)
    with torch.no_grad():
        shared.gate.copy_(torch.tensor([-6.0, 0.0, 6.0]))
    shared.eval()
    assert shared.values().tolist() == [0.0, 0.5, 1.0]
    shared.train()
    shared.noise = torch.tensor([0.0, 2 / 3, 0.0])  # sigmoid(1) * 1.2 - 0.1
    torch.testing.assert_close(shared.values()[1], torch.sigmoid(torch.tensor(1.0)) * 1.2 - 0.1)
    draws = torch.logit(torch.rand(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    with torch.no_grad():
        shared.gate.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    for logit, probability in zip(shared.gate.tolist(), shared.probability().tolist(), strict=True):
        opened = torch.sigmoid((draws + logit) / (2 / 3)) * 1.2 - 0.1 > 0
        assert abs(float(opened.double().mean()) - probability) < 0.005


def test_the_expected_share_is_that_of_the_cost_model_and_the_multiplier_follows_it() -> None:
    net, _, cost = made(HardConcrete(keep=0.2))
    dual = HardConcrete(keep=0.2).callbacks(net, cost, 10)[0]
    assert isinstance(dual, DualAscent)
    dual.on_train_start(SimpleNamespace(), SimpleNamespace(net=net))  # type: ignore[arg-type]
    with torch.no_grad():
        for shared in dual.found.values():
            shared.gate.fill_(50.0)
    torch.testing.assert_close(float(dual.expected_share()), 1.0)
    with torch.no_grad():
        for shared in dual.found.values():
            shared.gate[::2] = -50.0
    counts = cost.channels.copy()
    for column, name in enumerate(cost.names):
        if name in dual.found:
            counts[column] //= 2
    torch.testing.assert_close(float(dual.expected_share()), cost.predict(counts).macs / cost.dense().macs)
    before = [shared.gate.detach().clamp(-6, 6).clone() for shared in dual.found.values()]
    over = float(dual.expected_share()) - 0.2
    for shared in dual.found.values():
        shared.gate.grad = torch.zeros_like(shared.gate)
    trainer = SimpleNamespace(global_step=9, estimated_stepping_batches=10)
    dual.on_after_backward(trainer, SimpleNamespace(net=net))  # type: ignore[arg-type]
    assert dual.multiplier == pytest.approx(0.5 * over)
    assert all(torch.equal(a, b.gate) for a, b in zip(before, dual.found.values(), strict=True))  # price was 0


@pytest.mark.parametrize("attention", [Budgeted, HardConcrete])
def test_impossible_options_are_named(attention: Any) -> None:
    with pytest.raises(RsPruneError, match=r"attention\.start=0\.6"):
        attention(keep=0.5, start=0.6, end=0.5)
    with pytest.raises(RsPruneError, match="keep"):
        attention(keep=0.0)


@pytest.mark.parametrize("attention", ["budgeted", "hard_concrete attention.lr=0.3", "budgeted attention.image=true"])
def test_gates_reach_the_budget_in_a_run(
    attention: str, rs_prune: Callable[..., Any], scene_folder: Path, tmp_path: Path
) -> None:
    """The gated net, right after the cut, is the pruned net; the run's record says so."""
    import json

    words = (*TINY_RUN, f"dataset.root={scene_folder}", "criterion=attention", "scope=global", "batch_size=4")
    done = rs_prune("run", *words, *f"attention={attention}".split(), "epochs=8", "budget.keep=0.4")
    assert done.status == 0, done.err
    (path,) = (tmp_path / "outputs/records").glob("*.json")
    record = json.loads(path.read_text())
    assert 0.39 <= record["cost"]["pruned"]["macs"] / record["cost"]["dense"]["macs"] <= 0.4
    if attention.startswith("budgeted"):  # the others may not have settled in eight short epochs
        assert record["accuracy"]["raw"] == record["accuracy"]["closed"] == record["accuracy"]["folded"]
    assert "dense" not in record["accuracy"]
    assert record["checks"]["mean_gate_error"] < 1e-5


# ------------------------------------------------------------------------- what makes no sense is refused


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("attention=budgeted scope=local", "scope=local would cut other channels; choose scope=global"),
        ("attention=budgeted scope=global criterion=l1", "criterion=l1 would cut other channels; choose criterion=at"),
        ("attention=budgeted scope=global budget=params", "choose budget=macs"),
        ("attention=budgeted scope=global schedule=soft", "trains a net of its own"),
        ("attention=none criterion=bn_scale penalty=slimming schedule=dynamic", "trains a net of its own"),
        ("attention=budgeted scope=global attention.every=0", "attention.every=0: must be a whole number"),
        ("attention=hard_concrete scope=global attention.lr=0", "attention.lr=0: must be above 0"),
        ("attention=budgeted scope=global attention.floor=0.9", "lower the floor or raise budget.keep"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(
    words: str, told: str, rs_prune: Callable[..., Any], scene_folder: Path, tmp_path: Path
) -> None:
    done = rs_prune("run", *TINY_RUN, f"dataset.root={scene_folder}", "budget.keep=0.5", *words.split())
    assert done.status == 1
    (line,) = [line for line in done.err.splitlines() if line.startswith("rs-prune: ")]
    assert told in line
    assert not list((tmp_path / "outputs").glob("cache/dense/*/net.safetensors"))


def test_closed_gates_stay_closed_in_later_fits() -> None:
    net, _, _ = made(Budgeted(keep=0.5))
    for shared in priced(net).values():
        with torch.no_grad():
            shared.open[::2] = 0
            shared.gate[::2] = 0
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for number in range(3):
        optimizer.zero_grad()
        net.train()(images(8, seed=number)).square().mean().backward()
        optimizer.step()
    for shared in priced(net).values():
        assert (shared.values()[::2] == 0).all()
        assert (shared.values()[1::2] != 0).all()
