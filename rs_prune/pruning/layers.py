"""Which layers can lose channels, and along which of their dimensions."""

from __future__ import annotations

from collections.abc import Iterator

import timm.layers
from torch import Tensor, nn

BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)
LAYER_NORMS: dict[type[nn.Module], int] = {
    nn.LayerNorm: -1,
    timm.layers.LayerNorm: -1,
    timm.layers.LayerNormFp32: -1,
    timm.layers.LayerNorm2d: 1,
    timm.layers.LayerNorm2dFp32: 1,
}
"""Norms over the channels alone -> the dimension of their input that the channels are."""


def is_layer_norm(module: nn.Module) -> bool:
    """Whether a module is a norm over the channels, and over nothing else."""
    return type(module) in LAYER_NORMS and isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1


def is_cuttable(module: nn.Module) -> bool:
    """Whether surgery can take single channels out of a module."""
    return isinstance(module, (nn.Conv2d, nn.Linear, *BATCH_NORMS)) or is_layer_norm(module)


def is_vector(parameter: nn.Parameter) -> bool:
    """Whether a bare parameter holds one value per channel: (C,), (C, 1, 1) or the like."""
    return parameter.numel() == max(parameter.shape, default=0)


def bare_parameters(net: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Name and value of the parameters that belong to no layer that can be cut by itself."""
    for name, module in net.named_modules():
        if not is_cuttable(module):
            yield from module.named_parameters(prefix=name, recurse=False)


def owner(net: nn.Module, layer: str) -> tuple[str, tuple[str, ...]]:
    """The module that a layer's name means, and its parameters along the output channels.

    A name is that of a module (weight and bias), or of a bare parameter (of the module around it).
    """
    parent, _, leaf = layer.rpartition(".")
    if isinstance(getattr(net.get_submodule(parent), leaf), nn.Module):
        return layer, ("weight", "bias")
    return parent, (leaf,)


def channel_dim(parameter: Tensor, names: tuple[str, ...]) -> int:
    """The dimension of a parameter that the channels are: of a bare one the only one that is longer than one."""
    bare = len(names) == 1
    return max(range(parameter.dim()), key=lambda dim: parameter.shape[dim]) if bare else 0


def width(layer: nn.Module) -> int:
    """Output channels of a convolution, a linear layer or a norm."""
    if isinstance(layer, nn.LayerNorm):
        return layer.normalized_shape[-1]
    value = layer.num_features if isinstance(layer, BATCH_NORMS) else layer.weight.shape[0]  # type: ignore[index]
    assert isinstance(value, int)
    return value
