"""Nets whose every parameter matters, and the steps from a net to a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from rs_prune.attention.se import SE
from rs_prune.budget.channels import Channels as ChannelsBudget
from rs_prune.budget.macs import MACs
from rs_prune.budget.params import Params
from rs_prune.contracts import Plan, Scores
from rs_prune.pruning.cost import CostModel
from rs_prune.pruning.gate import attach, observe
from rs_prune.pruning.graph import Graph, trace
from rs_prune.pruning.planner import WINDOW, plan_channels
from rs_prune.scope.global_macs import GlobalMacs
from rs_prune.scope.local import Local

GlobalScope = __import__("rs_prune.scope.global", fromlist=["Global"]).Global
SCOPES = {"local": Local, "global": GlobalScope, "global_macs": GlobalMacs}
BUDGETS = {"macs": MACs, "params": Params, "channels": ChannelsBudget}
KWARGS: dict[str, dict[str, Any]] = {
    "resnet_narrow": {"name": "resnet10t", "stem_width": 16, "channels": [32, 64, 128, 256]},
    "vgg16_bn": {"name": "vgg16_bn", "mlp_ratio": 1 / 64},  # a thin head: 7x7x512x64 instead of 7x7x512x4096
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Gives every norm an affine map and statistics that show when a channel is missing or misplaced."""
    draw = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            shape = module.running_mean.shape
            if module.affine:
                module.weight.data = torch.rand(shape, generator=draw) + 0.5
                module.bias.data = torch.randn(shape, generator=draw) * 0.3
            module.running_mean.copy_(torch.randn(shape, generator=draw) * 0.3)
            module.running_var.copy_(torch.rand(shape, generator=draw) + 0.5)
        elif isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            module.bias.data = torch.randn(module.bias.shape, generator=draw) * 0.1
        if isinstance(getattr(module, "gamma", None), nn.Parameter):  # ConvNeXt's layer scale starts near zero
            module.gamma.data = torch.rand(module.gamma.shape, generator=draw) + 0.5
    return net.eval()


def _images(count: int = 3, size: int = 64, bands: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(count, bands, size, size, generator=torch.Generator().manual_seed(seed))


def _random_scores(graph: Graph, seed: int = 0) -> Scores:
    draw = torch.Generator().manual_seed(seed)
    return {group.name: torch.rand(group.channels, generator=draw, dtype=torch.float64) for group in graph.groups}


class _Chain(nn.Module):
    """conv (- norm) - ReLU, per width, then pooling and a linear head."""

    def __init__(self, widths: Sequence[int], norm: bool, bias: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((3, *widths), widths, strict=False):
            layers.append(nn.Conv2d(before, width, 3, padding=1, bias=bias))
            if norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU())
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


@pytest.fixture(scope="session")
def make_net() -> Callable[..., nn.Module]:
    """A fresh net with ten classes by the name of a preset or of timm; a function of (name, seed) alone."""

    def make(name: str, *, seed: int = 0, random: bool = True, **shape: Any) -> nn.Module:
        kwargs = {**KWARGS.get(name, {}), **shape}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = timm.create_model(kwargs.pop("name", name), num_classes=10, **kwargs)
        return _randomise(net, seed) if random else net

    return make


@pytest.fixture(scope="session")
def traced(make_net: Callable[..., nn.Module]) -> Callable[[str], SimpleNamespace]:
    """Net, graph and cost model by name, made once: nothing may change them, and a test says so."""
    made: dict[str, SimpleNamespace] = {}

    def get(name: str) -> SimpleNamespace:
        if name not in made:
            net, example = make_net(name), torch.zeros(1, 3, 64, 64)
            graph = trace(net, example)
            cost = CostModel(net, graph.groups, example)
            made[name] = SimpleNamespace(net=net, graph=graph, cost=cost, example=example)
        return made[name]

    return get


@pytest.fixture(scope="session")
def chain() -> Callable[..., nn.Module]:
    """A plain chain of convolutions with known widths."""

    def make(*widths: int, norm: bool = True, bias: bool = False) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = _Chain(widths, norm, bias)
        return _randomise(net)

    return make


@pytest.fixture(scope="session")
def randomise() -> Callable[..., nn.Module]:
    return _randomise


@pytest.fixture(scope="session")
def images() -> Callable[..., Tensor]:
    """Random images, a function of their arguments alone."""
    return _images


@pytest.fixture(scope="session")
def random_scores() -> Callable[..., Scores]:
    return _random_scores


@pytest.fixture(scope="session")
def plan() -> Callable[..., Plan]:
    """The planner, with the choices given by name and the scores drawn unless given."""

    def make(
        graph: Graph,
        cost: CostModel,
        keep: float,
        *,
        scope: str = "local",
        budget: str = "macs",
        scores: Scores | None = None,
        dense: int | None = None,
        min_channels: int = 2,
        round_to: int = 1,
    ) -> Plan:
        limit = BUDGETS[budget](keep=keep)
        full = limit(cost.dense()) if dense is None else dense
        return plan_channels(
            scores=_random_scores(graph) if scores is None else scores,
            groups=graph.groups,
            cost=cost,
            scope=SCOPES[scope](),
            budget=limit,
            target=keep * full,
            tolerance=WINDOW * full,
            min_channels=min_channels,
            round_to=round_to,
        )

    return make


@pytest.fixture
def gated(make_net: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """A net with attention attached, random where it would start at zero, and observed on random images."""

    def make(name: str = "resnet_narrow", attention: Any = None, *, shortcuts: bool = False) -> nn.Module:
        net = make_net(name)
        places = trace(net, torch.zeros(1, 3, 64, 64)).places(shortcuts=shortcuts)
        with torch.random.fork_rng():
            torch.manual_seed(7)
            attach(net, places, attention or SE())
        observe(net, [{"image": _images(4, seed=2)}, {"image": _images(3, seed=3)}])
        return net.eval()

    return make
