"""Gates: where they sit, what observing and folding them means, and that copies are copies."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional as F

from rs_prune.attention.eca import ECA
from rs_prune.attention.none import NoAttention
from rs_prune.attention.se import SE, SEBranch
from rs_prune.contracts import Attention, Branch, Place
from rs_prune.errors import RsPruneError
from rs_prune.pruning.gate import Gated, attach, bare, detach, gates, observe
from rs_prune.pruning.graph import trace
from rs_prune.pruning.scores import evidence
from rs_prune.pruning.squeeze import SqueezeExcite

EXAMPLE = torch.zeros(1, 3, 64, 64)
NETS = ("resnet_narrow", "mobilenetv3_small_100", "test_efficientnet")


class Constant:
    """Attention without variation."""

    def __call__(self, places: Sequence[Place], net: nn.Module) -> list[Branch]:
        return [ConstantBranch(place.channels) for place in places]


class ConstantBranch(Branch):
    """The same gates for every image, all powers of two: products with them are exact in floating point."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("value", 2.0 ** -(torch.arange(channels) % 4 + 1).float())

    def gates(self, x: Tensor) -> Tensor:
        return self.value[None, :, None, None].expand(len(x), -1, 1, 1)


def state(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def assert_same_state(net: nn.Module, before: dict[str, Tensor]) -> None:
    after = net.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def channels_of(places: Sequence[Sequence[Place]]) -> dict[str, int]:
    """Layer -> channels, over all groups."""
    return {place.layer: place.channels for group in places for place in group}


def with_gates(net: nn.Module, attention: Attention, *, size: int = 64) -> nn.Module:
    attach(net, trace(net, torch.zeros(1, 3, size, size)).places(), attention)
    return net.eval()


# ----------------------------------------------------------------------------------- places


@pytest.mark.parametrize(("shortcuts", "count"), [(False, 17), (True, 20)])
def test_resnet18_has_the_published_gates(shortcuts: bool, count: int, make_net: Any) -> None:
    net = make_net("resnet18")
    places = trace(net, EXAMPLE).places(shortcuts=shortcuts)
    blocks = [f"layer{stage}.{block}.bn{norm}" for stage in (1, 2, 3, 4) for block in (0, 1) for norm in (1, 2)]
    projections = [f"layer{stage}.0.downsample.1" for stage in (2, 3, 4)]
    channels = channels_of(places)
    assert set(channels) == {"bn1", *blocks, *(projections if shortcuts else ())}
    order = list(dict(net.named_modules()))
    for group in places:
        assert len({place.group for place in group}) == 1
        assert [place.layer for place in group] == sorted((place.layer for place in group), key=order.index)
        assert all(place.conv in order and place.conv != place.layer for place in group)
    assert attach(net, places, SE()) == count
    assert [name for name, _ in gates(net)] == [name for name, module in net.named_modules() if name in channels]
    for name, gate in gates(net):
        assert isinstance(gate.inner, nn.BatchNorm2d)
        assert channels[name] == gate.inner.num_features
        assert gate.branch.mlp.squeeze.in_features == gate.inner.num_features


@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "test_efficientnet"])
def test_a_gate_sits_between_a_norm_and_its_own_activation(name: str, make_net: Any, images: Any) -> None:
    net = make_net(name)
    norms = {layer for layer, module in net.named_modules() if isinstance(module, BatchNormAct2d)}
    with_gates(net, SE())
    seen = dict(gates(net))
    assert norms == set(seen)
    acts = set()
    for layer, gate in seen.items():
        norm = gate.inner
        act = gate.after
        acts.add(type(act).__name__)
        x = images(2, 5, norm.num_features)
        plain = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        torch.testing.assert_close(gate(x), act(plain * gate.branch(plain)), msg=layer)
    assert {"Identity"} < acts  # both kinds occur: with an activation and without


def test_a_gate_multiplies_the_norm_before_the_relu(make_net: Any, images: Any) -> None:
    net = with_gates(make_net("resnet_narrow"), SE())
    block, x = net.layer1[0], images(2, 8, net.layer1[0].conv1.in_channels)
    norm = block.bn1.inner
    plain = F.batch_norm(block.conv1(x), norm.running_mean, norm.running_var, norm.weight, norm.bias)
    hidden = torch.relu(plain * block.bn1.branch(plain))
    norm = block.bn2.inner
    plain = F.batch_norm(block.conv2(hidden), norm.running_mean, norm.running_var, norm.weight, norm.bias)
    expected = torch.relu(plain * block.bn2.branch(plain) + (x if block.downsample is None else block.downsample(x)))
    torch.testing.assert_close(block(x), expected)
    assert (plain < 0).any()


def test_without_a_norm_the_convolution_itself_is_gated(chain: Any, images: Any) -> None:
    net = chain(6, 4, norm=False, bias=True)
    places = trace(net, torch.zeros(1, 3, 8, 8)).places()
    units = tuple(range(6))
    assert places == ((Place("body.0", units, "body.0", "body.0"),), (Place("body.2", units[:4], "body.2", "body.2"),))
    conv = net.body[0]
    with_gates(net, SE(), size=8)
    x = images(2, 8)
    torch.testing.assert_close(net.body[0](x), conv(x) * net.body[0].branch(conv(x)))


def test_the_norm_of_a_concatenation_is_not_the_convolutions_own() -> None:
    class Concat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1)
            self.norm, self.last, self.head = nn.BatchNorm2d(10), nn.Conv2d(10, 5, 3), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.norm(torch.cat([self.one(x), self.two(x)], 1)))
            return self.head(self.last(x).mean((2, 3)))

    places = trace(Concat(), torch.zeros(1, 3, 8, 8)).places()
    assert channels_of(places) == {"one": 4, "two": 6, "last": 5}


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_norm_that_is_not_the_only_reader_is_not_gated(norm_first: bool) -> None:
    """What reads the convolution beside the norm would see channels that no gate has touched."""

    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
            self.last, self.head = nn.Conv2d(4, 5, 3), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            x = self.norm(x) + torch.tanh(x) if norm_first else torch.tanh(x) + self.norm(x)
            return self.head(self.last(x).mean((2, 3)))

    assert channels_of(trace(Fork(), torch.zeros(1, 3, 8, 8)).places()) == {"conv": 4, "last": 5}


@pytest.mark.parametrize("name", NETS)
def test_other_layers_keep_their_names(name: str, make_net: Any) -> None:
    net = make_net(name)
    modules, keys = dict(net.named_modules()), set(net.state_dict())
    places = trace(net, EXAMPLE).places()
    attach(net, places, SE())
    layers = channels_of(places)
    for layer, module in modules.items():
        inside = any(layer == place or layer.startswith(f"{place}.") for place in layers)
        if not inside:
            assert net.get_submodule(layer) is module
    renamed = {
        key.replace(".inner.", ".") for key in net.state_dict() if ".branch." not in key and not key.endswith(".mean")
    }
    assert renamed == keys
    untouched = {key for key in keys if key.rpartition(".")[0] not in layers}
    assert untouched <= set(net.state_dict())


def test_no_attention_attaches_nothing(make_net: Any, images: Any) -> None:
    net = make_net("resnet_narrow")
    before = state(net)
    assert attach(net, trace(net, EXAMPLE).places(), NoAttention()) == 0
    assert_same_state(net, before)
    assert not list(gates(net))

    def unread() -> Any:
        raise AssertionError("nothing needs to be seen")
        yield

    assert observe(net, unread()) == 0
    assert torch.equal(detach(net)(images()), net(images()))


# ------------------------------------------------------------------------------ bare and fold


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_bare_restores_the_net_bit_for_bit(name: str, make_net: Any, images: Any) -> None:
    net = make_net(name)
    x, before = images(2), state(net)
    logits = net(x)
    with_gates(net, SE())
    gated_state, gated_logits = state(net), net(x)
    plain = bare(net)
    assert not torch.allclose(gated_logits, logits, atol=1e-3)
    assert torch.equal(plain(x), logits)
    assert_same_state(plain, before)
    assert_same_state(net, gated_state)
    assert torch.equal(net(x), gated_logits)
    assert not list(gates(plain))


@pytest.mark.parametrize("name", [*NETS, "chain without norms", "chain without norms or biases"])
@torch.no_grad()
def test_folding_a_constant_gate_is_exact(name: str, make_net: Any, chain: Any, images: Any) -> None:
    net = make_net(name) if name in NETS else chain(6, 4, norm=False, bias="or" not in name.split())
    plain = net(images(3))
    with_gates(net, Constant())
    assert len(list(gates(net))) >= 2
    gated = net(images(3))
    assert not torch.allclose(gated, plain, atol=1e-3)
    assert observe(net, [{"image": images(5, seed=4)}]) == 5
    folded = detach(net)
    assert not list(gates(folded))
    assert torch.equal(folded(images(3)), gated)


@torch.no_grad()
def test_folding_a_varying_gate_takes_its_mean(gated: Any) -> None:
    net = gated("resnet_narrow")
    folded = detach(net)
    for name, gate in gates(net):
        norm = folded.get_submodule(name)
        assert torch.equal(norm.weight, gate.inner.weight * gate.mean)
        assert torch.equal(norm.bias, gate.inner.bias * gate.mean)
        assert torch.equal(norm.running_var, gate.inner.running_var)
        assert gate.mean.std() > 0


@pytest.mark.parametrize("name", ["resnet_narrow", "mobilenetv3_small_100"])
@torch.no_grad()
def test_detach_leaves_the_gated_net_alone(name: str, gated: Any, images: Any) -> None:
    net = gated(name)
    before, logits, means = state(net), net(images()), [gate.mean.clone() for _, gate in gates(net)]
    folded = detach(net)
    for parameter in folded.parameters():
        parameter.fill_(0)
    assert_same_state(net, before)
    assert torch.equal(net(images()), logits)
    assert all(torch.equal(gate.mean, mean) for (_, gate), mean in zip(gates(net), means, strict=True))
    assert torch.equal(detach(net)(images()), detach(net)(images()))


@torch.no_grad()
def test_a_copy_has_branches_of_its_own(gated: Any, images: Any) -> None:
    net = gated("resnet_narrow")
    x = images()
    logits = net(x)
    twin = copy.deepcopy(net)
    assert torch.equal(twin(x), logits)
    for _, gate in gates(twin):
        gate.branch.mlp.excite.bias -= 3
    assert torch.equal(net(x), logits)
    assert not torch.allclose(twin(x), logits, atol=1e-3)
    for _, gate in gates(net):
        gate.branch.mlp.excite.bias -= 3
    assert torch.equal(twin(x), net(x))


def test_detach_before_observe_is_refused(make_net: Any) -> None:
    net = with_gates(make_net("resnet_narrow"), SE())
    with pytest.raises(RsPruneError, match="observe"):
        detach(net)


# ---------------------------------------------------------------------------------- observing


@pytest.mark.parametrize("attention", [SE(), ECA()], ids=["se", "eca"])
@torch.no_grad()
def test_observe_averages_over_samples(attention: Any, make_net: Any, images: Any) -> None:
    net = with_gates(make_net("resnet_narrow"), attention)
    x = images(11)
    seen: dict[str, list[Tensor]] = {name: [] for name, _ in gates(net)}
    handles = [
        gate.branch.register_forward_hook(lambda _, __, out, name=name: seen[name].append(out[:, :, 0, 0]))
        for name, gate in gates(net)
    ]
    for image in x:
        net(image[None])
    for handle in handles:
        handle.remove()
    expected = {name: torch.cat(rows).double().mean(0).float() for name, rows in seen.items()}
    assert all(len(rows) == 11 for rows in seen.values())
    for size in (1, 4, 11):  # 11 = 4 + 4 + 3: a mean of batch means would differ
        assert observe(net, [{"image": part} for part in x.split(size)]) == 11
        for name, gate in gates(net):
            torch.testing.assert_close(gate.mean, expected[name], atol=1e-6, rtol=1e-5)
    batches = torch.stack([seen["bn1"][0].mean(0), torch.cat(seen["bn1"][1:]).mean(0)]).mean(0)
    assert not torch.allclose(batches, expected["bn1"], atol=1e-6, rtol=1e-5)
    observe(net, [{"image": x[:4]}])  # forgets what was seen before
    torch.testing.assert_close(dict(gates(net))["bn1"].mean, torch.cat(seen["bn1"][:4]).mean(0), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_observe_looks_without_touching(training: bool, make_net: Any, images: Any) -> None:
    net = with_gates(make_net("resnet_narrow"), SE()).train(training)
    modes = []
    handle = net.bn1.inner.register_forward_pre_hook(
        lambda norm, _: modes.append((norm.training, torch.is_grad_enabled()))
    )
    before = state(net)
    observe(net, [{"image": images(4)}])
    handle.remove()
    assert modes == [(False, False)]
    assert_same_state(net, before)
    assert net.training is training
    assert all(module.training is training for module in net.modules())
    mean = net.bn1.mean.clone()
    net(images(4, seed=9))  # an ordinary pass is not counted
    assert torch.equal(net.bn1.mean, mean)


def test_evidence_holds_weight_scale_and_mean_gate(gated: Any) -> None:
    net = gated("resnet18")
    graph = trace(bare(net), EXAMPLE)
    found = evidence(net, graph, seed=3, images=7)
    assert (found.seed, found.images) == (3, 7)
    assert set(found.layers) == {member.layer for group in graph.all for member in group.members}
    layer = found.layers["layer2.0.conv1"]
    assert torch.equal(layer.weight, net.layer2[0].conv1.weight)
    assert torch.equal(layer.gamma, net.layer2[0].bn1.inner.weight)
    assert torch.equal(layer.gate, net.layer2[0].bn1.mean)
    shortcut = found.layers["layer2.0.downsample.0"]
    assert shortcut.gate is None
    assert torch.equal(shortcut.gamma, net.layer2[0].downsample[1].weight)
    assert not any(value.requires_grad for value in (layer.weight, layer.gamma, layer.gate))


def test_evidence_without_norms(chain: Any, images: Any) -> None:
    net = with_gates(chain(6, 4, norm=False, bias=True), SE(), size=8)
    observe(net, [{"image": images(2, 8)}])
    found = evidence(net, trace(bare(net), torch.zeros(1, 3, 8, 8)), seed=0, images=2)
    assert found.layers["body.0"].gamma is None
    assert torch.equal(found.layers["body.0"].gate, net.body[0].mean)
    assert torch.equal(found.layers["body.0"].weight, net.body[0].inner.weight)


# ---------------------------------------------------------------------------------- shrinking


@torch.no_grad()
def test_a_shrunken_se_branch_is_the_full_one_fed_with_zeros(images: Any) -> None:
    torch.manual_seed(0)
    full, index = SEBranch(SqueezeExcite(12, 5)), torch.tensor([0, 3, 4, 7, 11])
    x = images(3, 6, 12)
    fed = torch.zeros_like(x)
    fed[:, index] = x[:, index]
    small = copy.deepcopy(full)
    small.keep(index)
    torch.testing.assert_close(small(x[:, index]), full(fed)[:, index])
    assert small.mlp.squeeze.weight.shape == (5, 5)
    assert small.mlp.excite.weight.shape == (5, 5)
    assert (small.mlp.squeeze.in_features, small.mlp.excite.out_features) == (5, 5)
    assert small.mlp.squeeze.out_features == 5
    assert torch.equal(small.mlp.squeeze.bias, full.mlp.squeeze.bias)
    assert not torch.allclose(small(x[:, index]), full(x)[:, index])


def test_se_and_eca_by_hand(images: Any) -> None:
    torch.manual_seed(0)
    x = images(2, 4, 8)

    def one(attention: Attention, channels: int) -> Any:
        return attention([Place("norm", tuple(range(channels)), "group", "conv")], nn.Identity())[0]

    branch = one(SE(reduction=16, min_hidden=3), 8)
    hidden = torch.relu(x.mean((2, 3)) @ branch.mlp.squeeze.weight.T + branch.mlp.squeeze.bias)
    expected = torch.sigmoid(hidden @ branch.mlp.excite.weight.T + branch.mlp.excite.bias)
    torch.testing.assert_close(branch(x), expected[:, :, None, None])
    assert hidden.shape == (2, 3)
    assert one(SE(), 256).mlp.squeeze.out_features == 16

    branch = one(ECA(), 8)
    a, b, c = branch.conv.weight.flatten()
    padded = F.pad(x.mean((2, 3)), (1, 1))
    expected = torch.sigmoid(a * padded[:, :-2] + b * padded[:, 1:-1] + c * padded[:, 2:])
    torch.testing.assert_close(branch(x), expected[:, :, None, None])
    assert [one(ECA(), channels).conv.kernel_size[0] for channels in (8, 64, 256, 512)] == [3, 3, 5, 5]


def test_a_gate_shrinks_its_mean_with_its_branch() -> None:
    gate = Gated(nn.BatchNorm2d(6), SEBranch(SqueezeExcite(6, 4)))
    gate.keep(torch.tensor([1, 5]))  # before anything was observed
    assert len(gate.mean) == 0
    gate = Gated(nn.BatchNorm2d(6), SEBranch(SqueezeExcite(6, 4)))
    gate.mean = torch.arange(6.0)
    gate.keep(torch.tensor([1, 5]))
    assert gate.mean.tolist() == [1, 5]
    assert gate.branch.mlp.squeeze.in_features == 2


def test_gates_train_with_the_net_and_means_are_not_saved(gated: Any, images: Any) -> None:
    net = gated("resnet_narrow").train()
    assert not [name for name in net.state_dict() if name.endswith(".mean")]
    net(images(2)).sum().backward()
    assert all(p.grad is not None for _, gate in gates(net) for p in gate.branch.parameters())
