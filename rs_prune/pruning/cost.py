"""What a net costs: measured on the net, and predicted for any cut without touching it.

1 MAC is one multiply-add (2 FLOPs). `macs` counts the convolutions and linear layers of one image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rs_prune.contracts import Cost, Group
from rs_prune.errors import RsPruneError
from rs_prune.pruning.layers import BATCH_NORMS, bare_parameters, is_layer_norm, width

Ints = NDArray[np.int64]


def checked_share(keep: float) -> float:
    """A budget's share, if it is one.

    Raises:
        RsPruneError: When it is no number above 0 and up to 1.
    """
    if not isinstance(keep, (int, float)) or not 0 < keep <= 1:
        raise RsPruneError(f"budget.keep={keep}: must be a number above 0 and up to 1, the share that stays")
    return float(keep)


@torch.no_grad()
def measure(net: nn.Module, example: Tensor) -> tuple[int, int]:
    """Multiply-adds of one image (PyTorch's FlopCounterMode / 2) and parameters of a net as it is."""
    training = net.training
    net.eval()
    with FlopCounterMode(display=False) as counter:
        net(example[:1])
    net.train(training)
    return counter.get_total_flops() // 2, sum(parameter.numel() for parameter in net.parameters())


@torch.no_grad()
def sparse(net: nn.Module, example: Tensor) -> tuple[int, int]:
    """Multiply-adds of one image and parameters of a bare net, those with a weight of zero left out.

    Only the weights of convolutions and linear layers count as left out when they are zero.
    """
    macs, params = measure(net, example)
    positions = _positions(net, example)
    for name, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            zeros = int((module.weight == 0).sum())
            params -= zeros
            macs -= zeros * positions.get(name, 0)
    return macs, params


class CostModel:
    """Exact costs of a bare net as a function of how many channels each group keeps.

    Every layer's width is linear in the kept counts, its cost a product of two widths, so a
    prediction takes two small matrix products, whatever the net's size.

    Args:
        net: The bare net the groups were traced on.
        groups: Its groups of filters.
        example: (1, C, H, W) input.
        hidden: Its groups of hidden units. They come after the others; `Cost.channels` counts filters only.

    Attributes:
        channels: (groups,) channels of each group; bundles where grouped convolutions tie channels together.
        names: The groups' names.
        positions: How often each convolution's kernel or linear layer's matrix is applied to one image, in the
            order in which they first run.
    """

    def __init__(self, net: nn.Module, groups: Sequence[Group], example: Tensor, hidden: Sequence[Group] = ()) -> None:
        each = [filters(group) // group.channels for group in groups]
        self._filters: Ints = np.array([*each, *[0] * len(hidden)], dtype=np.int64)
        groups = (*groups, *hidden)
        self.channels: Ints = np.array([group.channels for group in groups], dtype=np.int64)
        self.names = tuple(group.name for group in groups)
        self.example = example
        self.positions = positions = _positions(net, example)
        layers: dict[str, nn.Module | nn.Parameter] = {
            name: module
            for name, module in net.named_modules()
            if isinstance(module, (nn.Conv2d, nn.Linear, *BATCH_NORMS)) or is_layer_norm(module)
        }
        layers |= bare_parameters(net)
        rows = {name: row for row, name in enumerate(layers)}
        shape = (len(layers), len(groups))
        self._loss = {"out": np.zeros(shape, np.int64), "in": np.zeros(shape, np.int64)}
        for column, group in enumerate(groups):
            for touched in group.touched:
                self._loss[touched.side][rows[touched.layer], column] = len(touched.index[0])
        self._out: Ints = np.zeros(len(layers), np.int64)
        self._in: Ints = np.ones(len(layers), np.int64)
        self._taps: Ints = np.zeros(len(layers), np.int64)  # multiply-adds per (out, in) pair and image
        self._area: Ints = np.zeros(len(layers), np.int64)  # weights per (out, in) pair
        self._extra: Ints = np.zeros(len(layers), np.int64)  # parameters per out: bias, or a norm's affine
        for name, layer in layers.items():
            row = rows[name]
            if isinstance(layer, nn.Parameter):
                self._out[row], self._extra[row] = layer.numel(), 1
                continue
            self._out[row] = width(layer)
            if not isinstance(layer, (nn.Conv2d, nn.Linear)):
                self._extra[row] = (layer.weight is not None) + (layer.bias is not None)
                continue
            self._in[row] = layer.weight.shape[1]  # a group's inputs only
            self._area[row] = layer.weight[0, 0].numel()
            self._taps[row] = self._area[row] * positions.get(name, 0)
            self._extra[row] = int(layer.bias is not None)
        counted = int((self._out * self._in * self._area + self._out * self._extra).sum())
        self._rest = sum(parameter.numel() for parameter in net.parameters()) - counted

    def predict(self, kept: Ints) -> Cost:
        """The cost after each group keeps `kept` (groups,) of its channels."""
        removed = self.channels - kept
        out = self._out - self._loss["out"] @ removed
        into = self._in - self._loss["in"] @ removed
        pairs = out * into
        return Cost(
            macs=int((pairs * self._taps).sum()),
            params=int((pairs * self._area + out * self._extra).sum()) + self._rest,
            channels=int((self._filters * kept).sum()),
            bands=self.example.shape[1],
        )

    def expected_macs(self, kept: Tensor) -> Tensor:
        """Multiply-adds after each group keeps `kept` (groups,) channels, which may be fractions; differentiable."""

        def tensor(values: Ints) -> Tensor:
            return torch.from_numpy(values).double()

        removed = tensor(self.channels) - kept
        out = tensor(self._out) - tensor(self._loss["out"]) @ removed
        into = tensor(self._in) - tensor(self._loss["in"]) @ removed
        return (out * into * tensor(self._taps)).sum()

    def dense(self) -> Cost:
        return self.predict(self.channels)

    def saved(self) -> Mapping[str, float]:
        """Multiply-adds that the first channel to go saves, per group."""
        full = self.dense().macs
        unit = np.eye(len(self.channels), dtype=np.int64)
        return {
            name: float(full - self.predict(self.channels - unit[column]).macs)
            for column, name in enumerate(self.names)
        }


def filters(group: Group) -> int:
    """How many filters a group has: its channels, or those of its first member where they are bundles."""
    return len(group.members[0].index)


def _positions(net: nn.Module, example: Tensor) -> dict[str, int]:
    """How often each convolution's kernel or linear layer's matrix is applied to one image."""
    counts: dict[str, int] = {}
    handles = []
    for name, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):

            def note(layer: nn.Module, _: object, out: Tensor, name: str = name) -> None:
                channels = layer.weight.shape[0]  # type: ignore[index]
                counts[name] = counts.get(name, 0) + out[0].numel() // int(channels)

            handles.append(module.register_forward_hook(note))
    training = net.training
    net.eval()
    try:
        with torch.no_grad():
            net(example[:1])
    finally:
        for handle in handles:
            handle.remove()
        net.train(training)
    return counts
