"""Criteria by hand, and what every criterion has to hold to; every choice is found by its place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf
from torch import Tensor

from rs_prune.contracts import Evidence, Group, LayerEvidence, Member, Touched
from rs_prune.criterion.attention import Attention
from rs_prune.criterion.attention_x_taylor import AttentionTaylor
from rs_prune.criterion.bn_scale import BNScale
from rs_prune.criterion.cap import Cap
from rs_prune.criterion.correlation import Correlation
from rs_prune.criterion.correlation_learned import CorrelationLearned
from rs_prune.criterion.fpgm import FPGM
from rs_prune.criterion.group_norm import GroupNorm
from rs_prune.criterion.hessian_diag import HessianDiag
from rs_prune.criterion.hrank import HRank
from rs_prune.criterion.l1 import L1
from rs_prune.criterion.l2 import L2
from rs_prune.criterion.lamp import LAMP
from rs_prune.criterion.random import Random
from rs_prune.criterion.taylor import Taylor
from rs_prune.errors import DoesNotApply, RsPruneError

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
WEIGHTS_ONLY = ("lamp",)
CHANNELS = [name for name in CRITERIA if name not in WEIGHTS_ONLY]


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


def test_bn_scale_by_hand() -> None:
    # two: 2, 1, 0.5; three reordered: 2, 4, 1; short: 9, 9, 9
    close(BNScale()(toy(), GROUPS[1:]), b=[13 / 3, 14 / 3, 10.5 / 3])


def test_a_group_without_norms_has_no_scale() -> None:
    with pytest.raises(DoesNotApply, match="group a carries a score"):
        BNScale()(toy(), GROUPS)


def one(weight: Any, measured: Any = None) -> Evidence:
    """One layer of 1x1 filters."""
    filters = torch.tensor(weight, dtype=torch.float64)[..., None, None]
    return Evidence({"one": LayerEvidence(filters, measured=None if measured is None else torch.tensor(measured))})


TRIO = (Group("t", 3, (Member("one", (0, 1, 2)),), ()),)


def test_fpgm_by_hand() -> None:
    # distances: 0-1 5, 0-2 10, 1-2 5: the middle filter is nearest to the geometric median
    close(FPGM()(one([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]), TRIO), t=[15, 10, 15])


def test_fpgm_takes_equal_filters_for_replaceable() -> None:
    close(FPGM()(one([[1.0, 1.0], [1.0, 1.0], [1.0, 3.0]]), TRIO), t=[2, 2, 4])


def test_group_norm_adds_up_filters_readers_and_scales_by_hand() -> None:
    group = Group(
        "conv", 2, (Member("conv", (1, 0)),),
        (
            Touched("conv", "out", ((1,), (0,))),
            Touched("norm", "out", ((1,), (0,))),
            Touched("head", "in", ((0, 1), (2, 3))),  # each channel is a map of two pixels, flattened
        ),
    )  # fmt: skip
    found = Evidence(
        layers={"conv": LayerEvidence(torch.tensor([[[[3.0]]], [[[1.0]]]]), gamma=torch.tensor([2.0, 5.0]))},
        weights={
            "conv": torch.tensor([[[[3.0]]], [[[1.0]]]]),
            "head": torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 1.0]]),
        },
    )
    close(GroupNorm()(found, (group,)), conv=[(1 + 25 + 1 + 4 + 1) ** 0.5, (9 + 4 + 9 + 16 + 1) ** 0.5])


def test_correlation_by_hand() -> None:
    # directions e, e and n: rows of the softmax (e, e, 1), (e, e, 1) and (1, 1, e), each over its sum
    e = torch.e
    crowd, loner = 2 * e + 1, e + 2
    received = [e / crowd + 1 / loner, e / crowd + 1 / loner, 2 / crowd]
    filters = [[2.0, 0.0], [5.0, 0.0], [0.0, 3.0]]
    close(Correlation()(one(filters), TRIO), t=received)
    close(Correlation(keep="distinct")(one(filters), TRIO), t=[1 / value for value in received])


def test_correlation_of_raw_filters_sees_their_length() -> None:
    # dot products: 1 and ln 2 of the first with itself and the second, ln2^2 of the second with itself
    first, second = torch.tensor([1, 0.5]).softmax(0), torch.tensor([0.5, 0.25]).softmax(0)
    scores = Correlation(normalize=False)(one([[1.0, 0.0], [0.5, 0.0]]), GROUPS[:1])
    close(scores, a=[float(second[0]), float(first[1])])
    close(Correlation()(one([[1.0, 0.0], [0.5, 0.0]]), GROUPS[:1]), a=[0.5, 0.5])


def test_correlation_knows_two_directions() -> None:
    with pytest.raises(RsPruneError, match="keep=both: must be correlated or distinct"):
        Correlation(keep="both")


def measured(**layers: Any) -> Evidence:
    """The toy with what was measured of the named layers."""
    found = toy()
    values = {name: torch.tensor(value, dtype=torch.float64) for name, value in layers.items()}
    return replace(
        found, layers={name: replace(layer, measured=values.get(name)) for name, layer in found.layers.items()}
    )


# Per image and output channel. three in the group's order: (3, 1, 2) and (0, 5, 0)
CHANGES = {
    "two": [[1.0, 0.0, 2.0], [0.0, 0.0, -1.0]],
    "three": [[1.0, 2.0, 3.0], [5.0, 0.0, 0.0]],
    "short": [[0.0, -4.0, 1.0], [2.0, 0.0, 0.0]],
}


def test_taylor_adds_up_a_group_before_it_squares() -> None:
    # image 0: 1+3+0, 0+1-4, 2+2+1; image 1: 0+0+2, 0+5+0, -1+0+0
    close(Taylor()(measured(**CHANGES), GROUPS[1:]), b=[(16 + 4) / 2, (9 + 25) / 2, (25 + 1) / 2])


def test_taylor_adds_up_the_channels_of_a_bundle() -> None:
    bundles = (Group("t", 2, (Member("one", (0, 2, 3, 1)),), ()),)
    close(Taylor()(one([[0.0]] * 4, [[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 2.0]]), bundles), t=[8, 22.5])


def test_attention_x_taylor_by_hand() -> None:
    # mean gates as for criterion=attention
    gates = (0.625, 0.375, 0.75)
    changes = (10**0.5, 17**0.5, 13**0.5)
    expected = [gate * change for gate, change in zip(gates, changes, strict=True)]
    close(AttentionTaylor()(measured(**CHANGES), GROUPS[1:]), b=expected)


def test_hessian_diag_by_hand() -> None:
    # 1/2 (9 * 2 + 16 * 1), 1/2 (0 * 7 + 4 * 0.5)
    curvature = torch.tensor([[2.0, 1.0], [7.0, 0.5]])[..., None, None]
    found = Evidence({"one": replace(toy().layers["one"], measured=curvature)})
    close(HessianDiag()(found, GROUPS[:1]), a=[17, 1])
    close(HessianDiag().weights(found), one=[[[[9]], [[8]]], [[[0]], [[1]]]])


@pytest.mark.parametrize("criterion", [HRank(), CorrelationLearned()])
def test_what_was_measured_per_channel_is_averaged_over_the_group(criterion: Any) -> None:
    found = measured(two=[1.0, 2.0, 3.0], three=[6.0, 4.0, 5.0], short=[0.0, 0.0, 6.0])
    # three reordered: 5, 6, 4
    close(criterion(found, GROUPS[1:]), b=[2, 8 / 3, 13 / 3])


def test_learned_correlation_leaves_out_layers_without_a_branch() -> None:
    found = measured(two=[1.0, 2.0, 3.0], three=[6.0, 4.0, 5.0])
    close(CorrelationLearned()(found, GROUPS[1:]), b=[3, 4, 3.5])


@pytest.mark.parametrize("images", [0, -3, 2.5, True])
@pytest.mark.parametrize("criterion", [Taylor, AttentionTaylor, HessianDiag, HRank])
def test_a_number_of_images_is_checked(criterion: Any, images: Any) -> None:
    with pytest.raises(RsPruneError, match=f"criterion.images={images}: must be"):
        criterion(images=images)


def without(found: Evidence, field: str) -> Evidence:
    return replace(found, layers={name: replace(layer, **{field: None}) for name, layer in found.layers.items()})


@pytest.mark.parametrize("name", ["attention", "cap", "attention_x_taylor"])
def test_without_gates_the_option_to_add_is_named(name: str, build: Any) -> None:
    with pytest.raises(DoesNotApply, match=rf"criterion={name} .*attention=se") as refusal:
        build(name)(without(toy(), "gate"), GROUPS)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["attention", "cap", "attention_x_taylor"])
def test_a_group_whose_gates_are_missing_is_named(name: str, build: Any) -> None:
    found = measured(one=[[1.0, 2.0]], **CHANGES)
    layers = {**found.layers, "one": replace(found.layers["one"], gate=None)}
    with pytest.raises(DoesNotApply, match="group a"):
        build(name)(Evidence(layers), GROUPS)


# -------------------------------------------------------------------------------- single weights


def test_a_weights_l1_score_is_its_magnitude() -> None:
    found = one([[1.0, -2.0], [0.0, -0.5]])
    close(L1().weights(found), one=[[[[1]], [[2]]], [[[0]], [[0.5]]]])


def test_lamp_by_hand() -> None:
    # squares 1, 4, 16, 4: the largest has 1; equal ones count those after them: 4 / (4 + 16), 4 / (4 + 4 + 16)
    found = one([[1.0, -2.0], [4.0, 2.0]])
    close(LAMP().weights(found), one=[[[[1 / 25]], [[4 / 24]]], [[[1]], [[4 / 20]]]])


def test_lamp_of_scaled_layers_is_the_same_and_of_zeros_is_zero() -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    found = {"a": LayerEvidence(weight), "b": LayerEvidence(weight * 1e-3), "c": LayerEvidence(weight * 0)}
    scores = LAMP().weights(Evidence(found))
    torch.testing.assert_close(scores["a"], scores["b"], rtol=1e-5, atol=0)
    assert torch.equal(scores["a"].flatten().argsort(), weight.abs().flatten().argsort())
    assert float(scores["a"].max()) == 1
    assert not scores["c"].any()


def test_lamp_says_what_it_needs_to_rank_channels() -> None:
    with pytest.raises(DoesNotApply, match=r"criterion=lamp .* add granularity=weights"):
        LAMP()(toy(), GROUPS)


def test_random_weights_depend_on_seed_and_layer_alone() -> None:
    scores = Random().weights(toy())
    assert all(((values >= 0) & (values < 1)).all() for values in scores.values())
    only = Random().weights(Evidence({"two": toy().layers["two"]}, seed=5))
    assert torch.equal(only["two"], scores["two"])
    assert not torch.equal(scores["two"], scores["three"])
    assert not torch.equal(scores["two"], Random().weights(replace(toy(), seed=6))["two"])


def test_who_ranks_weights(build: Any) -> None:
    assert {name for name in CRITERIA if hasattr(build(name), "weights")} == {"hessian_diag", "l1", "lamp", "random"}


@pytest.mark.parametrize("name", ["hessian_diag", "l1", "lamp", "random"])
def test_every_weight_of_every_layer_is_scored(name: str, build: Any, found: Any) -> None:
    evidence = found(name)
    kept = copy.deepcopy(evidence)
    draws = torch.get_rng_state()
    scores = build(name).weights(evidence)
    assert set(scores) == set(evidence.layers)
    for layer, values in scores.items():
        assert values.shape == evidence.layers[layer].weight.shape
        assert values.is_floating_point() and not values.requires_grad
        assert torch.isfinite(values).all() and (values >= 0).all()
        assert len(values.unique()) > 100, f"{layer}: says little"  # dead units and the rims of 3x3 on 1x1 score 0
    assert len({values.dtype for values in scores.values()}) == 1
    assert all(torch.equal(again, scores[layer]) for layer, again in build(name).weights(evidence).items())
    assert torch.equal(torch.get_rng_state(), draws)
    assert_same(kept, evidence)


def test_the_diagonal_hessian_reaches_every_layer_that_holds_weights(found: Any) -> None:
    assert "fc" in found("hessian_diag").layers


# --------------------------------------------------------------------- what every criterion holds to


def cast(found: Evidence, dtype: torch.dtype) -> Evidence:
    def to(layer: LayerEvidence) -> LayerEvidence:
        values = {field.name: getattr(layer, field.name) for field in fields(layer)}
        return LayerEvidence(**{name: None if value is None else value.to(dtype) for name, value in values.items()})

    return replace(found, layers={name: to(layer) for name, layer in found.layers.items()})


def assert_same(one: Evidence, other: Evidence) -> None:
    assert set(one.layers) == set(other.layers)
    for name, layer in one.layers.items():
        for field in fields(layer):
            value = getattr(layer, field.name)
            assert value is None or torch.equal(value, getattr(other.layers[name], field.name))


def assert_sound(scores: dict[str, Tensor], groups: Sequence[Group]) -> None:
    assert set(scores) == {group.name for group in groups}
    for group in groups:
        values = scores[group.name]
        assert values.shape == (group.channels,)
        assert values.is_floating_point()
        assert values.device.type == "cpu"
        assert torch.isfinite(values).all()
        assert not values.requires_grad
        assert len(values.unique()) > 1, f"{group.name}: says nothing"


@pytest.mark.parametrize("name", CHANNELS)
def test_every_criterion_scores_every_channel(name: str, build: Any, real: Any, found: Any) -> None:
    net, graph = real(name)
    evidence = found(name)
    before = copy.deepcopy(net.state_dict())
    values = copy.deepcopy(evidence)
    draws = torch.get_rng_state()
    criterion = build(name)
    scores = criterion(evidence, graph.groups)
    assert_sound(scores, graph.groups)
    assert torch.equal(torch.get_rng_state(), draws)
    for again in (criterion(evidence, graph.groups), build(name)(copy.deepcopy(evidence), graph.groups)):
        assert all(torch.equal(again[key], scores[key]) for key in scores)
    backwards = criterion(evidence, tuple(reversed(graph.groups)))
    assert all(torch.equal(backwards[key], scores[key]) for key in scores)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert_same(values, evidence)


@pytest.mark.parametrize("name", CHANNELS)
def test_every_criterion_takes_single_and_double_precision(name: str, build: Any, real: Any, found: Any) -> None:
    groups = real(name)[1].groups
    single, double = (build(name)(cast(found(name), dtype), groups) for dtype in (torch.float32, torch.float64))
    for group in groups:
        torch.testing.assert_close(single[group.name].double(), double[group.name].double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CHANNELS)
def test_every_criterion_copes_without_gates_or_says_what_to_add(name: str, build: Any, real: Any, found: Any) -> None:
    groups = real(name)[1].groups
    try:
        scores = build(name)(without(found(name), "gate"), groups)
    except DoesNotApply as refusal:
        assert f"criterion={name}" in str(refusal)
        assert "attention=" in str(refusal)
    else:
        assert_sound(scores, groups)


@pytest.mark.parametrize("name", CHANNELS)
def test_a_criterion_that_measures_misses_what_was_not_measured(name: str, build: Any, real: Any, found: Any) -> None:
    criterion = build(name)
    calls: list[Callable[[], Any]] = [lambda: criterion(without(found(name), "measured"), real(name)[1].groups)]
    if hasattr(criterion, "weights"):
        calls.append(lambda: criterion.weights(without(found(name), "measured")))
    for call in calls:
        if not hasattr(criterion, "measure"):
            call()
            continue
        with pytest.raises(RsPruneError, match=f"criterion={name}") as refusal:
            call()
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", CHANNELS)
def test_every_criterion_stores_only(name: str, build: Any, real: Any, found: Any) -> None:
    """Called twice with other evidence in between, it says the same: it keeps nothing."""
    groups = real(name)[1].groups
    criterion = build(name)
    first = criterion(found(name), groups)
    criterion(cast(found(name), torch.float32), groups[:1])
    again = criterion(found(name), groups)
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
