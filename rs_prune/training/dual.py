"""Hard-concrete gates under a constraint on their expected cost: the machinery of `attention=hard_concrete`."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from rs_prune.contracts import Place
from rs_prune.pruning.cost import CostModel
from rs_prune.pruning.group_gate import GroupGate, group_gates
from rs_prune.training.course import net_of, settled, share_of

LOW, HIGH = -0.1, 1.1  # the interval that the concrete distribution is stretched to, before it is cut to [0, 1]
TEMPERATURE = 2 / 3
LIMIT = 6.0  # of the logits, so that a gate can come back


class HardConcreteGate(GroupGate):
    """Hard-concrete gates: sampled while there is noise, at their deterministic values otherwise.

    Attributes:
        gate: (channels,) logits.
        noise: (channels,) logistic noise of the batch under way, or None.
    """

    def __init__(self, place: Place, start: float) -> None:
        super().__init__(place, start)
        self.noise: Tensor | None = None

    def values(self) -> Tensor:
        logits: Tensor = self.gate
        if self.training and self.noise is not None:
            logits = (self.gate + self.noise) / TEMPERATURE
        return (torch.sigmoid(logits) * (HIGH - LOW) + LOW).clamp(0, 1)

    def probability(self) -> Tensor:
        """(channels,) probability that a sampled gate is not zero."""
        return torch.sigmoid(self.gate - TEMPERATURE * math.log(-LOW / HIGH))


class DualAscent(pl.Callback):
    """Trains the gates with an optimiser of their own, under a constraint on the expected multiply-adds.

    Args:
        cost: The bare net's cost model.
        keep: Share of the multiply-adds to reach.
        start: Share of the training at which the constraint sets in.
        end: Share of the training at which it has reached `keep`.
        lr: Learning rate of the gates.
        dual: Step of the Lagrange multiplier.
        epochs: Of the training.

    Attributes:
        settled: Epochs after which the constraint is at `keep`.
        multiplier: The Lagrange multiplier.
    """

    def __init__(
        self, cost: CostModel, *, keep: float, start: float, end: float, lr: float, dual: float, epochs: int
    ) -> None:
        self.cost = cost
        self.keep = keep
        self.start = start
        self.end = end
        self.lr = lr
        self.dual = dual
        self.settled = settled(end, epochs)
        self.multiplier = 0.0
        self._resumed: dict[str, Any] = {}
        self._adam: torch.optim.Adam | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"multiplier": self.multiplier, "adam": self._adam.state_dict() if self._adam else {}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.multiplier = float(state_dict["multiplier"])
        self._resumed = state_dict["adam"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        found = group_gates(net_of(pl_module)).items()
        self.found = {name: gates for name, gates in found if isinstance(gates, HardConcreteGate)}
        self._adam = torch.optim.Adam([gates.gate for gates in self.found.values()], lr=self.lr)
        if self._resumed:
            self._adam.load_state_dict(self._resumed)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        for gates in self.found.values():
            drawn = torch.rand_like(gates.gate.detach()).clamp(1e-6, 1 - 1e-6)
            gates.noise = torch.logit(drawn)

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self._adam is not None
        over = self.expected_share() - self.allowed(trainer.global_step / trainer.estimated_stepping_batches)
        (self.multiplier * over).backward()  # type: ignore[no-untyped-call]
        self.multiplier = max(0.0, self.multiplier + self.dual * float(over.detach()))
        self._adam.step()
        with torch.no_grad():
            for gates in self.found.values():
                gates.gate.clamp_(-LIMIT, LIMIT)
                gates.gate.grad = None  # the net's own optimiser leaves the gates alone
                gates.noise = None

    def expected_share(self) -> Tensor:
        """The expected share of the dense net's multiply-adds; differentiable."""
        counts = zip(self.cost.names, self.cost.channels.tolist(), strict=True)
        kept = [
            self.found[name].probability().double().sum().cpu() if name in self.found else torch.tensor(float(count))
            for name, count in counts
        ]
        return self.cost.expected_macs(torch.stack(kept)) / self.cost.dense().macs

    def allowed(self, progress: float) -> float:
        """The share of the multiply-adds allowed at a point of the training (0 to 1)."""
        return 1 - (1 - self.keep) * share_of(progress, self.start, self.end)
