"""Branches by hand, and what every attention holds to; attentions are found by their place."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from rs_prune.attention.bam import BAMBranch
from rs_prune.attention.cbam import CBAM, CBAMBranch
from rs_prune.attention.correlation import Correlation, CorrelationBranch
from rs_prune.contracts import Cost, Place, Plan, RemoveChannels
from rs_prune.errors import RsPruneError
from rs_prune.pruning.gate import Gated, attach, bare, detach, gates, observe
from rs_prune.pruning.graph import Graph, trace
from rs_prune.pruning.masking import bake
from rs_prune.pruning.squeeze import SqueezeExcite
from rs_prune.pruning.surgery import remove

CONF = Path(__file__).parents[2] / "conf"
ATTENTIONS = sorted(path.stem for path in (CONF / "attention").glob("*.yaml") if path.stem != "none")
EXAMPLE = torch.zeros(1, 3, 32, 32)


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def build(name: str) -> Any:
    cfg = OmegaConf.create({"attention": OmegaConf.load(CONF / "attention" / f"{name}.yaml"), "budget": {"keep": 0.5}})
    return instantiate(cfg.attention, _convert_="all")


def gated(attention: Any) -> tuple[nn.Module, Graph]:
    """A small net with gates that differ, and the graph of the bare net."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.create_model("test_resnet", num_classes=4).eval()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):  # timm starts some of them at zero
                nn.init.uniform_(module.weight, 0.5, 1.5)
        graph = trace(net, EXAMPLE)
        attach(net, graph.places(), attention)
        for _, gate in gates(net):
            for parameter in gate.branch.parameters():
                parameter.data += 0.3 * torch.randn(parameter.shape)
    return net.eval(), graph


def cut(net: nn.Module, graph: Graph) -> tuple[nn.Module, dict[str, Tensor]]:
    """A copy without every third channel, and what each gated layer keeps."""
    edits = tuple(RemoveChannels(group.name, tuple(range(0, group.channels, 3))) for group in graph.groups)
    kept = {}
    for group in graph.groups:
        for member in group.members:
            kept[graph.norms.get(member.layer, member.layer)] = torch.tensor(
                [place for channel, place in enumerate(member.index) if channel % 3]
            ).sort()[0]
    return remove(net, Plan(edits, Cost(0, 0, 0)), graph.groups), kept


# ------------------------------------------------------------------------------------------ cbam


def test_cbam_by_hand() -> None:
    branch = CBAMBranch(SqueezeExcite(2, 1))
    branch.mlp.squeeze.weight.data, branch.mlp.squeeze.bias.data = torch.tensor([[1.0, -1.0]]), torch.tensor([0.5])
    branch.mlp.excite.weight.data, branch.mlp.excite.bias.data = (
        torch.tensor([[2.0], [-1.0]]),
        torch.tensor([0.25, 0.0]),
    )
    x = torch.tensor([[[[1.0, 3.0]], [[0.0, 1.0]]], [[[0.0, 0.0]], [[4.0, 2.0]]]])
    # image 0: means 2, 0.5 -> hidden 2; maxima 3, 1 -> hidden 2.5; image 1: 0, 3 and 0, 4 -> both below zero
    logits = torch.tensor([[2 * 4.5 + 0.5, -4.5], [0.5, 0.0]])
    torch.testing.assert_close(branch.gates(x), logits.sigmoid()[:, :, None, None])


@pytest.mark.parametrize(("channels", "hidden"), [(16, 4), (64, 4), (128, 8), (512, 32)])
def test_cbam_has_the_papers_reduction(channels: int, hidden: int) -> None:
    (branch,) = CBAM()([Place("bn", tuple(range(channels)), "conv", "conv")], nn.Module())
    assert isinstance(branch, CBAMBranch)
    assert branch.mlp.squeeze.out_features == hidden


def test_a_cut_cbam_has_the_gates_that_channels_of_zero_leave() -> None:
    torch.manual_seed(0)
    branch = CBAMBranch(SqueezeExcite(6, 4))
    index = torch.tensor([0, 2, 5])
    x = torch.zeros(3, 6, 4, 4)
    x[:, index] = torch.randn(3, 3, 4, 4)
    before = branch(x)
    branch.keep(index)
    torch.testing.assert_close(branch(x[:, index]), before[:, index])
    assert branch.mlp.squeeze.in_features == branch.mlp.excite.out_features == 3


# ------------------------------------------------------------------------------------------- bam


def test_bam_by_hand() -> None:
    branch = BAMBranch(SqueezeExcite(2, 1)).eval()
    branch.mlp.squeeze.weight.data, branch.mlp.squeeze.bias.data = torch.tensor([[1.0, -1.0]]), torch.tensor([0.5])
    branch.mlp.excite.weight.data, branch.mlp.excite.bias.data = torch.tensor([[2.0], [-1.0]]), torch.zeros(2)
    branch.norm.weight.data, branch.norm.bias.data = torch.tensor([3.0, 1.0]), torch.tensor([0.0, 0.5])
    branch.norm.running_mean.copy_(torch.tensor([1.0, 0.0]))
    branch.norm.running_var.copy_(torch.tensor([4.0, 1.0]) - branch.norm.eps)
    x = torch.tensor([[[[1.0, 3.0]], [[0.0, 1.0]]], [[[0.0, 0.0]], [[4.0, 2.0]]]])
    # hidden 2 and 0; behind it (4, -2) and (0, 0); normalised ((4 - 1) / 2 * 3, -2 + 0.5) and (-1.5, 0.5)
    logits = torch.tensor([[4.5, -1.5], [-1.5, 0.5]])
    torch.testing.assert_close(branch.gates(x), 1 + logits.sigmoid()[:, :, None, None])


def test_a_cut_bam_has_the_gates_that_channels_of_zero_leave() -> None:
    torch.manual_seed(0)
    branch = BAMBranch(SqueezeExcite(6, 4))
    for _ in range(3):  # running statistics that differ
        branch(torch.randn(8, 6, 4, 4) * torch.arange(1.0, 7)[:, None, None])
    branch.eval()
    index = torch.tensor([0, 2, 5])
    x = torch.zeros(3, 6, 4, 4)
    x[:, index] = torch.randn(3, 3, 4, 4)
    before = branch(x)
    branch.keep(index)
    torch.testing.assert_close(branch(x[:, index]), before[:, index])
    assert branch.norm.num_features == 3


# ----------------------------------------------------------------------------------- correlation


def small(weight: list[list[float]], dim: int = 1) -> tuple[nn.Conv2d, CorrelationBranch]:
    rows = torch.tensor(weight)
    conv = nn.Conv2d(rows.shape[1], len(rows), 1, bias=False)
    conv.weight.data = rows[:, :, None, None]
    return conv, CorrelationBranch(conv, dim)


def test_correlation_gates_by_hand() -> None:
    conv, branch = small([[3.0, 0.0], [0.0, 5.0]])  # directions (1, 0) and (0, 1)
    branch.query.data, branch.key.data = torch.tensor([[math.log(3), 0.0]]), torch.tensor([[1.0, 0.0]])
    # scores ln 3, 0 and 0, 0: rows 3/4, 1/4 and 1/2, 1/2
    x = torch.randn(5, 2, 3, 3)
    torch.testing.assert_close(branch(x), torch.tensor([0.5, 0.25])[None, :, None, None].expand(5, -1, 1, 1))
    branch.query.data *= 2**0.5  # two equal dimensions, each with half of the score, over sqrt 2
    branch.query = nn.Parameter(branch.query.detach().repeat(2, 1) / 2)
    branch.key = nn.Parameter(branch.key.detach().repeat(2, 1))
    torch.testing.assert_close(branch.received(), torch.tensor([0.5, 0.25]))
    conv.weight.data[0] *= 7  # the length of a filter says nothing
    torch.testing.assert_close(branch.received(), torch.tensor([0.5, 0.25]))


def test_correlation_gates_start_near_one() -> None:
    torch.manual_seed(0)
    branch = CorrelationBranch(nn.Conv2d(32, 64, 3), 16)
    assert (branch.received() - 63 / 64).abs().max() < 0.02
    assert len(branch.received().unique()) > 32


def test_correlation_dim_is_checked() -> None:
    with pytest.raises(RsPruneError, match=r"attention.dim=0: must be at least 1"):
        Correlation(dim=0)


def test_gradients_reach_the_projections_and_the_filters() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3)
    branch = CorrelationBranch(conv, 4)
    (branch(torch.randn(2, 8, 1, 1)) * torch.randn(1, 8, 1, 1)).sum().backward()
    for parameter in (branch.query, branch.key, conv.weight):
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0


def test_the_convolution_is_no_part_of_the_branch() -> None:
    net, graph = gated(Correlation())
    assert set(dict(CorrelationBranch(nn.Conv2d(3, 8, 3), 4).named_parameters())) == {"query", "key"}
    assert not any("branch.conv" in key or "last" in key for key in net.state_dict())
    assert len(list(net.parameters())) == len({id(parameter) for parameter in net.parameters()})
    places = [place for group in graph.places() for place in group]
    for place in places:
        branch = net.get_submodule(place.layer).branch
        assert branch.__dict__["conv"] is net.get_submodule(place.conv)


@pytest.mark.parametrize("take", [copy.deepcopy, bake])
def test_a_copys_branches_look_at_the_copys_filters(take: Any) -> None:
    net, graph = gated(Correlation())
    other = take(net)
    before = net(images())
    for place in [place for group in graph.places() for place in group]:
        conv = other.get_submodule(place.conv)
        assert other.get_submodule(place.layer).branch.__dict__["conv"] is conv
        assert conv is not net.get_submodule(place.conv)
        conv.weight.data.normal_()
    assert torch.equal(net(images()), before)
    changed = dict(gates(other))
    for name, gate in gates(net):
        assert not torch.equal(changed[name].branch.received(), gate.branch.received())


def test_a_gated_convolution_keeps_its_branch() -> None:
    """Where no norm follows, the convolution moves into the gate; the branch still knows it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3))
    net = nn.Sequential(net, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    graph = trace(net, EXAMPLE)
    attach(net, graph.places(), Correlation())
    first = net.get_submodule("0.0")
    assert isinstance(first, Gated)
    for one in (net, copy.deepcopy(net)):
        gate = one.get_submodule("0.0")
        assert gate.branch.__dict__["conv"] is gate.inner
    observe(net, [{"image": images()}])
    small, kept = cut(net, graph)
    assert small.get_submodule("0.0").branch.received().shape == (len(kept["0.0"]),)
    assert torch.isfinite(small(images())).all()


def test_folding_learned_correlation_is_exact() -> None:
    net, _ = gated(Correlation())
    observe(net, [{"image": images()}])
    with torch.no_grad():
        torch.testing.assert_close(detach(net)(images()), net(images()), rtol=1e-4, atol=1e-5)


def test_a_cut_freezes_the_gates_as_trained_parameters() -> None:
    net, graph = gated(Correlation())
    observe(net, [{"image": images()}])
    before = {name: gate.branch.received().detach() for name, gate in gates(net)}
    small, kept = cut(net, graph)
    for name, gate in gates(small):
        assert list(dict(gate.branch.named_parameters())) == ["frozen"]
        assert torch.equal(gate.branch.received(), before[name][kept[name]])
    F.cross_entropy(small(images()), torch.arange(4)).backward()
    assert all(gate.branch.frozen.grad.abs().sum() > 0 for _, gate in gates(small))
    with torch.no_grad():
        for _, gate in gates(small):
            gate.branch.frozen += 1
    smaller, kept_again = cut(small, trace(bare(small), EXAMPLE))
    for name, gate in gates(smaller):
        expected = before[name][kept[name]][kept_again[name]] + 1
        assert torch.equal(gate.branch.received(), expected)
        torch.testing.assert_close(gate.branch(torch.zeros(1, len(expected), 1, 1)).flatten(), expected)


def test_a_cut_before_any_forward_pass_is_refused() -> None:
    _, branch = small([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    with pytest.raises(RsPruneError, match="attention=correlation: no gate was computed before the cut; run the net"):
        branch.keep(torch.tensor([0, 1]))
    branch(torch.zeros(1, 3, 1, 1))
    branch.keep(torch.tensor([0, 1]))


def test_gates_are_held_where_only_inputs_went() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3)
    branch = CorrelationBranch(conv, 2)
    x = torch.zeros(2, 6, 1, 1)
    before = branch(x).detach().clone()
    conv.weight = nn.Parameter(conv.weight.detach()[:, [0, 2]])
    for _ in range(2):
        assert torch.equal(branch(x), before)
    branch.keep(torch.tensor([5, 1]))
    assert torch.equal(branch(x[:, :2]), before[:, [5, 1]])
    with pytest.raises(RsPruneError, match="run the net once"):
        unseen = CorrelationBranch(nn.Conv2d(4, 6, 3), 2)
        unseen.__dict__["conv"] = conv
        unseen(x)


def test_the_gates_survive_validation_in_inference_mode() -> None:
    net, graph = gated(Correlation())
    with torch.inference_mode():
        net(images())
    small, _ = cut(copy.deepcopy(net), graph)
    F.cross_entropy(small.train()(images()), torch.arange(4)).backward()
    assert all(gate.branch.frozen.grad is not None for _, gate in gates(small))
    F.cross_entropy(net.train()(images()), torch.arange(4)).backward()


# ------------------------------------------------------------------ what every attention holds to


@pytest.fixture(scope="module", params=ATTENTIONS)
def case(request: pytest.FixtureRequest) -> Iterator[SimpleNamespace]:
    torch.set_num_threads(1)
    net, graph = gated(build(request.param))
    observe(net, [{"image": images()}])
    yield SimpleNamespace(name=request.param, net=net, graph=graph)


def test_every_attention_is_found() -> None:
    assert {"se", "eca", "cbam", "correlation"} <= set(ATTENTIONS)


def test_every_attention_gates_every_place(case: Any) -> None:
    places = {place.layer: place.channels for group in case.graph.places() for place in group}
    found = dict(gates(case.net))
    assert set(found) == set(places)
    for name, gate in found.items():
        values = gate.branch(torch.randn(3, places[name], 4, 4, generator=torch.Generator().manual_seed(2)))
        assert values.shape == (3, places[name], 1, 1)
        assert torch.isfinite(values).all()
        assert gate.mean.shape == (places[name],)


def test_every_attention_trains(case: Any) -> None:
    net = copy.deepcopy(case.net).train()
    F.cross_entropy(net(images()), torch.arange(4)).backward()
    for name, gate in gates(net):
        for key, parameter in gate.branch.named_parameters():
            assert parameter.grad is not None, f"{name}.{key}"


def test_every_attention_is_cut_with_the_net(case: Any) -> None:
    before = {key: value.clone() for key, value in case.net.state_dict().items()}
    small, kept = cut(case.net, case.graph)
    for name, gate in gates(small):
        assert torch.equal(gate.mean, dict(gates(case.net))[name].mean[kept[name]])
    logits = small(images())
    assert torch.isfinite(logits).all()
    F.cross_entropy(small.train()(images()), torch.arange(4)).backward()
    assert torch.isfinite(detach(small)(images())).all()
    again, _ = cut(small, trace(bare(small), EXAMPLE))
    assert torch.isfinite(again.eval()(images())).all()
    assert all(torch.equal(value, before[key]) for key, value in case.net.state_dict().items())


def test_every_attention_comes_back_from_its_state(case: Any) -> None:
    other, _ = gated(build(case.name))
    for parameter in other.parameters():
        parameter.data.add_(1)
    other.load_state_dict(case.net.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(other(images()), case.net(images()))
