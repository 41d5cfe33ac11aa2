"""Blocks: found by what they do, whatever they are called; out or zeroed, the net says the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from rs_prune.contracts import Cost, Plan, RemoveBlock, RemoveChannels
from rs_prune.errors import RsPruneError
from rs_prune.pruning.blocks import blocks, cheapest, groups_without
from rs_prune.pruning.cost import CostModel, measure
from rs_prune.pruning.graph import trace
from rs_prune.pruning.surgery import mask, mask_error, remove, replay

EXAMPLE = torch.zeros(1, 3, 32, 32)


class Wrapped(nn.Module):
    """x -> after(x + inner(x))."""

    def __init__(self, inner: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(inner, nn.BatchNorm2d(4))
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(x + self.inner(x))


def body(*parts: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def conv(inplace: bool = False) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace))


FOUND: dict[str, list[str]] = {
    "resnet18": ["layer1.0", "layer1.1", "layer2.1", "layer3.1", "layer4.1"],
    "resnet10t": ["layer1.0"],
    "mobilenetv2_050": [f"blocks.{place}" for place in (1.1, 2.1, 2.2, 3.1, 3.2, 3.3, 4.1, 4.2, 5.1, 5.2)],
    "efficientnet_b0": [f"blocks.{place}" for place in (1.1, 2.1, 3.1, 3.2, 4.1, 4.2, 5.1, 5.2, 5.3)],
    "convnext_atto": [f"stages.{stage}.blocks.{place}" for stage, count in enumerate((2, 2, 6, 2))
                      for place in range(count)],
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_blocks_of_known_nets(name: str) -> None:
    net = timm.create_model(name, num_classes=5).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert blocks(net, EXAMPLE) == tuple(FOUND[name])
    assert net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_nets_without_identity_shortcuts(chain: Any) -> None:
    assert blocks(timm.create_model("vgg11_bn", num_classes=5, mlp_ratio=1 / 64), EXAMPLE) == ()
    assert blocks(chain(4, 4, 4), EXAMPLE) == ()
    assert blocks(body(conv(), conv(True)), EXAMPLE) == ()


def test_a_relu_behind_the_sum_is_the_identity_only_on_what_a_relu_gave() -> None:
    """The block is the same; what comes before it decides."""
    assert blocks(body(nn.ReLU(), Wrapped(conv(), nn.ReLU())), EXAMPLE) == ("2",)
    assert blocks(body(Wrapped(conv(), nn.ReLU())), EXAMPLE) == ()
    assert blocks(body(Wrapped(conv(), nn.Identity())), EXAMPLE) == ("1",)
    assert blocks(body(nn.ReLU(), Wrapped(conv(), nn.SiLU())), EXAMPLE) == ()
    assert blocks(body(nn.ReLU(), Wrapped(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True))), EXAMPLE) == ("2",)


def test_the_innermost_blocks_count() -> None:
    inner = Wrapped(Wrapped(conv(), nn.Identity()), nn.Identity())
    stage = nn.Sequential(Wrapped(conv(), nn.Identity()), Wrapped(conv(), nn.Identity()))
    assert blocks(body(stage), EXAMPLE) == ("1.0", "1.1")
    assert blocks(body(inner), EXAMPLE) == ("1.inner.0",)


def test_a_block_that_runs_twice_is_none() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Conv2d(3, 4, 3)
            self.block = Wrapped(conv(), nn.Identity())
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.block(self.block(self.one(x))).mean((2, 3)))

    assert blocks(Twice(), EXAMPLE) == ()


# ---------------------------------------------------------------------------------------- removal


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "convnext_atto"])
@torch.no_grad()
def test_removal_equals_zero_parameters(name: str, make_net: Any, images: Callable[..., Tensor]) -> None:
    net, pictures = make_net(name), images(2, 32)
    names = blocks(net, EXAMPLE)
    groups = trace(net, EXAMPLE).groups
    gone = names[1::2]
    plan = Plan(tuple(RemoveBlock(block) for block in gone), Cost(macs=0, params=0, channels=0))
    assert mask_error(net, plan, groups, pictures) <= 1e-4
    small = remove(net, plan, groups)
    masked = mask(net, plan, groups)
    assert float((masked(pictures) - net(pictures)).abs().max()) > 1e-3  # the check has teeth
    assert all(isinstance(small.get_submodule(block), nn.Identity) for block in gone)
    assert all(not parameter.any() for block in gone for parameter in masked.get_submodule(block).parameters())
    left = CostModel(small, groups_without(groups, gone), EXAMPLE).dense()
    assert (left.macs, left.params) == measure(small, EXAMPLE)
    assert left.channels == sum(group.channels for group in trace(small, EXAMPLE).groups)


@torch.no_grad()
def test_blocks_and_channels_of_one_plan(make_net: Any, images: Callable[..., Tensor]) -> None:
    """Channels are numbered as in the net before the plan, even where a group's root lies in a block that goes."""
    net, pictures = make_net("resnet18"), images(2, 32)
    groups = trace(net, EXAMPLE).groups
    inner, stage = (next(g for g in groups if any(m.layer == layer for m in g.members)) for layer in
                    ("layer2.1.conv1", "layer2.1.conv2"))  # fmt: skip
    edits = (
        RemoveBlock("layer1.0"), RemoveBlock("layer2.1"),
        RemoveChannels(inner.name, (0, 5)), RemoveChannels(stage.name, (1, 2, 100)),
        RemoveChannels("conv1", (7,)), RemoveChannels("layer1.1.conv1", (3, 4)),
    )  # fmt: skip
    plan = Plan(edits, Cost(macs=0, params=0, channels=0))
    assert mask_error(net, plan, groups, pictures) <= 1e-4
    small = remove(net, plan, groups)
    assert small.layer2[0].conv2.weight.shape[0] == stage.channels - 3
    assert small.layer1[1].conv1.weight.shape == (62, 63, 3, 3)
    assert small.feature_info[2]["num_chs"] == stage.channels - 3
    stored = [plan.as_json()]
    assert [edit["edit"] for edit in stored[0]["edits"]] == ["RemoveBlock"] * 2 + ["RemoveChannels"] * 4
    rebuilt = replay(make_net("resnet18", seed=5), stored, EXAMPLE).eval()
    rebuilt.load_state_dict(small.state_dict(), strict=True)
    assert torch.equal(rebuilt(pictures), small(pictures))


def test_a_net_without_blocks_trains_on(make_net: Any, images: Callable[..., Tensor]) -> None:
    net = make_net("resnet18")
    plan = Plan((RemoveBlock("layer3.1"), RemoveBlock("layer4.1")), Cost(macs=0, params=0, channels=0))
    small = remove(net, plan, trace(net, EXAMPLE).groups).train()
    small(images(2, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in small.parameters())
    assert blocks(small, EXAMPLE) == ("layer1.0", "layer1.1", "layer2.1")


def test_a_block_that_is_not_there_is_named(make_net: Any) -> None:
    net = make_net("resnet18")
    plan = Plan((RemoveBlock("layer9.1"),), Cost(macs=0, params=0, channels=0))
    with pytest.raises(RsPruneError, match=r"no block layer9\.1; is this the net"):
        remove(net, plan, trace(net, EXAMPLE).groups)


def test_a_block_that_is_not_the_identity_is_refused_by_the_check(make_net: Any, images: Callable[..., Tensor]) -> None:
    net = make_net("resnet18")
    plan = Plan((RemoveBlock("layer1.1"), RemoveBlock("layer2.0")), Cost(macs=0, params=0, channels=0))
    with pytest.raises(RsPruneError, match=r"cannot be pruned exactly at layer layer2\.0: its removal breaks the net"):
        mask_error(net, plan, trace(net, EXAMPLE).groups, images(2, 32))


# -------------------------------------------------------------------------------------- the choice


def test_the_cheapest_set_by_hand() -> None:
    saves = {"a": 10, "b": 10, "c": 10, "d": 25}
    scores = {"a": 3.0, "b": 1.0, "c": 2.0, "d": 2.5}
    assert cheapest(saves, scores, 20, 25) == (["d"], True)  # 2.5; b and c together 3
    assert cheapest(saves, scores, 20, 24) == (["b", "c"], True)
    assert cheapest(saves, scores, 0, 0) == ([], True)
    assert cheapest(saves, scores, 11, 14) == (["b"], False)
    assert cheapest(saves, scores, 46, 49) == (["b", "c", "d"], False)
    assert cheapest({}, {}, 5, 6) == ([], False)


def test_the_cheapest_set_is_the_best_of_all() -> None:
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        saves = {str(place): int(torch.randint(1, 5, (1,), generator=draw)) for place in range(8)}
        scores = {name: float(torch.randn(1, generator=draw)) for name in saves}
        least = int(torch.randint(3, 15, (1,), generator=draw))
        every = [list(names) for count in range(9) for names in itertools.combinations(saves, count)]
        fits = [names for names in every if least <= sum(saves[name] for name in names) <= least + 1]
        best = min(fits, key=lambda names: sum(scores[name] for name in names))
        assert (lambda found: (sorted(found[0]), found[1]))(cheapest(saves, scores, least, least + 1)) == (best, True)
