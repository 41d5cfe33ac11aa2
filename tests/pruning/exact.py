"""What it means that a cut was exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rs_prune.contracts import Group, Plan
from rs_prune.pruning.graph import Graph
from rs_prune.pruning.surgery import mask_error, remove

TOLERANCE = 1e-4


@contextmanager
def zeroed_inputs(net: nn.Module, plan: Plan, groups: tuple[Group, ...]) -> Iterator[nn.Module]:
    """The net as it is, except that whoever reads a planned channel reads zero: masking by another road.

    Norms over the channels take their statistics over those that stay.
    """
    by_name = {group.name: group for group in groups}
    norms = {name for name, module in net.named_modules() if isinstance(module, nn.LayerNorm)}
    handles = []
    normed: dict[str, list[int]] = {}
    for edit in plan.edits:
        for touched in by_name[edit.group].touched:
            gone = [place for channel in edit.channels for place in touched.index[channel]]
            if touched.side == "in":
                handles.append(net.get_submodule(touched.layer).register_forward_pre_hook(_zero(gone)))
            elif touched.layer in norms:
                normed.setdefault(touched.layer, []).extend(gone)
    handles += [net.get_submodule(layer).register_forward_hook(_over_the_rest(gone)) for layer, gone in normed.items()]
    try:
        yield net
    finally:
        for handle in handles:
            handle.remove()


def _zero(gone: list[int]) -> Callable[..., tuple[Tensor, ...]]:
    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        dim = -1 if isinstance(module, nn.Linear) else 1
        return (args[0].index_fill(dim, torch.tensor(gone, dtype=torch.int64), 0.0), *args[1:])

    return hook


def _over_the_rest(gone: list[int]) -> Callable[..., Tensor]:
    """A layer norm as sums over the channels that stay."""

    def hook(norm: nn.LayerNorm, args: tuple[Tensor, ...], _: Tensor) -> Tensor:
        x, dim = args[0], 1 if type(norm).__name__.startswith("LayerNorm2d") else -1
        shape = [-1 if place == dim % x.dim() else 1 for place in range(x.dim())]
        stays = torch.ones(x.shape[dim]).index_fill(0, torch.tensor(gone, dtype=torch.int64), 0.0).view(shape)
        mean = (x * stays).sum(dim, keepdim=True) / stays.sum()
        variance = ((x - mean).square() * stays).sum(dim, keepdim=True) / stays.sum()
        return (x - mean) / (variance + norm.eps).sqrt() * norm.weight.view(shape) + norm.bias.view(shape)

    return hook


@torch.no_grad()
def check_exact(net: nn.Module, plan: Plan, graph: Graph, images: Tensor) -> nn.Module:
    """Asserts removal == both kinds of masking; returns the smaller net."""
    before = net(images)
    error = mask_error(net, plan, graph.all, images, TOLERANCE)
    small = remove(net, plan, graph.all)
    with zeroed_inputs(net, plan, graph.all):
        expected = net(images)
    room = TOLERANCE * max(1.0, float(expected.abs().max()))
    assert float((small(images) - expected).abs().max()) <= room
    assert error <= room
    assert torch.equal(net(images), before)  # the net itself is left as it was
    if any(edit.channels for edit in plan.edits):  # the check has teeth: the cut shows in the logits
        assert float((expected - before).abs().max()) > 10 * room
    return small


def stale(net: nn.Module) -> list[str]:
    """Widths that a module notes and that its tensors contradict."""
    wrong = []
    for name, module in net.named_modules():
        notes: dict[str, int] = {}
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            notes["num_features"] = module.running_mean.shape[0]
            assert module.running_var.shape == module.running_mean.shape == module.weight.shape == module.bias.shape
        elif isinstance(module, nn.Conv2d):
            notes["out_channels"] = module.weight.shape[0]
            notes["in_channels"] = module.weight.shape[1] * module.groups
        elif isinstance(module, nn.LayerNorm):
            assert module.weight.shape == module.bias.shape == module.normalized_shape
        elif isinstance(module, nn.Linear):
            notes["out_features"], notes["in_features"] = module.weight.shape
        elif isinstance(getattr(module, "fc", None), (nn.Linear, nn.Conv2d)) and hasattr(module, "in_features"):
            first = getattr(getattr(module, "pre_logits", None), "fc", module.fc)
            notes["in_features"] = first.weight.shape[1]
        wrong += [
            f"{name}.{key}: {getattr(module, key)} is {width}"
            for key, width in notes.items()
            if getattr(module, key) != width
        ]
    return wrong
