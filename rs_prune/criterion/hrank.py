"""HRank: channels with feature maps of low rank go first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from rs_prune.contracts import Batch, Evidence, Group, Scores
from rs_prune.pruning.measures import checked_images, measured, ranks
from rs_prune.pruning.scores import per_group


class HRank:
    """Scores a channel by the mean rank of its feature map after a ReLU.

    Lin, Ji, Wang, Zhang, Zhang, Tian, Shao 2020 (arXiv 2002.10179), who find the mean rank to vary little from one
    set of images to another.

    Args:
        images: How many training images the rank is averaged over.
    """

    def __init__(self, *, images: int = 64) -> None:
        self.images = checked_images(images)

    def measure(self, net: nn.Module, sites: Mapping[str, str], batches: Iterable[Batch]) -> dict[str, Tensor]:
        return ranks(net, sites, batches)

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores:
        for group in groups:
            for member in group.members:
                measured(evidence, member.layer, "hrank")
        return per_group(evidence, groups, lambda layer: layer.measured)
