"""Cut, then train again from early weights or with the early learning rate."""

from __future__ import annotations

import copy

from torch import nn

from rs_prune.contracts import Verbs
from rs_prune.training.rounds import checked_rounds, split_rounds


class Rewind:
    """Plans on the trained net, cuts the net of its early training, and trains that at the full learning rate.

    Renda, Frankle, Carbin 2020 (arXiv 2003.02389). Early is after the first tenth of the dense training's epochs, and
    after at least one. With several rounds each plan is made on the net that the last round trained, and cuts the
    early net further.

    Args:
        weights: False: the trained weights stay, and only the learning rate goes back (the paper's learning-rate
            rewinding).
        rounds: How many, their budgets spaced geometrically; the epochs are split among them.
    """

    def __init__(self, *, weights: bool = True, rounds: int = 1) -> None:
        self.weights = weights
        self.rounds = checked_rounds(rounds)

    def __call__(self, net: nn.Module, do: Verbs) -> nn.Module:
        *earlier, (last, epochs) = split_rounds(do.keep, do.epochs, self.rounds)
        early = do.early() if self.weights else None
        for keep, some in earlier:
            plan = do.plan(net, keep)
            early = None if early is None else do.remove(early, plan)
            net = do.remove(net, plan) if early is None else copy.deepcopy(early)
            net = do.fit(net, some, lr_factor=1.0)
        plan = do.plan(net, last)
        return do.fit(do.detach(do.remove(net if early is None else early, plan)), epochs, lr_factor=1.0)
