"""From stored pixels to the values that mean and standard deviation speak of."""

from __future__ import annotations

import torch
from torch import Tensor

from rs_prune.contracts import Scenes


def scaled(scenes: Scenes, image: Tensor) -> Tensor:
    """Brings stored pixels to the set's scale.

    Args:
        scenes: The set.
        image: (N, stored bands, H, W) of any type.

    Returns:
        A new (N, len(scenes.bands), H, W) tensor: float32, or float64 where the pixels came so.
    """
    kind = torch.float64 if image.dtype == torch.float64 else torch.float32
    return image.to(kind, copy=True).mul_(scenes.scale)
