"""Criteria by hand, and what every criterion has to hold to; every choice is found by its place."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from torch import nn

from rs_prune.attention.se import SE
from rs_prune.contracts import Evidence, Group, LayerEvidence, Member
from rs_prune.criterion.attention import Attention
from rs_prune.criterion.cap import Cap
from rs_prune.criterion.l1 import L1
from rs_prune.criterion.l2 import L2
from rs_prune.criterion.random import Random
from rs_prune.errors import DoesNotApply
from rs_prune.pruning.gate import attach, bare, observe
from rs_prune.pruning.graph import Graph, trace
from rs_prune.pruning.scores import evidence

ROOT = Path(__file__).parents[2]
CONF, PACKAGE = ROOT / "conf", ROOT / "rs_prune"
CRITERIA = sorted({path.stem for path in (CONF / "criterion").glob("*.yaml")} | {
    path.stem for path in (PACKAGE / "criterion").glob("*.py") if path.stem != "__init__"
})  # fmt: skip
CHOICES = sorted(
    folder.name
    for folder in CONF.iterdir()
    if folder.is_dir() and (PACKAGE / folder.name).is_dir() and list((PACKAGE / folder.name).glob("[!_]*.py"))
)
PRESETS = ("model",)  # one file builds many presets


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def build(name: str) -> Any:
    return instantiate(OmegaConf.load(CONF / "criterion" / f"{name}.yaml"), _convert_="all")


def close(scores: dict[str, torch.Tensor], **expected: list[float]) -> None:
    assert set(scores) == set(expected)
    for name, values in expected.items():
        torch.testing.assert_close(scores[name].double(), torch.tensor(values, dtype=torch.float64))


# -------------------------------------------------------------------------------- toy evidence

# Group a: one layer. Group b: two layers with gates, the second in another order, and an ungated shortcut.
GROUPS = (
    Group("a", 2, (Member("one", (0, 1)),), ()),
    Group("b", 3, (Member("two", (0, 1, 2)), Member("three", (2, 0, 1)), Member("short", (0, 1, 2))), ()),
)


def toy(dtype: torch.dtype = torch.float64) -> Evidence:
    def layer(weight: Any, gamma: Any, gate: Any) -> LayerEvidence:
        return LayerEvidence(
            weight=torch.tensor(weight, dtype=dtype)[..., None, None],
            gamma=None if gamma is None else torch.tensor(gamma, dtype=dtype),
            gate=None if gate is None else torch.tensor(gate, dtype=dtype),
        )

    return Evidence(
        layers={
            "one": layer([[3.0, -4.0], [0.0, 2.0]], None, [0.25, 0.75]),
            "two": layer([[1.0, -1.0], [2.0, 2.0], [-3.0, 4.0]], [-2.0, 1.0, 0.5], [0.5, 0.25, 1.0]),
            "three": layer([[0.0, 6.0], [8.0, 6.0], [5.0, 12.0]], [4.0, -1.0, 2.0], [0.5, 0.5, 0.75]),
            "short": layer([[1.0, 0.0], [0.0, -3.0], [0.0, 0.0]], [9.0, 9.0, 9.0], None),
        },
        seed=5,
        images=10,
    )


def test_attention_by_hand() -> None:
    # b: two has 0.5, 0.25, 1; three in the group's order 0.75, 0.5, 0.5; the shortcut takes no part
    close(Attention()(toy(), GROUPS), a=[0.25, 0.75], b=[0.625, 0.375, 0.75])


def test_cap_by_hand() -> None:
    # gate * |gamma|; without a norm gamma counts as one. two: 1, 0.25, 0.5; three reordered: 1.5, 2, 0.5
    close(Cap()(toy(), GROUPS), a=[0.25, 0.75], b=[1.25, 1.125, 0.5])


def test_l1_by_hand() -> None:
    # two: 2, 4, 7; three reordered: 17, 6, 14; short: 1, 3, 0
    close(L1()(toy(), GROUPS), a=[7, 2], b=[20 / 3, 13 / 3, 7])


def test_l2_by_hand() -> None:
    # two: sqrt 2, sqrt 8, 5; three reordered: 13, 6, 10; short: 1, 3, 0
    close(L2()(toy(), GROUPS), a=[5, 2], b=[(2**0.5 + 14) / 3, (8**0.5 + 9) / 3, 5])


def test_magnitude_sums_over_the_whole_kernel() -> None:
    weight = torch.arange(-8.0, 8).view(2, 2, 2, 2)
    found = Evidence({"one": LayerEvidence(weight)})
    close(L1()(found, GROUPS[:1]), a=[36, 28])
    close(L2()(found, GROUPS[:1]), a=[204**0.5, 140**0.5])


def test_random_depends_on_seed_and_name_alone() -> None:
    scores = Random()(toy(), GROUPS)
    assert all(((values >= 0) & (values < 1)).all() for values in scores.values())
    only = Random()(Evidence(layers={}, seed=5), GROUPS[1:])
    assert torch.equal(only["b"], scores["b"])
    other = Random()(Evidence(layers={}, seed=6), GROUPS)
    assert not torch.equal(other["b"], scores["b"])
    renamed = Random()(toy(), (Group("c", 3, (), ()), Group("d", 3, (), ())))
    assert not torch.equal(renamed["c"], renamed["d"])
    assert not torch.equal(renamed["c"], scores["b"])
    torch.manual_seed(0)
    assert torch.equal(Random()(toy(), GROUPS)["b"], scores["b"])
    many = torch.cat(list(Random()(toy(), [Group(str(i), 50, (), ()) for i in range(40)]).values()))
    assert abs(float(many.mean()) - 0.5) < 0.03
    assert len(many.unique()) == len(many)


def without_gates(found: Evidence) -> Evidence:
    return Evidence({name: LayerEvidence(layer.weight, layer.gamma) for name, layer in found.layers.items()})


@pytest.mark.parametrize("name", ["attention", "cap"])
def test_without_gates_the_option_to_add_is_named(name: str) -> None:
    with pytest.raises(DoesNotApply, match=rf"criterion={name} .*attention=se") as refusal:
        build(name)(without_gates(toy()), GROUPS)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["attention", "cap"])
def test_a_group_whose_gates_are_missing_is_named(name: str) -> None:
    found = toy()
    layers = {**found.layers, "one": LayerEvidence(found.layers["one"].weight)}
    with pytest.raises(DoesNotApply, match="group a"):
        build(name)(Evidence(layers), GROUPS)


# --------------------------------------------------------------------- what every criterion holds to


@pytest.fixture(scope="module")
def real() -> tuple[nn.Module, Graph]:
    """A small net with gates, observed."""
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.create_model("test_resnet", num_classes=4)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):  # timm starts some of them at zero
                nn.init.normal_(module.weight)
        attach(net, trace(net, torch.zeros(1, 3, 32, 32)).places(), SE())
        observe(net, [{"image": torch.randn(4, 3, 32, 32)}])
    return net, trace(bare(net), torch.zeros(1, 3, 32, 32))


def cast(found: Evidence, dtype: torch.dtype) -> Evidence:
    layers = {
        name: LayerEvidence(*(None if v is None else v.to(dtype) for v in (layer.weight, layer.gamma, layer.gate)))
        for name, layer in found.layers.items()
    }
    return Evidence(layers, found.seed, found.images)


def assert_sound(scores: Any, groups: Any) -> None:
    assert set(scores) == {group.name for group in groups}
    for group in groups:
        values = scores[group.name]
        assert values.shape == (group.channels,)
        assert values.is_floating_point()
        assert values.device.type == "cpu"
        assert torch.isfinite(values).all()
        assert not values.requires_grad
        assert len(values.unique()) > 1, f"{group.name}: says nothing"


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_scores_every_channel(name: str, real: Any) -> None:
    net, graph = real
    found = evidence(net, graph, seed=1, images=4)
    before = copy.deepcopy(net.state_dict())
    values = copy.deepcopy(found)
    draws = torch.get_rng_state()
    criterion = build(name)
    scores = criterion(found, graph.groups)
    assert_sound(scores, graph.groups)
    assert torch.equal(torch.get_rng_state(), draws)
    for again in (criterion(found, graph.groups), build(name)(copy.deepcopy(found), graph.groups)):
        assert all(torch.equal(again[key], scores[key]) for key in scores)
    backwards = criterion(found, tuple(reversed(graph.groups)))
    assert all(torch.equal(backwards[key], scores[key]) for key in scores)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    for layer, kept in values.layers.items():
        for field in ("weight", "gamma", "gate"):
            value = getattr(kept, field)
            assert value is None or torch.equal(value, getattr(found.layers[layer], field))


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_takes_single_and_double_precision(name: str, real: Any) -> None:
    net, graph = real
    found = evidence(net, graph, seed=1, images=4)
    single, double = (build(name)(cast(found, dtype), graph.groups) for dtype in (torch.float32, torch.float64))
    for group in graph.groups:
        torch.testing.assert_close(single[group.name].double(), double[group.name].double(), rtol=1e-5, atol=1e-6)
    assert_sound(build(name)(toy(torch.float32), GROUPS), GROUPS)


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_copes_without_gates_or_says_what_to_add(name: str) -> None:
    try:
        scores = build(name)(without_gates(toy()), GROUPS)
    except DoesNotApply as refusal:
        assert f"criterion={name}" in str(refusal)
        assert "attention=" in str(refusal)
    else:
        assert_sound(scores, GROUPS)


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_stores_only(name: str) -> None:
    """Called twice with other evidence in between, it says the same: it keeps nothing."""
    criterion = build(name)
    first = criterion(toy(), GROUPS)
    criterion(cast(toy(), torch.float32), GROUPS[:1])
    again = criterion(toy(), GROUPS)
    assert all(torch.equal(first[key], again[key]) for key in first)


# ----------------------------------------------------------------------------- choices in general


def targets(path: Path) -> Iterator[str]:
    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if "_target_" in node:
                yield node["_target_"]
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)

    yield from walk(OmegaConf.to_container(OmegaConf.load(path), resolve=False))


def test_the_choices_are_found() -> None:
    assert {"attention", "budget", "criterion", "dataset", "granularity", "loss", "model", "schedule", "scope"} <= set(
        CHOICES
    )
    assert {"attention", "cap", "l1", "l2", "random"} <= set(CRITERIA)


@pytest.mark.parametrize("folder", CHOICES)
def test_every_file_is_an_option_of_the_same_name(folder: str) -> None:
    files = {path.stem for path in (PACKAGE / folder).glob("*.py") if path.stem != "__init__"}
    options = {path.stem: set(targets(path)) for path in (CONF / folder).glob("*.yaml")}
    modules = {target.rpartition(".")[0] for found in options.values() for target in found}
    for file in files:
        assert f"rs_prune.{folder}.{file}" in modules, f"conf/{folder} has no option for {file}.py"
    if folder not in PRESETS:
        assert set(options) == files
        for name, found in options.items():
            assert {target.rpartition(".")[0] for target in found} == {f"rs_prune.{folder}.{name}"}


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_target_can_be_imported(path: Path) -> None:
    for target in targets(path):
        assert callable(get_object(target)), target


@pytest.mark.parametrize("folder", CHOICES)
def test_every_option_opens_with_what_it_is(folder: str) -> None:
    for path in (CONF / folder).glob("*.yaml"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
        assert lines[0].startswith("# "), path
    assert (PACKAGE / folder / "__init__.py").read_text().startswith('"""')
