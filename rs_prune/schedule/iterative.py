"""Several rounds of a cut and fine-tuning."""

from __future__ import annotations

from torch import nn

from rs_prune.contracts import Verbs
from rs_prune.training.rounds import checked_rounds, split_rounds


class Iterative:
    """Prunes a part, trains, and prunes again, by scores of the net as it is then.

    Han, Pool, Tran, Dally 2015 (arXiv 1506.02626); of channels, Molchanov, Mallya, Tyree, Frosio, Kautz 2019
    (arXiv 1906.10771). Gates stay, and learn on, until the last cut.

    Args:
        rounds: How many; the epochs of fine-tuning are split among them.
        spacing: `geometric`: every round keeps the same share of what is there. `linear`: every round takes the same
            share of the dense net.
    """

    def __init__(self, *, rounds: int = 3, spacing: str = "geometric") -> None:
        self.rounds = checked_rounds(rounds, spacing)
        self.spacing = spacing

    def __call__(self, net: nn.Module, do: Verbs) -> nn.Module:
        *earlier, (last, epochs) = split_rounds(do.keep, do.epochs, self.rounds, self.spacing)
        for keep, some in earlier:
            net = do.fit(do.remove(net, do.plan(net, keep)), some)
        return do.fit(do.detach(do.remove(net, do.plan(net, last))), epochs)
