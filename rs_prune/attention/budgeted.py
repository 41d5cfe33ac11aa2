"""Gates that are trained to be cut: closed by price while the net trains, until the budget is reached."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import Callback
from torch import nn

from rs_prune.contracts import Branch, Place
from rs_prune.errors import RsPruneError
from rs_prune.pruning.cost import CostModel, checked_share
from rs_prune.pruning.group_gate import at_places
from rs_prune.training.course import checked_span
from rs_prune.training.price import CloseByPrice, PricedGate


class Budgeted:
    """One gate per channel of a coupled group, the same at every norm that feeds the channel. Ours.

    While the dense net trains, each gate's effect on the loss is followed: the running mean of its squared gradient
    (first order, as Molchanov et al. 2019, arXiv 1906.10771, and Gate Decorator, You et al. 2019, arXiv 1909.08174,
    have it). The multiply-adds allowed fall from all at `start` to `keep` at `end`; whenever the open channels take
    more, those close whose effect per multiply-add saved is lowest: a common price rises until the budget is met.
    A closing gate goes to 0 within some steps, an open one stays 1, so that the cut afterwards changes nothing, and
    the net trains on in its final shape.

    Args:
        keep: The share of the multiply-adds to reach; `${budget.keep}` in the configuration.
        start: Share of the epochs after which gates begin to close.
        end: Share of the epochs after which the budget is reached. No epoch before is selected.
        floor: Every group keeps at least this share of its channels. Effects are measured at the margin, and
            without a floor a layer that seems dispensable while others are still wide collapses.
        every: Steps between two closings.
        memory: Of the running mean.
        speed: Share of the way to its end that a gate goes in a step.
        image: Input-dependent form: gates are multiplied by squeeze-excite gates whose dependence on the image fades
            until `end`, so that the mean gate is exact from then on.
    """

    shortcuts = True  # a channel is closed only where all that feeds it is
    closes_to_macs = True  # plans that speak of another cost, or another order, would cut what is open

    def __init__(
        self,
        *,
        keep: float,
        start: float = 0.1,
        end: float = 0.4,
        floor: float = 0.2,
        every: int = 5,
        memory: float = 0.98,
        speed: float = 0.1,
        image: bool = False,
    ) -> None:
        if not 0 <= floor < 1:
            raise RsPruneError(f"attention.floor={floor}: must be at least 0 and below 1")
        if not isinstance(every, int) or every < 1:
            raise RsPruneError(f"attention.every={every}: must be a whole number of at least 1")
        for key, value in (("memory", memory), ("speed", speed)):
            if not 0 < value <= 1:
                raise RsPruneError(f"attention.{key}={value}: must be above 0 and up to 1")
        self.keep = checked_share(keep)
        self.start, self.end = checked_span(start, end)
        self.floor = floor
        self.every = every
        self.memory = memory
        self.speed = speed
        self.image = image

    def __call__(self, places: Sequence[Place], net: nn.Module) -> list[Branch]:
        return at_places(PricedGate(places[0]), places, image=self.image) if places else []

    def callbacks(self, net: nn.Module, cost: CostModel, epochs: int) -> list[Callback]:
        return [
            CloseByPrice(
                cost,
                keep=self.keep,
                start=self.start,
                end=self.end,
                floor=self.floor,
                every=self.every,
                memory=self.memory,
                speed=self.speed,
                epochs=epochs,
            )
        ]
