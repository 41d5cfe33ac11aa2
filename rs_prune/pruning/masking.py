"""Masks: what is held at zero while a net trains.

A mask is a parametrization of a weight (PyTorch's `nn.utils.parametrize`): the weight that the net computes with is
original * mask, whatever the optimiser does to the original. It travels with the net through copies and
checkpoints, and is made permanent by `bake`.
"""

from __future__ import annotations

import base64
import copy
import math
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rs_prune.contracts import MaskWeights, Plan, RemoveBands, RemoveChannels
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.pruning.gate import inner
from rs_prune.pruning.graph import Graph
from rs_prune.pruning.layers import channel_dim, is_layer_norm, owner
from rs_prune.pruning.surgery import cuts

Masks = dict[tuple[str, str], Tensor]
"""(layer, `weight` or `bias`) -> True where it stays; of the parameter's shape."""


class Mask(nn.Module):
    """original * mask.

    Attributes:
        mask: Ones and zeros of the weight's shape.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, original: Tensor) -> Tensor:
        return original * self.mask


def hold(net: nn.Module, plan: Plan, graph: Graph) -> nn.Module:
    """A copy that holds what the plan removes at zero; masks that are there already are replaced where they overlap."""
    net = copy.deepcopy(net)
    set_masks(net, masks_of(net, plan, graph))
    return net


def masks_of(net: nn.Module, plan: Plan, graph: Graph) -> Masks:
    """The masks that stand for a plan: of single weights, or of every norm (or norm-free layer) that makes a channel.

    The masks of a channel plan cover every layer of every group, those that lose nothing too.

    Raises:
        DoesNotApply: When the plan removes blocks or bands, or channels that a norm over them mixes.
    """
    found: Masks = {}
    for edit in plan.edits:
        if isinstance(edit, MaskWeights):
            found[edit.layer, "weight"] = unpack(edit)
        elif not isinstance(edit, RemoveChannels):
            raise not_maskable(
                "granularity=bands: bands" if isinstance(edit, RemoveBands) else "granularity=layers: blocks"
            )
    if found:
        return found
    gone = cuts(plan, graph.all)
    for group in graph.all:
        for touched in group.touched:
            if touched.side != "out" or touched.layer in graph.norms:
                continue
            place, names = owner(net, touched.layer)
            index = torch.tensor(sorted(gone.get((touched.layer, "out"), ())), dtype=torch.int64)
            if len(index) and is_layer_norm(inner(net.get_submodule(place))):
                raise DoesNotApply(
                    f"model: {place} is a norm over its channels, which would see masked ones as zeros; choose a "
                    "schedule that removes, such as one_shot or iterative"
                )
            for name in names:
                value = getattr(inner(net.get_submodule(place)), name, None)
                if isinstance(value, Tensor):
                    keep = torch.ones(value.shape, dtype=torch.bool)
                    found[place, name] = keep.index_fill_(channel_dim(value, names), index, False)
    return found


def not_maskable(what: str) -> DoesNotApply:
    """The refusal to mask what can only be removed."""
    return DoesNotApply(f"{what} are removed, not masked; choose a schedule that removes, such as one_shot")


def set_masks(net: nn.Module, masks: Masks) -> None:
    """Sets masks in place; the first time a weight is masked its module is parametrized."""
    for (layer, name), keep in masks.items():
        module = inner(net.get_submodule(layer))
        value = getattr(module, name)
        keep = keep.to(value)
        if parametrize.is_parametrized(module, name):
            mask_in(module, name).mask.copy_(keep)
        else:
            parametrize.register_parametrization(module, name, Mask(keep))


def masks(net: nn.Module) -> Iterator[tuple[str, str, nn.Module, Mask]]:
    """Every mask of a net: the layer's name as plans say it, the parameter's name, the module, the mask."""
    for name, module in net.named_modules():
        if parametrize.is_parametrized(module) and isinstance(module.parametrizations, nn.ModuleDict):
            layer = name.removesuffix(".inner")
            for parameter in list(module.parametrizations):
                yield layer, parameter, module, mask_in(module, parameter)


def mask_in(module: nn.Module, name: str) -> Mask:
    parametrization: Any = module.parametrizations
    mask = parametrization[name][0]
    assert isinstance(mask, Mask)
    return mask


def original(module: nn.Module, name: str) -> Tensor | None:
    """The trained tensor behind a parameter, masked or not."""
    if parametrize.is_parametrized(module, name):
        parametrization: Any = module.parametrizations
        value = parametrization[name].original
    else:
        value = getattr(module, name)
    assert value is None or isinstance(value, Tensor)
    return value


def masked_channels(net: nn.Module, graph: Graph) -> tuple[RemoveChannels, ...]:
    """The channel edits that the net's masks stand for."""
    zero = {(layer, name): mask.mask == 0 for layer, name, _, mask in masks(net)}
    edits = []
    for group in graph.all:
        closed = torch.ones(group.channels, dtype=torch.bool)
        for touched in group.touched:
            if touched.side == "out" and touched.layer not in graph.norms:
                place, names = owner(net, touched.layer)
                for name in names:
                    if getattr(inner(net.get_submodule(place)), name, None) is None:
                        continue
                    gone = zero.get((place, name))
                    if gone is None:  # masks of single weights leave biases alone
                        closed[:] = False
                        break
                    gone = gone.movedim(channel_dim(gone, names), 0).flatten(1).all(1) if gone.dim() > 1 else gone
                    closed &= torch.stack([gone[list(positions)].all().cpu() for positions in touched.index])
        if closed.any():
            edits.append(RemoveChannels(group.name, tuple(closed.nonzero().flatten().tolist())))
    return tuple(edits)


def masked_weights(net: nn.Module) -> tuple[MaskWeights, ...]:
    """The weight edits that the net's masks stand for."""
    return tuple(
        pack(layer, mask.mask != 0)
        for layer, name, module, mask in masks(net)
        if name == "weight" and isinstance(module, (nn.Conv2d, nn.Linear))
    )


def check_masked(net: nn.Module, plans: Iterable[Plan]) -> None:
    """Checks that the weights of a baked net are zero where plans say so; of several masks of a layer the last counts.

    Raises:
        RsPruneError: Naming the layer that is not in the net, has another shape, or holds a weight that should be zero.
    """
    edits = {edit.layer: edit for plan in plans for edit in plan.edits if isinstance(edit, MaskWeights)}
    weights = dict(net.named_parameters())
    for edit in edits.values():
        keep, weight = unpack(edit), weights.get(f"{edit.layer}.weight")
        if weight is None or weight.shape != keep.shape:
            raise RsPruneError(f"plan: the net has no layer {edit.layer} with a weight of shape {tuple(keep.shape)}")
        if bool(weight[~keep].any()):
            raise RsPruneError(f"plan: layer {edit.layer} holds weights that the plan has taken out")


@torch.no_grad()
def bake(net: nn.Module) -> nn.Module:
    """A copy in which what was held at zero is zero, and nothing holds it any more."""
    net = copy.deepcopy(net)
    for module in [module for *_, module, _ in masks(net)]:
        if not parametrize.is_parametrized(module):
            continue  # its other parameter came first
        values = {name: getattr(module, name) for name in module.parametrizations}  # type: ignore[union-attr]
        # PyTorch's own remove_parametrizations deletes attributes of the class, which copies share.
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
        rest = dict(module._parameters)
        module._parameters.clear()  # so that a weight comes before its bias again
        for name, value in values.items():
            module.register_parameter(name, nn.Parameter(value))
        module._parameters.update(rest)
    return net


def pack(layer: str, keep: Tensor) -> MaskWeights:
    """A mask as a plan's edit."""
    bits = np.packbits(keep.cpu().numpy().astype(bool).ravel())
    return MaskWeights(layer, base64.b64encode(zlib.compress(bits.tobytes(), 9)).decode(), tuple(keep.shape))


def unpack(edit: MaskWeights) -> Tensor:
    """The mask of a plan's edit, True where the weight stays.

    Raises:
        RsPruneError: When the edit does not hold a mask of its shape.
    """
    count = math.prod(edit.shape)
    try:
        bits = np.frombuffer(zlib.decompress(base64.b64decode(edit.kept, validate=True)), np.uint8)
    except (ValueError, TypeError, zlib.error) as error:
        raise RsPruneError(f"plan: the mask of layer {edit.layer} cannot be read ({error})") from error
    if len(bits) != -(-count // 8):
        raise RsPruneError(f"plan: the mask of layer {edit.layer} is not one of shape {edit.shape}")
    return torch.from_numpy(np.unpackbits(bits, count=count).astype(bool).reshape(edit.shape))
