"""What a granularity plans from, put together for any net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from rs_prune.budget.channels import Channels as ChannelsBudget
from rs_prune.budget.macs import MACs
from rs_prune.budget.params import Params
from rs_prune.contracts import Sight
from rs_prune.criterion.l1 import L1
from rs_prune.pruning.cost import CostModel
from rs_prune.pruning.gate import bare
from rs_prune.pruning.graph import trace
from rs_prune.pruning.scores import evidence
from rs_prune.scope.global_macs import GlobalMacs
from rs_prune.scope.local import Local

GlobalScope = __import__("rs_prune.scope.global", fromlist=["Global"]).Global
SCOPES = {"local": Local, "global": GlobalScope, "global_macs": GlobalMacs}
BUDGETS = {"macs": MACs, "params": Params, "channels": ChannelsBudget}


def no_loss(net: nn.Module) -> float:
    raise AssertionError("the loss was not to be asked for")


@pytest.fixture(scope="session")
def sight() -> Callable[..., Sight]:
    """A sight of a net, gated or bare, with the choices given by name."""

    def make(
        net: nn.Module,
        keep: float,
        *,
        criterion: Any = None,
        scope: str = "local",
        budget: str = "params",
        size: int = 8,
        dense: int | None = None,
        step: float | None = None,
        loss: Callable[[nn.Module], float] = no_loss,
    ) -> Sight:
        example = torch.zeros(1, 3, size, size)
        plain = bare(net)
        graph = trace(plain, example)
        cost = CostModel(plain, graph.groups, example)
        limit = BUDGETS[budget](keep=keep)
        return Sight(
            net=plain,
            graph=graph,
            cost=cost,
            evidence=evidence(net, graph, seed=3, images=7),
            criterion=criterion or L1(),
            scope=SCOPES[scope](),
            budget=limit,
            dense=limit(cost.dense()) if dense is None else dense,
            keep=keep if step is None else step,
            loss=loss,
        )

    return make


class Chain(nn.Module):
    """Two convolutions of 3x3 with norms, pooling, a head: 108 + 288 + 40 weights, 24 + 5 other parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.two(self.one(x)).mean((2, 3)))


@pytest.fixture
def chain() -> nn.Module:
    """On 8x8 images it takes 64 * 108 + 64 * 288 + 40 = 25384 multiply-adds; it has 465 parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Chain().eval()
