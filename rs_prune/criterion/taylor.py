"""First-order Taylor expansion of the loss: channels whose removal would change it least go first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from rs_prune.contracts import Batch, Evidence, Group, Scores
from rs_prune.pruning.measures import checked_images, contributions, joint


class Taylor:
    """Scores a channel by the mean over images of the squared first-order change of the loss when it goes.

    Molchanov, Mallya, Tyree, Frosio, Kautz 2019 (arXiv 1906.10771), in the form with a gate behind the norm, and per
    image. What the members of a group contribute is added up before it is squared, as they go together. For single
    weights the same idea, the mean of (w g)^2, is twice the score of `criterion=hessian_diag`.

    Args:
        images: How many training images the change is averaged over.
    """

    def __init__(self, *, images: int = 512) -> None:
        self.images = checked_images(images)

    def measure(self, net: nn.Module, sites: Mapping[str, str], batches: Iterable[Batch]) -> dict[str, Tensor]:
        return contributions(net, sites, batches)

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores:
        return joint(evidence, groups, "taylor")
