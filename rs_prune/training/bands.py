"""What a net gets to see: the bands that it still reads, of those that it was made for."""

from __future__ import annotations

import copy

from torch import nn

from rs_prune.contracts import Batch
from rs_prune.pruning.bands import kept_bands
from rs_prune.scenes.bands import only
from rs_prune.training.datamodule import SceneData


def data_for(net: nn.Module, data: SceneData) -> SceneData:
    """The scenes with the bands that a net reads.

    Args:
        net: The net, as it was made or after it lost bands.
        data: The scenes with all bands that it was made for.
    """
    kept = kept_bands(net)
    if kept is None:
        return data
    fewer = copy.copy(data)  # the pixels are shared
    fewer.scenes = only(data.scenes, kept)
    fewer.mean = tuple(data.mean[band] for band in kept)
    fewer.std = tuple(data.std[band] for band in kept)
    return fewer


def batch_for(net: nn.Module, batch: Batch) -> Batch:
    """A batch with all bands that a net was made for, as it reads it now."""
    kept = kept_bands(net)
    return batch if kept is None else {**batch, "image": batch["image"][:, list(kept)]}
