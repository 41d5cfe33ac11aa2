"""What criteria measure on images: by hand, against PyTorch's own gradients, and what every measurement holds to."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from rs_prune.contracts import Branch
from rs_prune.errors import RsPruneError
from rs_prune.pruning.gate import Gated, bare
from rs_prune.pruning.measures import contributions, ranks, squared_gradients

FILES = sorted((Path(__file__).parents[2] / "conf" / "criterion").glob("*.yaml"))
NAMES = [path.stem for path in FILES if hasattr(get_object(OmegaConf.load(path)["_target_"]), "measure")]
LN3 = math.log(3)


class Tiny(nn.Module):
    """One band, two 1x1 filters with weights 2 and 1, their means as logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        self.conv.weight.data = torch.tensor([2.0, 1.0]).view(2, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3))


def batch(images: Tensor, *labels: int) -> list[dict[str, Tensor]]:
    return [{"image": images, "label": torch.tensor(labels), "index": torch.arange(len(labels))}]


# ------------------------------------------------------------------------------------- by hand


def test_contributions_by_hand() -> None:
    # two pixels of mean ln 3: logits 2 ln 3 and ln 3, probabilities 3/4 and 1/4
    images = torch.tensor([0.5 * LN3, 1.5 * LN3]).view(1, 1, 1, 2).repeat(2, 1, 1, 1)
    found = contributions(Tiny(), {"conv": "conv"}, batch(images, 1, 0))["conv"]
    expected = torch.tensor([[2 * LN3 * 0.75, LN3 * -0.75], [2 * LN3 * -0.25, LN3 * 0.25]])
    torch.testing.assert_close(found, expected)


def test_squared_gradients_by_hand() -> None:
    # gradients (p - y) ln 3: 3/4 and -3/4 for label 1, -1/4 and 1/4 for label 0
    images = torch.full((2, 1, 1, 1), LN3)
    found = squared_gradients(Tiny(), batch(images, 1, 0))["conv"]
    torch.testing.assert_close(found, torch.full((2, 1, 1, 1), (9 / 16 + 1 / 16) / 2 * LN3**2))


def test_ranks_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False))
    net[0].weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    images = torch.stack([torch.eye(4), torch.ones(4, 4), -torch.ones(4, 4), torch.eye(4) - 1])[:, None]
    # ranks after the ReLU, of the map 4, 1, 0, 0 and of its negative 0, 0, 1, 4
    assert ranks(net, {"0": "0"}, batch(images, 0, 0, 0, 0))["0"].tolist() == [5 / 4, 5 / 4]
    assert ranks(net, {"0": "0"}, batch(images[:2], 0, 0))["0"].tolist() == [5 / 2, 0]


def test_linear_layers_have_their_channels_last() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4))
    images = torch.randn(6, 3)
    sites = {"0": "0"}
    found = contributions(net, sites, batch(images, *range(4), 0, 1))["0"]
    assert found.shape == (6, 5)
    hidden = net[0](images).detach().requires_grad_()
    F.cross_entropy(net[2](hidden.relu()), torch.tensor([0, 1, 2, 3, 0, 1]), reduction="sum").backward()
    assert hidden.grad is not None
    torch.testing.assert_close(found, (hidden * hidden.grad).detach())
    active = (net[0](images) > 0).double().mean(0)
    torch.testing.assert_close(ranks(net, sites, batch(images, *range(4), 0, 1))["0"], active)

    class Last(nn.Module):  # channels last, as in ConvNeXt's blocks
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((1, 2))

    wide = nn.Sequential(net[0], Last(), net[2])
    assert contributions(wide, sites, batch(torch.randn(2, 4, 4, 3), 0, 1))["0"].shape == (2, 5)
    assert ranks(wide, sites, batch(torch.randn(2, 4, 4, 3), 0, 1))["0"].shape == (5,)


# ------------------------------------------------------------------- against PyTorch's gradients


def test_contributions_are_the_gradient_to_the_norms_affine_map(real: Any, batches: Any) -> None:
    """Molchanov et al. 2019 gate the norm's output: gamma dL/dgamma + beta dL/dbeta, here per image and summed."""
    net, graph = real("taylor")
    net = bare(net).double()
    looked = [{**one, "image": one["image"].double()} for one in batches(5)]
    found = contributions(net, graph.sites(), looked)
    for one in looked:
        F.cross_entropy(net(one["image"]), one["label"], reduction="sum").backward()
    checked = 0
    for layer, site in graph.sites().items():
        norm = net.get_submodule(site)
        if isinstance(norm, nn.BatchNorm2d):
            expected = norm.weight * norm.weight.grad + norm.bias * norm.bias.grad
            torch.testing.assert_close(found[layer].sum(0), expected.detach(), rtol=1e-8, atol=1e-10)
            checked += 1
    assert checked >= 5


def test_with_a_gate_the_gated_output_contributes() -> None:
    class Fixed(Branch):
        def gates(self, x: Tensor) -> Tensor:
            return torch.tensor([0.5, 1.0])[None, :, None, None].expand(len(x), -1, 1, 1)

    net = Tiny()
    net.conv = Gated(net.conv, Fixed())  # type: ignore[assignment]
    images = torch.full((1, 1, 1, 1), LN3)  # gated logits ln 3 and ln 3
    found = contributions(net, {"conv": "conv"}, batch(images, 0))["conv"]
    torch.testing.assert_close(found, torch.tensor([[-0.5 * LN3, 0.5 * LN3]]))


def test_squared_gradients_are_those_of_single_images(real: Any, batches: Any) -> None:
    net, _ = real("hessian_diag")
    found = squared_gradients(net, batches(5))
    own = {name for name, module in bare(net).named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    assert set(found) == own
    net = bare(net)
    found = squared_gradients(net, batches(5))
    expected = {name: torch.zeros_like(net.get_submodule(name).weight) for name in own}
    for one in batches(1):
        net.zero_grad()
        F.cross_entropy(net(one["image"]), one["label"]).backward()
        for name in own:
            expected[name] += net.get_submodule(name).weight.grad ** 2 / 10
    for name in own:
        torch.testing.assert_close(found[name], expected[name])


# ------------------------------------------------------------------- what every measurement holds to


def test_the_measuring_criteria_are_found() -> None:
    assert {"taylor", "attention_x_taylor", "hessian_diag", "hrank", "correlation_learned"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_measurement_covers_the_layers_and_does_not_depend_on_batches(
    name: str, build: Any, real: Any, batches: Any
) -> None:
    net, graph = real(name)
    criterion = build(name)
    assert isinstance(criterion.images, int)
    found = criterion.measure(net, graph.sites(), batches(5))
    gated = {layer for layer, site in graph.sites().items() if isinstance(net.get_submodule(site), Gated)}
    assert set(found) >= (gated if name == "correlation_learned" else set(graph.sites()))
    for layer, value in found.items():
        assert value.device.type == "cpu"
        assert torch.isfinite(value).all(), layer
        assert not value.requires_grad
    with torch.no_grad():
        again = criterion.measure(net, graph.sites(), batches(5))
    cut = criterion.measure(net, graph.sites(), batches(2))
    for layer, value in found.items():
        assert torch.equal(again[layer], value)
        torch.testing.assert_close(cut[layer], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_every_measurement_leaves_the_net_as_it_was(name: str, build: Any, real: Any, batches: Any) -> None:
    net, graph = copy.deepcopy(real(name))
    net.train()
    next(net.children()).eval()
    parameters = list(net.parameters())
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.ones_like(parameters[1])
    modes = [module.training for module in net.modules()]
    before = {key: value.clone() for key, value in net.state_dict().items()}
    draws = torch.get_rng_state()

    def failing() -> Any:
        yield next(batches(5))
        raise ValueError("the disk is gone")

    build(name).measure(net, graph.sites(), batches(5))
    if name != "correlation_learned":  # needs no image
        with pytest.raises(ValueError, match="the disk is gone"):
            build(name).measure(net, graph.sites(), failing())
        with pytest.raises(RsPruneError, match="no training images"):
            build(name).measure(net, graph.sites(), [])
    assert [module.training for module in net.modules()] == modes
    assert [parameter.requires_grad for parameter in parameters] == [False] + [True] * (len(parameters) - 1)
    assert [index for index, parameter in enumerate(parameters) if parameter.grad is not None] == [1]
    assert torch.equal(parameters[1].grad, torch.ones_like(parameters[1]))
    assert all(now is then for now, then in zip(net.parameters(), parameters, strict=True))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert torch.equal(torch.get_rng_state(), draws)


def test_learned_correlation_refuses_the_gates_of_other_attentions(build: Any, real: Any, batches: Any) -> None:
    net, graph = real("attention")
    assert build("correlation_learned").measure(net, graph.sites(), batches(5)) == {}
