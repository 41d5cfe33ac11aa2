"""Gates: attached by swapping modules, observed on training samples, folded and removed.

A gate sits on the output of the norm that directly follows a prunable convolution, before the activation; where
no norm follows, on the convolution's own output. Forward hooks are never used: a hook survives `deepcopy` and
then calls the original's branch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rs_prune.contracts import Attention, Batch, Branch, Place
from rs_prune.errors import RsPruneError


class Gated(nn.Module):
    """`after(gate(x) * x)` with `x = inner(input)`.

    Attributes:
        inner: The norm or convolution whose output is gated. A norm with a built-in activation (timm's
            `BatchNormAct2d`) has lent that activation to `after`.
        branch: Computes the gates.
        after: What follows the gate, or None where the next module does.
        mean: (channels,) mean gate over the samples of the last `observe`; empty before.
    """

    mean: Tensor

    def __init__(self, inner: nn.Module, branch: Branch) -> None:
        super().__init__()
        self.inner = inner
        self.branch = branch
        self.after: nn.Module | None = None
        if isinstance(inner, nn.modules.batchnorm._BatchNorm) and isinstance(getattr(inner, "act", None), nn.Module):
            act = inner.act
            assert isinstance(act, nn.Module)
            self.after = act
            inner.act = nn.Identity()
        self.register_buffer("mean", torch.empty(0), persistent=False)
        self._sum: Tensor | None = None
        self._seen = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x)
        gate = self.branch(x)
        if self._sum is not None:
            self._sum += gate.detach().double().mean((2, 3)).sum(0)
            self._seen += len(gate)
        x = x * gate
        return x if self.after is None else self.after(x)

    def start(self, channels: int) -> None:
        self._sum = torch.zeros(channels, dtype=torch.float64, device=next(self.inner.parameters()).device)
        self._seen = 0

    def stop(self) -> None:
        if self._sum is not None and self._seen:
            self.mean = (self._sum / self._seen).float()
        self._sum = None

    def keep(self, index: Tensor) -> None:
        """Shrinks branch and mean to the channels in `index`; `inner` is the surgery's."""
        self.branch.keep(index)
        if len(self.mean):
            self.mean = self.mean[index]

    def folded(self) -> nn.Module:
        """The inner module with the mean gate multiplied into its affine parameters."""
        if not len(self.mean):
            raise RsPruneError("the gates were never observed; observe(net, batches) before detach(net)")
        fold(self.inner, self.mean)
        return self.bare()

    def bare(self) -> nn.Module:
        """The inner module as it was before the gate came, nothing folded."""
        if self.after is not None:
            self.inner.act = self.after
        return self.inner


@torch.no_grad()
def fold(module: nn.Module, gate: Tensor) -> None:
    """Multiplies a constant gate (channels,) into a norm's or convolution's affine parameters; in place."""
    for name in ("weight", "bias"):
        masks: Any = module.parametrizations if parametrize.is_parametrized(module, name) else None
        value = masks[name].original if masks else getattr(module, name)
        if isinstance(value, Tensor):
            value.mul_(gate.view(-1, *[1] * (value.dim() - 1)))


def inner(module: nn.Module) -> nn.Module:
    """The module itself, or what it gates."""
    return module.inner if isinstance(module, Gated) else module


def gates(net: nn.Module) -> Iterator[tuple[str, Gated]]:
    """Name and gate, in the order of definition. The name is that of the gated norm or convolution."""
    for name, module in net.named_modules():
        if isinstance(module, Gated):
            yield name, module


def attach(net: nn.Module, places: Iterable[Sequence[Place]], attention: Attention) -> int:
    """Swaps a gate in at every place where the attention wants one; in place.

    Args:
        net: The bare net.
        places: Where gates may sit, group by group.
        attention: Builds the branches of one group.

    Returns:
        The number of gates.
    """
    branches = [
        (place.layer, branch)
        for group in places
        for place, branch in zip(group, attention(group, net), strict=True)
        if branch is not None
    ]
    for layer, branch in branches:
        _swap(net, layer, Gated(net.get_submodule(layer), branch))
    return len(branches)


@torch.no_grad()
def observe(net: nn.Module, batches: Iterable[Batch]) -> int:
    """Sets every gate's `mean` to its average over the samples, in evaluation mode.

    Returns:
        How many images were seen; 0 for a net without gates (which is then not run at all).
    """
    gated = [gate for _, gate in gates(net)]
    if not gated:
        return 0
    training = net.training
    net.eval()
    for gate in gated:
        gate.start(gate.inner.weight.shape[0])  # type: ignore[index,arg-type]
    images = 0
    for batch in batches:
        net(batch["image"])
        images += len(batch["image"])
    for gate in gated:
        gate.stop()
    net.train(training)
    return images


def detach(net: nn.Module) -> nn.Module:
    """A copy with the mean gates folded in and the branches gone. Exact for gates that do not vary."""
    return _without(net, Gated.folded)


def bare(net: nn.Module) -> nn.Module:
    """A copy without the branches, nothing folded: what the graph and the costs speak of."""
    return _without(net, Gated.bare)


def _without(net: nn.Module, take: object) -> nn.Module:
    net = copy.deepcopy(net)
    for name, gate in list(gates(net)):
        _swap(net, name, take(gate))  # type: ignore[operator]
    return net


def _swap(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(net.get_submodule(parent), leaf, module)
