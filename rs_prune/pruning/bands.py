"""The bands that a net reads: found, scored as one more group, and taken out for good."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rs_prune.contracts import Cost, Evidence, Group, LayerEvidence, Member, Plan, RemoveBands, Touched
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.pruning.cost import CostModel
from rs_prune.pruning.gate import INPUT, InputGated, inner

KEPT = "kept_bands"
"""Attribute of a net that has lost bands: the positions of those it still reads, among those it was made for."""


@torch.no_grad()
def stem(net: nn.Module, example: Tensor) -> str:
    """The convolution that reads the bands: the one layer with a weight that takes the net's input itself.

    Args:
        net: The bare net. Left as it was.
        example: (1, C, H, W) input.

    Raises:
        DoesNotApply: When no single ungrouped convolution does.
    """
    found: list[str] = []
    handles = []
    for name, module in net.named_modules():
        if not any(module.children()) and next(module.parameters(), None) is not None:

            def note(_: nn.Module, args: tuple[Tensor, ...], name: str = name) -> None:
                if args and args[0] is example:
                    found.append(name)

            handles.append(module.register_forward_pre_hook(note))
    training = net.training
    net.eval()
    try:
        net(example)
    finally:
        for handle in handles:
            handle.remove()
        net.train(training)
    layer = net.get_submodule(found[0]) if len(found) == 1 else None
    if not isinstance(layer, nn.Conv2d) or layer.groups > 1:
        raise DoesNotApply(
            f"model: {type(net).__name__} has no single convolution that reads the bands"
            + (f" (they go to {', '.join(found)})" if found else "")
        )
    return found[0]


def band_group(net: nn.Module, layer: str) -> Group:
    """The bands as a group of their own, scored as the layer `input`.

    Args:
        net: The bare net.
        layer: The convolution that reads them.
    """
    bands = tuple(range(_conv(net, layer).in_channels))
    touched = Touched(layer, "in", tuple((band,) for band in bands))
    return Group(INPUT, len(bands), (Member(INPUT, bands),), (touched,))


def band_evidence(net: nn.Module, layer: str, *, seed: int, images: int, measured: Mapping[str, Tensor]) -> Evidence:
    """What criteria may look at of the bands: as filters, the weights that read each.

    Args:
        net: The net, gated or bare.
        layer: The convolution that reads the bands.
        seed: The run's seed.
        images: How many images the gates were observed on.
        measured: What the criterion itself measured, by layer; what it has for each weight of the convolution counts.
    """
    weight = _conv(net, layer).weight.detach().cpu()
    found = measured.get(INPUT)
    if found is None and layer in measured and measured[layer].shape == weight.shape:
        found = measured[layer].transpose(0, 1)
    gate = net.get_submodule(layer)
    known = LayerEvidence(
        weight=weight.transpose(0, 1),
        gate=gate.mean.cpu() if isinstance(gate, InputGated) else None,
        measured=found,
    )
    return Evidence(layers={INPUT: known}, seed=seed, images=images, weights={layer: weight})


def cost_without(net: nn.Module, cost: CostModel, layer: str, bands: int) -> Cost:
    """What the bare net takes after its convolution `layer` lost so many bands."""
    now, weight = cost.dense(), _conv(net, layer).weight
    less = bands * weight[:, 0].numel()
    return Cost(
        macs=now.macs - less * cost.positions[layer],
        params=now.params - less,
        channels=now.channels,
        bands=now.bands - bands,
    )


def removed_bands(plan: Plan) -> dict[str, set[int]]:
    """The convolutions that lose bands, with the positions that go."""
    gone: dict[str, set[int]] = defaultdict(set)
    for edit in plan.edits:
        if isinstance(edit, RemoveBands):
            gone[edit.layer].update(edit.bands)
    return gone


def kept_after(plan: Plan, bands: int) -> list[int]:
    """The positions that a plan leaves of so many bands."""
    gone = {band for some in removed_bands(plan).values() for band in some}
    return [band for band in range(bands) if band not in gone]


def take_bands(images: Tensor, plan: Plan) -> Tensor:
    """(N, C, H, W) images as the net after the plan reads them."""
    kept = kept_after(plan, images.shape[1])
    return images if len(kept) == images.shape[1] else images[:, kept]


def note_bands(net: nn.Module, plan: Plan) -> None:
    """Notes on a net which bands a plan leaves it, before they go; in place.

    Raises:
        RsPruneError: When the net has no such bands to lose.
    """
    for layer, gone in removed_bands(plan).items():
        try:
            bands = _conv(net, layer).in_channels
        except AttributeError:
            raise RsPruneError(f"plan: the net has no convolution {layer}; is this the net it was made for?") from None
        if gone and not 0 <= min(gone) <= max(gone) < bands:
            raise RsPruneError(f"plan: layer {layer} reads {bands} bands, and one that is to go is {max(gone)}")
        before = kept_bands(net) or tuple(range(bands))
        setattr(net, KEPT, tuple(before[band] for band in kept_after(plan, bands)))


def kept_bands(net: nn.Module) -> tuple[int, ...] | None:
    """Positions of the bands that a net still reads, among those it was made for; None: all of them."""
    return getattr(net, KEPT, None)


@torch.no_grad()
def zero_bands(net: nn.Module, bands: Mapping[str, set[int]]) -> None:
    """Sets to zero what reads these bands; in place."""
    for layer, gone in bands.items():
        weight = _conv(net, layer).weight
        weight.index_fill_(1, torch.tensor(sorted(gone), dtype=torch.int64, device=weight.device), 0)


def _conv(net: nn.Module, layer: str) -> nn.Conv2d:
    conv = inner(net.get_submodule(layer))
    if not isinstance(conv, nn.Conv2d):
        raise AttributeError(layer)
    return conv
