"""Removing and masking channels, and the check that the two agree."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from rs_prune.contracts import Group, Plan, RemoveChannels
from rs_prune.errors import RsPruneError
from rs_prune.pruning.gate import Gated, inner

NORMS = (nn.modules.batchnorm._BatchNorm,)
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
    sources = _feature_sources(net)
    for (layer, side), gone in cuts(plan, groups).items():
        _shrink(net, layer, side, gone)
    _refresh(net)
    for note, layer in sources:
        note["num_chs"] = _width(inner(net.get_submodule(layer)))


def mask(net: nn.Module, plan: Plan, groups: Iterable[Group]) -> nn.Module:
    """A copy of the same shape whose planned channels are zero in every layer that puts them out."""
    net = copy.deepcopy(net)
    with torch.no_grad():
        for (layer, side), gone in cuts(plan, groups).items():
            if side == "out":
                module = inner(net.get_submodule(layer))
                index = torch.tensor(sorted(gone))
                for parameter in (module.weight, module.bias):
                    if isinstance(parameter, Tensor):
                        parameter[index] = 0
    return net


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
            small = remove(net, part, groups).eval()(images)
        except Exception as failure:  # shapes that no longer fit, or a net that checks its own
            if len(part.edits) > 1:
                return float("inf"), False  # which edit it is comes out below
            raise _refusal(net, part.edits[0].group, f"its removal breaks the net ({failure})") from failure
        masked = mask(net, part, groups).eval()(images)
        error = float((small - masked).abs().max())
        return error, error <= tolerance * max(1.0, float(masked.abs().max()))

    error, close = difference(plan)
    if close:
        return error
    for edit in plan.edits:
        alone, close = difference(Plan((edit,), plan.predicted))
        if not close:
            raise _refusal(net, edit.group, f"removing its channels changes the logits by {alone:.2g} beyond masking")
    raise _refusal(net, plan.edits[0].group, f"removal differs from masking by {error:.2g}")


def cuts(plan: Plan, groups: Iterable[Group]) -> Cuts:
    """Every dimension that shrinks, with the positions that go; edits of one plan add up."""
    by_name = {group.name: group for group in groups}
    gone: Cuts = defaultdict(set)
    for edit in plan.edits:
        group = by_name.get(edit.group)
        if group is None:
            raise RsPruneError(f"plan: the net has no group {edit.group}; is this the net it was made for?")
        if edit.channels and not 0 <= min(edit.channels) <= max(edit.channels) < group.channels:
            raise RsPruneError(f"plan: group {edit.group} has {group.channels} channels, not {max(edit.channels)}")
        for touched in group.touched:
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

    for plan in plans:
        edits = plan["edits"]
        if not isinstance(edits, list):
            raise TypeError("edits is not a list")
        typed = tuple(RemoveChannels(edit["group"], tuple(edit["channels"])) for edit in edits)
        net = remove(net, Plan(typed, predicted=None), trace(net, example).groups)  # type: ignore[arg-type]
    return net


def _refusal(net: nn.Module, layer: str, why: str) -> RsPruneError:
    return RsPruneError(f"model: {type(net).__name__} cannot be pruned exactly at layer {layer}: {why}")


def _shrink(net: nn.Module, layer: str, side: str, gone: set[int]) -> None:
    module = net.get_submodule(layer)
    target = inner(module)
    dim = 0 if side == "out" else 1
    width = target.num_features if isinstance(target, NORMS) else int(target.weight.shape[dim])  # type: ignore[index]
    keep = torch.tensor([position for position in range(width) if position not in gone])
    if not len(keep):
        raise RsPruneError(f"plan: nothing would be left of layer {layer}")
    if isinstance(target, NORMS):
        for name in ("weight", "bias"):
            _slice(target, name, 0, keep)
        for name in ("running_mean", "running_var"):
            buffer = getattr(target, name)
            if buffer is not None:
                setattr(target, name, buffer[keep.to(buffer.device)].clone())
        target.num_features = len(keep)
    elif side == "out":
        _slice(target, "weight", 0, keep)
        _slice(target, "bias", 0, keep)
        if isinstance(target, nn.Conv2d):
            target.out_channels = len(keep)
            if target.groups > 1:  # depthwise: a channel is its own input
                target.in_channels = target.groups = len(keep)
        elif isinstance(target, nn.Linear):
            target.out_features = len(keep)
    else:
        _slice(target, "weight", 1, keep)
        if isinstance(target, nn.Conv2d):
            target.in_channels = len(keep)
        elif isinstance(target, nn.Linear):
            target.in_features = len(keep)
    if isinstance(module, Gated) and side == "out":
        module.keep(keep)


def _slice(module: nn.Module, name: str, dim: int, keep: Tensor) -> None:
    parameter = getattr(module, name)
    if parameter is not None:
        kept = parameter.detach().index_select(dim, keep.to(parameter.device))
        setattr(module, name, nn.Parameter(kept, requires_grad=parameter.requires_grad))


def _feature_sources(net: nn.Module) -> list[tuple[dict[str, object], str]]:
    """Timm's notes of feature widths, each with the layer that decides it: the last one inside or before the module."""
    notes = getattr(net, "feature_info", None)
    layers = [name for name, module in net.named_modules() if isinstance(module, (nn.Conv2d, *NORMS))]
    order = {name: place for place, (name, _) in enumerate(net.named_modules())}
    found = []
    for note in notes if isinstance(notes, list) else []:
        module = note["module"]
        ends = [name for name in order if name == module or name.startswith(f"{module}.")]
        before = [name for name in layers if ends and order[name] <= order[ends[-1]]]
        if before and _width(net.get_submodule(before[-1])) == note["num_chs"]:
            found.append((note, before[-1]))
    return found


def _width(layer: nn.Module) -> int:
    """Output channels of a convolution or norm."""
    width = layer.num_features if isinstance(layer, NORMS) else layer.out_channels
    assert isinstance(width, int)
    return width


def _refresh(net: nn.Module) -> None:
    """Brings the widths that timm's nets note beside their layers up to date."""
    for module in net.modules():
        layer = getattr(module, "fc", None)
        if isinstance(layer, nn.Linear) and isinstance(getattr(module, "in_features", None), int):
            setattr(module, "in_features", layer.in_features)  # noqa: B010
    find = getattr(net, "get_classifier", None)
    classifier = find() if callable(find) else None
    hidden = getattr(classifier, "in_features", None) or getattr(classifier, "in_channels", None)
    if not isinstance(hidden, int):
        return
    features = hidden
    if getattr(net, "num_features", None) != getattr(net, "head_hidden_size", None):  # a hidden layer in between
        first = getattr(net, "conv_head", None) or getattr(getattr(net, "pre_logits", None), "fc1", None)
        features = first.in_channels if isinstance(first, nn.Conv2d) else hidden
    for name, width in (("num_features", features), ("head_hidden_size", hidden)):
        if isinstance(getattr(net, name, None), int):
            setattr(net, name, width)
