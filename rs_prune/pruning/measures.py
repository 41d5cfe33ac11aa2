"""What criteria measure on training images. Pure: the net is as it was afterwards, in every mode and flag."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rs_prune.contracts import Batch, Evidence, Group, Scores
from rs_prune.errors import RsPruneError
from rs_prune.pruning.gate import INPUT, gates, inner

CHUNK = 64  # images whose feature maps are held at once


def contributions(net: nn.Module, sites: Mapping[str, str], batches: Iterable[Batch]) -> dict[str, Tensor]:
    """First-order effect of every channel on every image's loss.

    A channel's contribution is the sum over pixels of y * dL/dy at the output y of the layer's site, with L the
    cross entropy of that image: the gradient to a factor of one on the channel. The net runs in evaluation mode, so
    images do not influence each other.

    Args:
        net: The net, gated or bare.
        sites: Prunable layer -> the module whose output its gate sits on, or would.
        batches: Training images and labels on the net's device.

    Returns:
        Layer -> (images, out), on the CPU.
    """
    found: dict[str, list[Tensor]] = {layer: [] for layer in sites}
    factors: dict[str, Tensor] = {}

    def scale(layer: str, module: nn.Module, y: Tensor) -> Tensor:
        if layer not in factors:
            shape = [len(y), *[1] * (y.dim() - 1)]
            dim = _channel_dim(module)
            shape[dim] = y.shape[dim]
            factors[layer] = torch.ones(shape, dtype=y.dtype, device=y.device, requires_grad=True)
        return y * factors[layer]

    with _undisturbed(net), _hooks(net, sites, scale), torch.enable_grad():
        net.requires_grad_(False)
        for images, labels in _chunks(batches, CHUNK):
            factors.clear()
            loss = F.cross_entropy(net(images), labels, reduction="sum")
            gradients = torch.autograd.grad(loss, [factors[layer] for layer in sites], materialize_grads=True)
            for layer, gradient in zip(sites, gradients, strict=True):
                found[layer].append(gradient.flatten(1).cpu())
    return {layer: torch.cat(parts) for layer, parts in found.items()}


def squared_gradients(net: nn.Module, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Mean over images of the square of every weight's gradient: the diagonal of the empirical Fisher information.

    The gradient is that of one image's cross entropy, in evaluation mode; images go through one by one.

    Args:
        net: The net, gated or bare; its convolutions and linear layers are meant, those of branches are not.
        batches: Training images and labels on the net's device.

    Returns:
        Layer -> the weight's shape, on the CPU.
    """
    branches = {part for _, gate in gates(net) for part in gate.branch.modules()}
    names = [
        name.removesuffix(".inner")
        for name, module in net.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module not in branches
    ]
    weights = [_weight(net, name) for name in names]
    total = [torch.zeros_like(weight) for weight in weights]
    count = 0
    with _undisturbed(net), torch.enable_grad():
        net.requires_grad_(False)
        for weight in weights:
            weight.requires_grad_(True)
        for image, label in _chunks(batches, 1):
            gradients = torch.autograd.grad(F.cross_entropy(net(image), label), weights, materialize_grads=True)
            for gradient, added in zip(gradients, total, strict=True):
                added.addcmul_(gradient, gradient)
            count += 1
    return {name: (added / count).cpu() for name, added in zip(names, total, strict=True)}


@torch.no_grad()
def ranks(net: nn.Module, sites: Mapping[str, str], batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Mean rank of every channel's feature map after a ReLU, in evaluation mode; images go through one by one.

    Args:
        net: The net, gated or bare.
        sites: Prunable layer -> the module whose output is looked at.
        batches: Training images on the net's device.

    Returns:
        Layer -> (out,), on the CPU. A linear layer's output counts as a map of one pixel.
    """
    total: dict[str, Tensor] = {}
    count = 0

    def add(layer: str, module: nn.Module, y: Tensor) -> None:
        maps = y.movedim(_channel_dim(module), 1).relu()
        maps = maps.reshape(*maps.shape[:2], maps.shape[2] if maps.dim() > 2 else 1, -1)
        total[layer] = torch.linalg.matrix_rank(maps.float()).sum(0) + total.get(layer, 0)

    with _undisturbed(net), _hooks(net, sites, add):
        for image, _ in _chunks(batches, 1):
            net(image)
            count += 1
    return {layer: total[layer].cpu().double() / count for layer in sites}


def joint(evidence: Evidence, groups: Sequence[Group], criterion: str) -> Scores:
    """Mean squared contribution of each group's channels: their members' contributions add up, image by image.

    Args:
        evidence: With what `contributions` measured.
        groups: The groups to score.
        criterion: Who asks, for the error.

    Returns:
        Group -> (channels,).
    """
    scores: Scores = {}
    for group in groups:
        parts = []
        for member in group.members:
            found = measured(evidence, member.layer, criterion).double()[:, list(member.index)]
            parts.append(found.view(len(found), group.channels, -1).sum(2))
        scores[group.name] = torch.stack(parts).sum(0).square().mean(0)
    return scores


def measured(evidence: Evidence, layer: str, criterion: str) -> Tensor:
    """What the criterion measured for a layer.

    Raises:
        RsPruneError: When it measured nothing there.
    """
    value = evidence.layers[layer].measured
    if value is None:
        raise RsPruneError(
            f"criterion={criterion}: nothing was measured for layer {layer}; "
            "give evidence(...) what the criterion's measure(...) returns"
        )
    return value


def checked_images(images: int) -> int:
    """A criterion's number of images, if it is one.

    Raises:
        RsPruneError: When it is no whole number of at least 1.
    """
    if not isinstance(images, int) or isinstance(images, bool) or images < 1:
        raise RsPruneError(f"criterion.images={images}: must be a whole number of at least 1")
    return images


@contextmanager
def _undisturbed(net: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; every module's mode and every parameter's flag as before afterwards."""
    modes = [(module, module.training) for module in net.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in net.parameters()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def _hooks(
    net: nn.Module, sites: Mapping[str, str], look: Callable[[str, nn.Module, Tensor], Tensor | None]
) -> Iterator[None]:
    """While inside, `look` gets every site's output, and replaces it where it returns a tensor.

    The site of the layer `input` is the convolution that reads the bands; there it is the (gated) input.
    """
    handles = []
    try:
        for layer, site in sites.items():

            def hook(module: nn.Module, _: object, y: Tensor, layer: str = layer) -> Tensor | None:
                return look(layer, inner(module), y)

            def before(module: nn.Module, args: tuple[Tensor, ...], layer: str = layer) -> Tensor | None:
                return look(layer, module, args[0])

            if layer == INPUT:
                handles.append(inner(net.get_submodule(site)).register_forward_pre_hook(before))
            else:
                handles.append(net.get_submodule(site).register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _chunks(batches: Iterable[Batch], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    seen = False
    for batch in batches:
        for images, labels in zip(torch.split(batch["image"], size), torch.split(batch["label"], size), strict=True):
            seen = True
            yield images, labels
    if not seen:
        raise RsPruneError("criterion: there are no training images to measure on")


def _channel_dim(module: nn.Module) -> int:
    return -1 if isinstance(module, nn.Linear) else 1


def _weight(net: nn.Module, layer: str) -> Tensor:
    weight = inner(net.get_submodule(layer)).weight
    assert isinstance(weight, Tensor)
    return weight
