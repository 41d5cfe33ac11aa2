"""Any classification CNN of timm, by name."""

from __future__ import annotations

import difflib
from typing import Any

import timm
from torch import nn

from rs_prune.errors import RsPruneError


class TimmNet:
    """Builds a net with any number of bands and classes (Wightman, PyTorch Image Models).

    Args:
        name: timm's name of the architecture.
        pretrained: Load timm's published weights (needs the network); stems for other band counts are adapted
            the way timm does.
        kwargs: Further arguments of `timm.create_model`.
    """

    def __init__(self, *, name: str, pretrained: bool = False, kwargs: dict[str, Any] | None = None) -> None:
        self.name = name
        self.pretrained = pretrained
        self.kwargs = dict(kwargs or {})

    def __call__(self, num_classes: int, in_chans: int) -> nn.Module:
        """A fresh net, (N, in_chans, H, W) -> (N, num_classes) logits.

        Raises:
            RsPruneError: When timm has no such net or its weights cannot be had.
        """
        if not timm.is_model(self.name):
            near = difflib.get_close_matches(self.name, timm.list_models(), 3)
            raise RsPruneError(
                f"model.name={self.name}: timm has no such net" + (f"; did you mean {', '.join(near)}?" if near else "")
            )
        try:
            net: nn.Module = timm.create_model(
                self.name,
                pretrained=self.pretrained,
                num_classes=num_classes,
                in_chans=in_chans,
                **self.kwargs,
            )
        except TypeError as error:
            raise RsPruneError(f"model.kwargs: {self.name} refuses them ({error})") from error
        except (OSError, RuntimeError, ValueError) as error:
            if not self.pretrained:
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RsPruneError(
                f"model.pretrained: the weights of {self.name} cannot be had ({reason}); model.pretrained=false"
            ) from error
        return net
