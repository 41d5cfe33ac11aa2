"""Observed nets with gates, ten labelled images, and what a criterion finds there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from rs_prune.contracts import Batch, Evidence
from rs_prune.pruning.gate import attach, bare, observe
from rs_prune.pruning.graph import Graph, trace
from rs_prune.pruning.scores import evidence

CONF = Path(__file__).parents[2] / "conf"
ATTENTION = {"correlation_learned": "correlation"}  # what a criterion reads; of the others any will do


@pytest.fixture(autouse=True, scope="session")
def _one_thread_from_the_start() -> None:
    torch.set_num_threads(1)


def _batches(size: int) -> Iterator[Batch]:
    draw = torch.Generator().manual_seed(3)
    images = torch.randn(10, 3, 32, 32, generator=draw)
    labels = torch.randint(4, (10,), generator=draw)
    for index in torch.arange(10).split(size):
        yield {"image": images[index], "label": labels[index], "index": index}


@cache
def _net(attention: str) -> tuple[nn.Module, Graph]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.create_model("test_resnet", num_classes=4).eval()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):  # timm starts some of them at zero
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias, std=0.3)
        places = trace(net, torch.zeros(1, 3, 32, 32)).places()
        attach(net, places, instantiate(OmegaConf.load(CONF / "attention" / f"{attention}.yaml"), _convert_="all"))
    observe(net, _batches(5))
    return net, trace(bare(net), torch.zeros(1, 3, 32, 32))


@pytest.fixture(scope="session")
def batches() -> Callable[[int], Iterator[Batch]]:
    """Ten labelled images in batches of a size."""
    return _batches


@pytest.fixture(scope="session")
def build() -> Callable[[str], Any]:
    """The criterion of a name, as its YAML has it."""

    def make(name: str) -> Any:
        return instantiate(OmegaConf.load(CONF / "criterion" / f"{name}.yaml"), _convert_="all")

    return make


@pytest.fixture(scope="session")
def real() -> Callable[[str], tuple[nn.Module, Graph]]:
    """A small net with the gates that a criterion can read, observed, and its graph. Nothing may change it."""
    return lambda name: _net(ATTENTION.get(name, "se"))


@pytest.fixture(scope="session")
def found(build: Callable[[str], Any]) -> Callable[[str], Evidence]:
    """The evidence that a criterion gets of its net."""

    @cache
    def look(name: str) -> Evidence:
        net, graph = _net(ATTENTION.get(name, "se"))
        measure = getattr(build(name), "measure", None)
        measured: dict[str, Tensor] = measure(net, graph.sites(), _batches(5)) if measure else {}
        return evidence(net, graph, seed=1, images=10, measured=measured)

    return look
