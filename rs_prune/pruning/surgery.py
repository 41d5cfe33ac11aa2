"""Removing and masking channels, and the check that the two agree."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from rs_prune.contracts import Edit, Group, MaskWeights, Plan, RemoveBands, RemoveBlock, RemoveChannels
from rs_prune.errors import RsPruneError
from rs_prune.pruning.bands import note_bands, removed_bands, take_bands, zero_bands
from rs_prune.pruning.blocks import inside, removed_blocks, take_out, zero_out
from rs_prune.pruning.gate import Gate, inner
from rs_prune.pruning.layers import BATCH_NORMS, LAYER_NORMS, channel_dim, is_layer_norm, owner, width

Cuts = dict[tuple[str, str], set[int]]
"""(layer, side) -> positions that go."""


def remove(net: nn.Module, plan: Plan, groups: Iterable[Group]) -> nn.Module:
    """A smaller copy of the net. Gates shrink with the layers they gate.

    Args:
        net: The net the plan was made for, gated or bare. Left as it was.
        plan: What goes.
        groups: The net's groups, as traced.

    Raises:
        RsPruneError: When the plan names a group or channel that the net does not have.
    """
    net = copy.deepcopy(net)
    cut(net, plan, groups)
    return net


def cut(net: nn.Module, plan: Plan, groups: Iterable[Group]) -> None:
    """Removes in place what `remove` removes from a copy."""
    take_out(net, removed_blocks(plan))
    note_bands(net, plan)
    sources = _feature_sources(net)
    for (layer, side), gone in cuts(plan, groups).items():
        _shrink(net, layer, side, gone)
    _refresh(net)
    for note, layer, side in sources:
        note["num_chs"] = _side_width(net, layer, side)


def mask(net: nn.Module, plan: Plan, groups: Iterable[Group]) -> nn.Module:
    """A copy of the same shape whose planned channels are zero in every layer that puts them out.

    A norm over the channels would see the zeros: it takes its statistics over the channels that stay. Of a planned
    block all parameters are zero.
    """
    net = copy.deepcopy(net)
    zero_out(net, removed_blocks(plan))
    zero_bands(net, removed_bands(plan))
    with torch.no_grad():
        for (layer, side), gone in cuts(plan, groups).items():
            if side == "in" or not gone:
                continue
            place, names = owner(net, layer)
            module = inner(net.get_submodule(place))
            if is_layer_norm(module):
                parent, _, leaf = place.rpartition(".")
                setattr(net.get_submodule(parent), leaf, KeptNorm(module, gone))
                continue
            index = torch.tensor(sorted(gone))
            for name in names:
                parameter = getattr(module, name)
                if isinstance(parameter, Tensor):
                    parameter.index_fill_(channel_dim(parameter, names), index.to(parameter.device), 0)
    return net


class KeptNorm(nn.Module):
    """A norm over some of the channels: their statistics alone count, and the others are zero."""

    def __init__(self, norm: nn.Module, gone: set[int]) -> None:
        super().__init__()
        self.norm = norm
        self.dim = LAYER_NORMS[type(norm)]
        self.kept = [channel for channel in range(width(norm)) if channel not in gone]

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(self.dim, -1)
        kept = x[..., self.kept]
        variance, mean = torch.var_mean(kept, -1, correction=0, keepdim=True)
        normal = (kept - mean) / (variance + self.norm.eps).sqrt()  # type: ignore[operator]
        if isinstance(self.norm.weight, Tensor):
            normal = normal * self.norm.weight[self.kept]
        if isinstance(self.norm.bias, Tensor):
            normal = normal + self.norm.bias[self.kept]
        out = torch.zeros_like(x)
        out[..., self.kept] = normal
        return out.movedim(-1, self.dim)


@torch.no_grad()
def mask_error(net: nn.Module, plan: Plan, groups: Iterable[Group], images: Tensor, tolerance: float = 1e-4) -> float:
    """Checks removal == masking on images; fp32, evaluation mode.

    Args:
        net: The bare net before the cut.
        plan: The plan to check.
        groups: The net's groups.
        images: (N, C, H, W) real images.
        tolerance: Largest difference allowed, relative to the largest logit where that exceeds 1.

    Returns:
        The maximum absolute difference of the logits.

    Raises:
        RsPruneError: When they differ by more, naming the group that causes it.
    """
    groups = tuple(groups)

    def difference(part: Plan) -> tuple[float, bool]:
        try:
            small = remove(net, part, groups).eval()(take_bands(images, part))
        except Exception as failure:  # shapes that no longer fit, or a net that checks its own
            if len(part.edits) > 1:
                return float("inf"), False  # which edit it is comes out below
            raise _refusal(net, _place(part.edits[0]), f"its removal breaks the net ({failure})") from failure
        masked = mask(net, part, groups).eval()(images)
        error = float((small - masked).abs().max())
        return error, error <= tolerance * max(1.0, float(masked.abs().max()))

    error, close = difference(plan)
    if close:
        return error
    for edit in plan.edits:
        alone, close = difference(Plan((edit,), plan.predicted))
        if not close:
            raise _refusal(net, _place(edit), f"its removal changes the logits by {alone:.2g} beyond masking")
    raise _refusal(net, _place(plan.edits[0]), f"removal differs from masking by {error:.2g}")


def cuts(plan: Plan, groups: Iterable[Group]) -> Cuts:
    """Every dimension that shrinks, with the positions that go; edits of one plan add up, but for removed blocks."""
    by_name = {group.name: group for group in groups}
    blocks = removed_blocks(plan)
    gone: Cuts = defaultdict(set)
    for layer, bands in removed_bands(plan).items():
        gone[layer, "in"].update(bands)
    for edit in plan.edits:
        if not isinstance(edit, RemoveChannels):
            continue
        group = by_name.get(edit.group)
        if group is None:
            raise RsPruneError(f"plan: the net has no group {edit.group}; is this the net it was made for?")
        if edit.channels and not 0 <= min(edit.channels) <= max(edit.channels) < group.channels:
            raise RsPruneError(f"plan: group {edit.group} has {group.channels} channels, not {max(edit.channels)}")
        for touched in group.touched:
            if inside(touched.layer, blocks):
                continue
            for channel in edit.channels:
                gone[touched.layer, touched.side].update(touched.index[channel])
    return gone


def replay(net: nn.Module, plans: Iterable[dict[str, object]], example: Tensor) -> nn.Module:
    """Applies plans in the order of their making, each to the net that the one before it left.

    Args:
        net: The bare dense net.
        plans: Plans as JSON (`Plan.as_json`).
        example: (1, C, H, W) input.
    """
    from rs_prune.pruning.graph import trace

    for stored in plans:
        plan = plan_from(stored)
        net = remove(net, plan, trace(net, example).all)
        example = take_bands(example, plan)
    return net


def plan_from(stored: dict[str, Any]) -> Plan:
    """A plan's edits from its JSON (`Plan.as_json`)."""
    edits = stored["edits"]
    if not isinstance(edits, list):
        raise TypeError("edits is not a list")
    return Plan(tuple(map(_edit, edits)), predicted=None)  # type: ignore[arg-type]


def _edit(edit: dict[str, Any]) -> Edit:
    kind = edit.get("edit", "RemoveChannels")
    if kind == "RemoveBlock":
        return RemoveBlock(edit["block"])
    if kind == "MaskWeights":
        return MaskWeights(edit["layer"], edit["kept"], tuple(edit["shape"]))
    if kind == "RemoveBands":
        return RemoveBands(edit["layer"], tuple(edit["bands"]))
    return RemoveChannels(edit["group"], tuple(edit["channels"]))


def _place(edit: Edit) -> str:
    if isinstance(edit, RemoveChannels):
        return edit.group
    return edit.block if isinstance(edit, RemoveBlock) else edit.layer


def _refusal(net: nn.Module, layer: str, why: str) -> RsPruneError:
    return RsPruneError(f"model: {type(net).__name__} cannot be pruned exactly at layer {layer}: {why}")


def _shrink(net: nn.Module, layer: str, side: str, gone: set[int]) -> None:
    place, names = owner(net, layer)
    module = net.get_submodule(place)
    target = inner(module)
    leading = getattr(target, names[0])
    if side == "in":
        names, dim, size = ("weight",), 1, int(leading.shape[1])
    elif isinstance(leading, Tensor):
        dim = channel_dim(leading, names)
        size = int(leading.shape[dim])
    else:
        dim, size = 0, width(target)  # a norm without scale and shift
    keep = torch.tensor([position for position in range(size) if position not in gone])
    if not len(keep):
        raise RsPruneError(f"plan: nothing would be left of layer {layer}")
    for name in names:
        _slice(target, name, dim, keep)
    if len(names) == 1 and side == "out":
        return  # a bare parameter
    if isinstance(target, BATCH_NORMS):
        for name in ("running_mean", "running_var"):
            buffer = getattr(target, name)
            if buffer is not None:
                setattr(target, name, buffer[keep.to(buffer.device)].clone())
        target.num_features = len(keep)
    elif isinstance(target, nn.LayerNorm):
        target.normalized_shape = (len(keep),)
    elif isinstance(target, nn.Linear):
        target.out_features, target.in_features = target.weight.shape
    elif isinstance(target, nn.Conv2d):
        if target.groups > 1:  # its inputs go with its outputs, conv-group by conv-group
            target.groups = target.groups * len(keep) // size
        target.out_channels = target.weight.shape[0]
        target.in_channels = target.weight.shape[1] * target.groups
    if isinstance(module, Gate) and side == module.side:
        module.keep(keep)


def _slice(module: nn.Module, name: str, dim: int, keep: Tensor) -> None:
    parameter = getattr(module, name)
    if parameter is not None:
        kept = parameter.detach().index_select(dim, keep.to(parameter.device))
        setattr(module, name, nn.Parameter(kept, requires_grad=parameter.requires_grad))


def _feature_sources(net: nn.Module) -> list[tuple[dict[str, object], str, str]]:
    """Timm's notes of feature widths, each with the layer and the side of it that decide it.

    That is the last layer inside or before the noted module; where a concatenation makes the features, the next
    layer, which takes them.
    """
    notes = getattr(net, "feature_info", None)
    layers = [
        name
        for name, module in net.named_modules()
        if isinstance(inner(module), (nn.Conv2d, nn.LayerNorm, *BATCH_NORMS))
    ]
    order = {name: place for place, (name, _) in enumerate(net.named_modules())}
    found = []
    for note in notes if isinstance(notes, list) else []:
        module = note["module"]
        ends = [name for name in order if name == module or name.startswith(f"{module}.")]
        if not ends:
            continue
        before = [(name, "out") for name in layers if order[name] <= order[ends[-1]]]
        after = [(name, "in") for name in layers if order[name] > order[ends[-1]]]
        for name, side in (*before[-1:], *after[:1]):
            if _side_width(net, name, side) == note["num_chs"]:
                found.append((note, name, side))
                break
    return found


def _side_width(net: nn.Module, layer: str, side: str) -> int:
    module = inner(net.get_submodule(layer))
    return module.in_channels if side == "in" and isinstance(module, nn.Conv2d) else width(module)


def _refresh(net: nn.Module) -> None:
    """Brings the widths that timm's nets note beside their layers up to date."""
    for module in net.modules():
        layer = getattr(module, "fc", None)
        if isinstance(layer, nn.Linear):
            first = getattr(getattr(module, "pre_logits", None), "fc", layer)
            _note(module, in_features=first.in_features, num_features=layer.in_features)
            if first is not layer:
                _note(module, hidden_size=layer.in_features)
    find = getattr(net, "get_classifier", None)
    classifier = find() if callable(find) else None
    hidden = getattr(classifier, "in_features", None) or getattr(classifier, "in_channels", None)
    if not isinstance(hidden, int):
        return
    features = hidden
    if (first := _first_of_head(net)) is not None:
        features = first.in_channels if isinstance(first, nn.Conv2d) else first.in_features
    _note(net, num_features=features, head_hidden_size=hidden)


def _first_of_head(net: nn.Module) -> nn.Conv2d | nn.Linear | None:
    """The layer between the features and the classifier, where timm's net has one."""
    places = ["pre_logits.fc1", "head.pre_logits.fc"]
    if not hasattr(net, "bn2"):
        places.append("conv_head")  # with a norm behind it, it still makes the features
    modules = dict(net.named_modules())
    return next((layer for place in places if isinstance(layer := modules.get(place), (nn.Conv2d, nn.Linear))), None)


def _note(module: nn.Module, **widths: int) -> None:
    """Sets the attributes that the module has."""
    for name, value in widths.items():
        if isinstance(getattr(module, name, None), int):
            setattr(module, name, value)
