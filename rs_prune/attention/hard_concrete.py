"""Stochastic gates trained by gradient, whose expected cost is driven to the budget."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import Callback
from torch import nn

from rs_prune.contracts import Branch, Place
from rs_prune.errors import RsPruneError
from rs_prune.pruning.cost import CostModel, checked_share
from rs_prune.pruning.group_gate import at_places
from rs_prune.training.course import checked_span
from rs_prune.training.dual import DualAscent, HardConcreteGate


class HardConcrete:
    """One hard-concrete gate per channel of a coupled group, the same at every norm that feeds the channel.

    Louizos, Welling, Kingma 2018 (arXiv 1712.01312). Dual ascent drives the expected multiply-adds to the budget: the
    share allowed falls from all at `start` to `keep` at `end`; the Lagrange multiplier grows while the net takes more.

    Args:
        keep: The share of the multiply-adds to reach; `${budget.keep}` in the configuration.
        start: Share of the epochs after which the constraint sets in.
        end: Share of the epochs after which it has reached `keep`. No epoch before is selected.
        lr: Learning rate of the gates (Adam).
        dual: Step of the dual ascent.
        open: Logit of every gate at the start.
    """

    shortcuts = True  # a channel is closed only where all that feeds it is
    closes_to_macs = True  # plans that speak of another cost, or another order, would cut what is open

    def __init__(
        self,
        *,
        keep: float,
        start: float = 0.1,
        end: float = 0.6,
        lr: float = 0.02,
        dual: float = 0.5,
        open: float = 3.0,
    ) -> None:
        for key, value in (("lr", lr), ("dual", dual)):
            if value <= 0:
                raise RsPruneError(f"attention.{key}={value}: must be above 0")
        self.keep = checked_share(keep)
        self.start, self.end = checked_span(start, end)
        self.lr = lr
        self.dual = dual
        self.open = open

    def __call__(self, places: Sequence[Place], net: nn.Module) -> list[Branch]:
        return at_places(HardConcreteGate(places[0], self.open), places) if places else []

    def callbacks(self, net: nn.Module, cost: CostModel, epochs: int) -> list[Callback]:
        return [
            DualAscent(cost, keep=self.keep, start=self.start, end=self.end, lr=self.lr, dual=self.dual, epochs=epochs)
        ]
