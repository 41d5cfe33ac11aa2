"""Closing gates by price while a net trains: the machinery of `attention=budgeted`."""

from __future__ import annotations

import math

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rs_prune.contracts import Place
from rs_prune.errors import RsPruneError
from rs_prune.pruning.cost import CostModel
from rs_prune.pruning.group_gate import FadingSE, GroupGate, group_gates
from rs_prune.training.course import cubic, net_of, settled, share_of

CLOSED = 0.02  # a closing gate below this is set to 0


class PricedGate(GroupGate):
    """Gates that are open (1) or closed (0), or on their way.

    Attributes:
        open: Where each gate goes.
        effect: Running mean of the squared gradient.
    """

    open: Tensor
    effect: Tensor

    def __init__(self, place: Place) -> None:
        super().__init__(place, 1.0)
        self.register_buffer("open", torch.ones_like(self.gate.detach()))
        self.register_buffer("effect", torch.zeros_like(self.gate.detach()))

    def values(self) -> Tensor:
        closed = (self.open == 0) & (self.gate.detach() < CLOSED)
        return self.gate.masked_fill(closed, 0)  # for good, also where a later fit trains the gates


class CloseByPrice(pl.Callback):
    """Follows every gate's effect on the loss and closes the cheapest until the multiply-adds allowed are met.

    Args:
        cost: The bare net's cost model.
        keep: Share of the multiply-adds to reach.
        start: Share of the training at which gates begin to close.
        end: Share of the training at which `keep` is reached.
        floor: Share of its channels that every group keeps at least; two channels in any case.
        every: Steps between two closings.
        memory: Of the running mean of effects.
        speed: Share of the way that a gate goes in a step.
        epochs: Of the training.

    Attributes:
        settled: Epochs after which `keep` is reached.
        lag: Steps that the last gates to close take from there.
    """

    def __init__(
        self,
        cost: CostModel,
        *,
        keep: float,
        start: float,
        end: float,
        floor: float,
        every: int,
        memory: float,
        speed: float,
        epochs: int,
    ) -> None:
        self.cost = cost
        self.keep = keep
        self.start = start
        self.end = end
        self.least = np.minimum(np.maximum(np.ceil(floor * cost.channels).astype(np.int64), 2), cost.channels)
        least = cost.predict(self.least).macs / cost.dense().macs
        if least > keep:
            raise RsPruneError(
                f"attention.keep={keep:g}: with attention.floor={floor:g} at least {least:.4f} of the multiply-adds "
                "stay; lower the floor or raise budget.keep"
            )
        self.every = every
        self.memory = memory
        self.speed = speed
        self.settled = settled(end, epochs)
        self.lag = every + (1 if speed == 1 else math.ceil(math.log(CLOSED) / math.log1p(-speed)))

    @torch.no_grad()
    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        net = net_of(pl_module)
        found = {name: gates for name, gates in group_gates(net).items() if isinstance(gates, PricedGate)}
        for gates in found.values():
            assert gates.gate.grad is not None
            gates.effect.mul_(self.memory).add_(gates.gate.grad.float().square(), alpha=1 - self.memory)
            gates.gate.grad = None  # the net's own optimiser leaves the gates alone
        progress = trainer.global_step / trainer.estimated_stepping_batches
        if trainer.global_step % self.every == 0:
            self.close(found, self.allowed(progress))
            fade = 1 - share_of(progress, 0, self.end)
            for module in net.modules():
                if isinstance(module, FadingSE):
                    module.fade.fill_(fade)
        for gates in found.values():
            gates.gate.lerp_(gates.open, self.speed)
            gates.gate[(gates.open == 0) & (gates.gate < CLOSED)] = 0

    def allowed(self, progress: float) -> float:
        """The share of the multiply-adds allowed at a point of the training (0 to 1): a cubic, fast at first."""
        return cubic(self.keep, share_of(progress, self.start, self.end))

    def close(self, found: dict[str, PricedGate], allowed: float) -> None:
        """Closes the fewest gates, in order of their effect per multiply-add saved, that meet what is allowed."""
        names = self.cost.names
        kept = np.array(
            [
                int(found[name].open.sum()) if name in found else n
                for name, n in zip(names, self.cost.channels.tolist(), strict=True)
            ],
            np.int64,
        )
        limit = allowed * self.cost.dense().macs
        now = self.cost.predict(kept).macs
        if now <= limit:
            return
        unit = np.eye(len(names), dtype=np.int64)
        owner: list[int] = []
        channel: list[int] = []
        price: list[float] = []
        for column, name in enumerate(names):
            spare = int(kept[column] - self.least[column])
            if name not in found or spare < 1:
                continue
            saved = max(now - self.cost.predict(kept - unit[column]).macs, 1)
            gates = found[name]
            effect = torch.where(gates.open > 0, gates.effect.double(), torch.inf).cpu()
            cheapest = torch.argsort(effect, stable=True)[:spare].tolist()
            owner += [column] * len(cheapest)
            channel += cheapest
            price += [float(effect[c]) / saved for c in cheapest]
        order = np.argsort(np.array(price), kind="stable")
        owners: NDArray[np.int64] = np.array(owner, np.int64)[order]
        low, high = 0, len(order)
        while low < high:
            middle = (low + high) // 2
            left = kept - np.bincount(owners[:middle], minlength=len(names))
            low, high = (low, middle) if self.cost.predict(left).macs <= limit else (middle + 1, high)
        for position in order[:low]:
            found[names[owner[position]]].open[channel[position]] = 0
