"""Gates: attached by swapping modules, observed on training samples, folded and removed.

A gate sits on the output of the norm that directly follows a prunable convolution, before the activation; where
no norm follows, on the convolution's own output. One more may sit on the net's input. Forward hooks are
never used: a hook survives `deepcopy` and then calls the original's branch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rs_prune.contracts import Attention, Batch, Branch, Place
from rs_prune.errors import DoesNotApply, RsPruneError

INPUT = "input"
"""What the bands that a net reads are called where they stand beside groups and layers."""


class Gate(nn.Module):
    """A layer with a gate on its output (`Gated`) or on its input (`InputGated`).

    Attributes:
        inner: The gated layer.
        branch: Computes the gates.
        mean: (channels,) mean gate over the samples of the last `observe`; empty before.
        side: The side of `inner` that is gated: `out` or `in`.
        constant: Whether `mean` is the gate, whatever the image; the branch is then not asked.
    """

    mean: Tensor
    side: str
    constant = False

    def __init__(self, inner: nn.Module, branch: Branch) -> None:
        super().__init__()
        self.inner = inner
        self.branch = branch
        self.register_buffer("mean", torch.empty(0), persistent=False)
        self._sum: Tensor | None = None
        self._seen = 0

    @property
    def channels(self) -> int:
        """How many channels are gated."""
        return int(self.inner.weight.shape[0 if self.side == "out" else 1])  # type: ignore[index]

    def gated(self, x: Tensor) -> Tensor:
        gate: Tensor = (
            self.mean.to(x)[None, :, None, None].expand(len(x), -1, 1, 1) if self.constant else self.branch(x)
        )
        if self._sum is not None:
            self._sum += gate.detach().double().mean((2, 3)).sum(0)
            self._seen += len(gate)
        return x * gate

    def start(self) -> None:
        device = next(self.inner.parameters()).device
        self._sum = torch.zeros(self.channels, dtype=torch.float64, device=device)
        self._seen = 0

    def stop(self) -> None:
        if self._sum is not None and self._seen:
            self.mean = (self._sum / self._seen).float()
        self._sum = None

    def settle(self, mean: Tensor) -> None:
        """Makes a mean (channels,) the gate from now on."""
        self.mean = mean.to(next(self.inner.parameters()).device)
        self.constant = True

    def keep(self, index: Tensor) -> None:
        """Shrinks branch and mean to the channels in `index`; `inner` is the surgery's."""
        self.branch.keep(index)
        if len(self.mean):
            self.mean = self.mean[index]

    def folded(self) -> nn.Module:
        """The inner module with the mean gate multiplied into its parameters."""
        if not len(self.mean):
            raise RsPruneError("the gates were never observed; observe(net, batches) before detach(net)")
        fold(self.inner, self.mean, self.side)
        return self.bare()

    def bare(self) -> nn.Module:
        """The inner module as it was before the gate came, nothing folded."""
        return self.inner


class InputGated(Gate):
    """`inner(gate(x) * x)`: a gate on the bands, in front of the convolution that reads them.

    Folding a constant gate into the weight is exact, at the borders too: what the convolution pads with are zeros, or
    values of the same band.
    """

    side = "in"

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(self.gated(x))
        return out


class Gated(Gate):
    """`after(gate(x) * x)` with `x = inner(input)`.

    Attributes:
        inner: The norm or convolution whose output is gated. A norm with a built-in activation (timm's
            `BatchNormAct2d`) has lent that activation to `after`.
        after: What follows the gate, or None where the next module does.
    """

    side = "out"

    def __init__(self, inner: nn.Module, branch: Branch) -> None:
        super().__init__(inner, branch)
        self.after: nn.Module | None = None
        if isinstance(inner, nn.modules.batchnorm._BatchNorm) and isinstance(getattr(inner, "act", None), nn.Module):
            act = inner.act
            assert isinstance(act, nn.Module)
            self.after = act
            inner.act = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.gated(self.inner(x))
        return x if self.after is None else self.after(x)

    def bare(self) -> nn.Module:
        if self.after is not None:
            self.inner.act = self.after
        return self.inner


@torch.no_grad()
def fold(module: nn.Module, gate: Tensor, side: str = "out") -> None:
    """Multiplies a constant gate (channels,) of a norm's or convolution's output or input into its parameters."""
    for name in ("weight", "bias") if side == "out" else ("weight",):
        masks: Any = module.parametrizations if parametrize.is_parametrized(module, name) else None
        value = masks[name].original if masks else getattr(module, name)
        if isinstance(value, Tensor):
            before = [1] * (side == "in")
            value.mul_(gate.view(*before, -1, *[1] * (value.dim() - 1 - len(before))))


def inner(module: nn.Module) -> nn.Module:
    """The module itself, or what it gates."""
    return module.inner if isinstance(module, Gate) else module


def gates(net: nn.Module) -> Iterator[tuple[str, Gate]]:
    """Name and gate, in the order of definition. The name is that of the gated norm or convolution."""
    for name, module in net.named_modules():
        if isinstance(module, Gate):
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


def attach_input(net: nn.Module, layer: str, attention: Attention) -> None:
    """Swaps a gate on the bands in, in front of the convolution that reads them; in place.

    Args:
        net: The net, gated or bare.
        layer: The convolution.
        attention: Builds the branch.

    Raises:
        DoesNotApply: When the attention has no branch that could gate bands, or the convolution has a gate already.
    """
    conv = net.get_submodule(layer)
    if isinstance(conv, Gate):
        raise DoesNotApply(
            f"attach.input: no norm follows {layer}, so its filters' gate sits on it already; set attach.input=only"
        )
    channels = int(conv.weight.shape[1])  # type: ignore[index]
    shaped = hasattr(attention, "callbacks")
    branch = None if shaped else attention([Place(layer, tuple(range(channels)), INPUT, layer)], net)[0]
    if branch is None or hasattr(branch, "received"):
        raise DoesNotApply(
            "attach.input gates the bands of an image, and this attention has no branch for that; add attention=se, "
            "attention=eca, attention=cbam or attention=bam"
        )
    _swap(net, layer, InputGated(conv, branch))


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
        gate.start()
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
    return _without(net, Gate.folded.__name__)


def bare(net: nn.Module) -> nn.Module:
    """A copy without the branches, nothing folded: what the graph and the costs speak of."""
    return _without(net, Gate.bare.__name__)


def _without(net: nn.Module, take: str) -> nn.Module:
    net = copy.deepcopy(net)
    for name, gate in list(gates(net)):
        _swap(net, name, getattr(gate, take)())
    return net


def _swap(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(net.get_submodule(parent), leaf, module)
