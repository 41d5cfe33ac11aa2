"""Bands of the input: gated, ranked, taken out for good, and what the smaller net then is."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from rs_prune.attention.cbam import CBAM
from rs_prune.attention.correlation import Correlation
from rs_prune.attention.eca import ECA
from rs_prune.attention.hard_concrete import HardConcrete
from rs_prune.attention.none import NoAttention
from rs_prune.attention.se import SE
from rs_prune.budget.bands import Bands as BandsBudget
from rs_prune.contracts import Plan, RemoveBands, RemoveChannels
from rs_prune.deploy.artifact import load_net, save_net
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.model.timm_net import TimmNet
from rs_prune.pruning.bands import band_evidence, band_group, cost_without, kept_bands, stem
from rs_prune.pruning.cost import CostModel, measure
from rs_prune.pruning.gate import INPUT, InputGated, attach, attach_input, bare, detach, gates, observe
from rs_prune.pruning.graph import trace
from rs_prune.pruning.surgery import mask, mask_error, plan_from, remove, replay

BANDS = 5
EXAMPLE = torch.zeros(1, BANDS, 32, 32)
SAID = (
    "group_norm",
    "l1",
    "l2",
    "fpgm",
    "correlation",
    "random",
    "taylor",
    "hessian_diag",
    "attention",
    "cap",
    "attention_x_taylor",
)


def images(count: int = 4, bands: int = BANDS) -> torch.Tensor:
    return torch.randn(count, bands, 32, 32, generator=torch.Generator().manual_seed(1))


def make(name: str = "test_resnet", attention: object = None, bands: int = BANDS) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.create_model(name, in_chans=bands, num_classes=3).eval()
        if attention is not None:
            attach_input(net, stem(net, EXAMPLE[:, :bands]), attention)
    return net


def batch() -> dict[str, torch.Tensor]:
    return {"image": images(), "label": torch.tensor([0, 1, 2, 0]), "index": torch.arange(4)}


# ------------------------------------------------------------------------------------- the stem


@pytest.mark.parametrize("name", ["test_resnet", "resnet10t", "test_efficientnet", "test_convnext", "test_vit"])
def test_the_layer_that_reads_the_bands_is_found(name):
    net = timm.create_model(name, in_chans=3, num_classes=2, **({"img_size": 32} if "vit" in name else {}))
    layer = stem(net, EXAMPLE[:, :3])
    assert net.get_submodule(layer) is next(module for module in net.modules() if isinstance(module, nn.Conv2d))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(BANDS, 4, 3), nn.Conv2d(BANDS, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x) + self.b(x)


def test_a_net_that_reads_its_input_twice_or_in_groups_is_refused():
    with pytest.raises(DoesNotApply, match=r"no single convolution that reads the bands \(they go to a, b\)"):
        stem(Twice(), EXAMPLE)
    with pytest.raises(DoesNotApply, match="no single convolution"):
        stem(nn.Sequential(nn.Conv2d(BANDS, 10, 3, groups=BANDS)), EXAMPLE)


# ------------------------------------------------------------------------------------- the gate


@pytest.mark.parametrize("attention", [SE(), ECA(), CBAM()], ids=["se", "eca", "cbam"])
def test_the_same_branches_gate_the_bands(attention):
    net = make(attention=attention)
    ((_, gate),) = gates(net)
    assert isinstance(gate, InputGated)
    x = images()
    by_hand = bare(net)(x * gate.branch(x))
    torch.testing.assert_close(net(x), by_hand)
    assert torch.equal(bare(net)(x), make()(x))
    observe(net, [batch()])
    torch.testing.assert_close(gate.mean, gate.branch(x).mean((0, 2, 3)))
    assert not list(gates(detach(net)))


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_folding_a_constant_gate_is_exact_at_the_borders_too(padding):
    conv = nn.Conv2d(BANDS, 6, 3, padding=1, padding_mode=padding)
    net = nn.Sequential(conv)
    attach_input(net, "0", SE())
    values = torch.tensor([0.0, 0.5, 1.0, 1.7, 0.2])
    net[0].branch.gates = lambda x: values.view(1, -1, 1, 1).expand(len(x), -1, 1, 1)
    observe(net, [batch()])
    torch.testing.assert_close(detach(net)(images()), net(images()))
    assert torch.equal(net[0].inner.bias, detach(net)[0].bias)


def test_gates_on_bands_stand_beside_those_on_filters():
    net = make()
    places = trace(net, EXAMPLE).places()
    attach(net, places, SE())
    filters = len(list(gates(net)))
    attach_input(net, stem(bare(net), EXAMPLE), SE())
    assert len(list(gates(net))) == filters + 1
    observe(net, [batch()])
    assert torch.equal(bare(net)(images()), make()(images()))


def test_attentions_that_cannot_gate_bands_and_layers_gated_already_are_refused():
    for attention in (NoAttention(), Correlation(), HardConcrete(keep=0.5)):
        with pytest.raises(DoesNotApply, match=r"attach\.input"):
            make(attention=attention)
    net = nn.Sequential(nn.Conv2d(BANDS, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(3136, 2))
    attach(net, trace(net, EXAMPLE).places(), SE())
    with pytest.raises(DoesNotApply, match=r"attach\.input=only"):
        attach_input(net, "0", SE())


# ------------------------------------------------------------------------------------- the cut


@pytest.mark.parametrize("name", ["test_resnet", "resnet10t", "test_efficientnet", "test_convnext"])
def test_removal_is_masking(name):
    net = make(name)
    graph = trace(net, EXAMPLE)
    layer = stem(net, EXAMPLE)
    plan = Plan((RemoveBands(layer, (0, 3)),), graph and CostModel(net, graph.groups, EXAMPLE).dense())
    error = mask_error(net, plan, graph.all, images())
    assert error < 1e-4
    small = remove(net, plan, graph.all)
    assert small.get_submodule(layer).in_channels == 3
    assert kept_bands(small) == (1, 2, 4)
    assert kept_bands(net) is None
    blind = images().clone()
    blind[:, [0, 3]] = 0
    torch.testing.assert_close(small(images()[:, [1, 2, 4]]), net(blind), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mask(net, plan, graph.all)(images()), net(blind), atol=1e-4, rtol=1e-4)
    assert (small(images()[:, [1, 2, 4]]) - net(images())).abs().max() > 1e-3  # the cut shows


def test_gates_shrink_with_their_bands():
    net = make(attention=SE())
    observe(net, [batch()])
    (before,) = (gate for _, gate in gates(net))
    plan = Plan((RemoveBands(stem(bare(net), EXAMPLE), (1, 2)),), None)
    small = remove(net, plan, trace(bare(net), EXAMPLE).all)
    (after,) = (gate for _, gate in gates(small))
    assert torch.equal(after.mean, before.mean[[0, 3, 4]])
    assert small(images(bands=3)).shape == (4, 3)
    assert kept_bands(detach(small)) == kept_bands(bare(small)) == (0, 3, 4)


def test_the_predicted_cost_is_the_measured_one():
    net = make()
    graph = trace(net, EXAMPLE)
    cost = CostModel(net, graph.groups, EXAMPLE)
    layer = stem(net, EXAMPLE)
    predicted = cost_without(net, cost, layer, 2)
    small = remove(net, Plan((RemoveBands(layer, (0, 1)),), predicted), graph.all)
    assert measure(small, EXAMPLE[:, 2:]) == (predicted.macs, predicted.params)
    assert (cost.dense().bands, predicted.bands) == (5, 3)


def test_a_plan_that_does_not_fit_is_refused():
    net, nothing = make(), None
    layer = stem(net, EXAMPLE)
    for edit, said in (
        (RemoveBands(layer, (7,)), "reads 5 bands"),
        (RemoveBands("nowhere", (1,)), "no convolution nowhere"),
        (RemoveBands(layer, (0, 1, 2, 3, 4)), "nothing would be left"),
    ):
        with pytest.raises(RsPruneError, match=said):
            remove(net, Plan((edit,), nothing), trace(net, EXAMPLE).all)


def test_cuts_of_bands_and_filters_are_replayed_from_a_saved_net(tmp_path):
    """Three plans, bands in two of them, the last beside filters: JSON and weights give the same net back."""
    net = TimmNet(name="test_resnet")(3, BANDS).eval()
    plans, example = [], EXAMPLE
    small = net
    for edits in ((RemoveBands("conv1.0", (0, 3)),), (), (RemoveBands("conv1.0", (1,)),)):
        graph = trace(small, example)
        group = graph.groups[0]
        plan = Plan((*edits, RemoveChannels(group.name, (0, 1))), CostModel(small, graph.groups, example).dense())
        small = remove(small, plan, graph.all)
        plans.append(json.loads(json.dumps(plan.as_json())))
        example = example[:, : small.get_submodule("conv1.0").in_channels]
    assert kept_bands(small) == (1, 4)
    assert plan_from(plans[0]).edits[0] == RemoveBands("conv1.0", (0, 3))
    assert kept_bands(replay(net, plans, EXAMPLE)) == (1, 4)
    card = {
        "model": {"name": "test_resnet", "kwargs": {}}, "classes": ["x", "y", "z"], "bands": ["b", "e"],
        "dense_bands": ["a", "b", "c", "d", "e"], "size": [32, 32], "plans": plans,
    }  # fmt: skip
    save_net(small, tmp_path, card)
    assert torch.equal(
        load_net(tmp_path)(images(bands=2)), small.to(memory_format=torch.channels_last)(images(bands=2))
    )
    save_net(small, tmp_path, card | {"bands": ["a", "b"]})
    with pytest.raises(RsPruneError, match="bands are not those that the plans leave"):
        load_net(tmp_path)


# ----------------------------------------------------------------------------------- the scores


@pytest.mark.parametrize("name", SAID)
def test_criteria_rank_bands_and_see_which_are_read(name):
    """A band that no weight reads scores lowest wherever a score looks at more than chance or the other bands."""
    net = make(attention=SE())
    layer = stem(bare(net), EXAMPLE)
    with torch.no_grad():
        net.get_submodule(layer).inner.weight[:, 2] = 0
    found = importlib.import_module(f"rs_prune.criterion.{name}")
    criterion = next(
        value() for key, value in vars(found).items() if isinstance(value, type) and value.__module__ == found.__name__
    )
    observe(net, [batch()])
    measured = criterion.measure(net, {INPUT: layer}, [batch()]) if hasattr(criterion, "measure") else {}
    known = band_evidence(net, layer, seed=0, images=4, measured=measured)
    scores = criterion(known, [band_group(bare(net), layer)])[INPUT]
    assert scores.shape == (BANDS,)
    assert torch.isfinite(scores).all()
    if name in ("group_norm", "l1", "l2", "taylor", "hessian_diag", "attention_x_taylor"):
        assert scores[2] == 0
        assert (scores[[0, 1, 3, 4]] > 0).all()
    if name in ("attention", "cap"):
        (gate,) = (gate for _, gate in gates(net))
        torch.testing.assert_close(scores, gate.mean.double())


@pytest.mark.parametrize("name", ["bn_scale", "lamp", "correlation_learned", "attention"])
def test_criteria_that_have_nothing_to_say_of_bands_say_so(name):
    net = make()
    layer = stem(net, EXAMPLE)
    found = importlib.import_module(f"rs_prune.criterion.{name}")
    criterion = next(
        value() for key, value in vars(found).items() if isinstance(value, type) and value.__module__ == found.__name__
    )
    measured = criterion.measure(net, {INPUT: layer}, [batch()]) if hasattr(criterion, "measure") else {}
    known = band_evidence(net, layer, seed=0, images=4, measured=measured)
    with pytest.raises(DoesNotApply):
        criterion(known, [band_group(net, layer)])


def test_what_taylor_measures_is_the_gradient_to_a_factor_on_the_band():
    net = make()
    layer = stem(net, EXAMPLE)
    taylor = importlib.import_module("rs_prune.criterion.taylor").Taylor()
    found = taylor.measure(net, {INPUT: layer}, [batch()])[INPUT]
    factor = torch.ones(4, BANDS, 1, 1, requires_grad=True)
    loss = nn.functional.cross_entropy(net(images() * factor), batch()["label"], reduction="sum")
    torch.testing.assert_close(found, torch.autograd.grad(loss, factor)[0].flatten(1))
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in net.modules())


# ----------------------------------------------------------------------------------- the budget


def test_a_count_is_a_share_of_the_bands_that_there_are():
    budget = BandsBudget(count=2).of(["a", "b", "c", "d", "e"])
    cost = CostModel(make(), trace(make(), EXAMPLE).groups, EXAMPLE).dense()
    assert (budget(cost), budget.keep) == (5, 0.4)
    assert budget(replace(cost, bands=2)) == 2
    with pytest.raises(RsPruneError, match=r"budget.count=3: there are 2 bands \(a, b\)"):
        BandsBudget(count=3).of(["a", "b"])
    for count in (0, -1, 1.5, True):
        with pytest.raises(RsPruneError, match=r"budget\.count="):
            BandsBudget(count=count)


# ---------------------------------------------------------------------------- pretrained weights


@pytest.mark.parametrize("bands", [1, 2, 5, 13])
def test_a_pretrained_stem_is_adapted_the_way_timm_does(bands, tmp_path):
    """From a file in place of the network: repeated over the bands, and scaled so that sums stay."""
    from safetensors.torch import save_file

    rgb = timm.create_model("test_resnet", num_classes=1000)
    save_file(rgb.state_dict(), tmp_path / "rgb.safetensors")
    overlay = {"file": str(tmp_path / "rgb.safetensors"), "custom_load": False}
    net = TimmNet(name="test_resnet", pretrained=True, kwargs={"pretrained_cfg_overlay": overlay})(3, bands)
    weight = rgb.conv1[0].weight
    expected = weight.sum(1, keepdim=True) if bands == 1 else weight[:, [n % 3 for n in range(bands)]] * 3 / bands
    torch.testing.assert_close(net.conv1[0].weight, expected)
    assert torch.equal(net.layer1[0].conv1.weight, rgb.layer1[0].conv1.weight)
