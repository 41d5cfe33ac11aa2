"""Gates that a whole coupled group shares: one value per channel, the same at every norm that feeds it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rs_prune.contracts import Branch, Place
from rs_prune.pruning.squeeze import SqueezeExcite


class GroupGate(nn.Module):
    """The gates of one coupled group. Subclasses say what the values are.

    Args:
        place: Any place of the group.
        start: The value of every gate's parameter at the start.

    Attributes:
        group: The group's name.
        gate: (channels of the group,) the trained parameter.
    """

    def __init__(self, place: Place, start: float) -> None:
        super().__init__()
        self.group = place.group
        self.gate = nn.Parameter(torch.full((max(place.units) + 1,), start))

    def values(self) -> Tensor:
        """(channels of the group,) gates."""
        raise NotImplementedError

    def keep(self, kept: Tensor) -> None:
        """Shrinks to the group's channels in `kept`."""
        self.gate = nn.Parameter(self.gate.detach()[kept])
        for name, value in list(self.named_buffers()):
            setattr(self, name, value[kept])


class PlaceGate(Branch):
    """The group's gates at one of its places.

    Args:
        place: The place.
        gates: The group's gates.
        owner: Whether this place lists them as its own; exactly one place of a group does.
        factor: What they are multiplied by at this place, or None.
    """

    unit: Tensor

    def __init__(self, place: Place, gates: GroupGate, *, owner: bool, factor: FadingSE | None = None) -> None:
        super().__init__()
        self.own = gates if owner else None
        self.__dict__["shared"] = gates  # a plain reference, which copies of the net copy along
        self.factor = factor
        self.varies = factor is not None
        self.register_buffer("unit", torch.tensor(place.units))

    @property
    def shared(self) -> GroupGate:
        gates: GroupGate = self.__dict__["shared"]
        return gates

    def gates(self, x: Tensor) -> Tensor:
        gates = self.shared.values()[self.unit][None, :, None, None]
        return gates.expand(len(x), -1, 1, 1) if self.factor is None else gates * self.factor(x)

    def keep(self, index: Tensor) -> None:
        index = index.to(self.unit.device)
        kept, self.unit = torch.unique(self.unit[index], return_inverse=True)
        if self.own is not None:
            self.own.keep(kept)
        if self.factor is not None:
            self.factor.keep(index)


class FadingSE(nn.Module):
    """Squeeze-excite factors around 1, whose dependence on the image can be faded out.

    usual + fade * (2 sigmoid(W2 relu(W1 mean(x))) - usual), with `usual` the running mean over images. At fade 0 the
    factor is a constant, and folding it is exact.

    Args:
        channels: Of the layer.
    """

    usual: Tensor
    fade: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = SqueezeExcite(channels, max(channels // 16, 4))
        self.register_buffer("usual", torch.ones(channels))
        self.register_buffer("fade", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        if float(self.fade) == 0:
            return self.usual[None, :, None, None]
        factor = 2 * torch.sigmoid(self.mlp(x.mean((2, 3))))
        if self.training:
            self.usual.lerp_(factor.detach().float().mean(0), 0.02)
        return torch.lerp(self.usual.to(factor).expand_as(factor), factor, self.fade.to(factor))[:, :, None, None]

    def keep(self, index: Tensor) -> None:
        """Shrinks to the layer's channels in `index`."""
        self.mlp.keep(index)
        self.usual = self.usual[index]


def at_places(gates: GroupGate, places: Sequence[Place], *, image: bool = False) -> list[Branch]:
    """The branches of a group's places, the first of which owns the gates."""
    return [
        PlaceGate(place, gates, owner=place is places[0], factor=FadingSE(place.channels) if image else None)
        for place in places
    ]


def group_gates(net: nn.Module) -> dict[str, GroupGate]:
    """The group gates of a net, by group."""
    return {module.group: module for module in net.modules() if isinstance(module, GroupGate)}
