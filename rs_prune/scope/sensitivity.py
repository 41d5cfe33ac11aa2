"""One ranking by the accuracy that a scan of the net lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rs_prune.contracts import Group, Scores
from rs_prune.errors import RsPruneError

COLUMNS = ("group", "channels", "kept", "val_accuracy")
TIE = 1e-9  # of accuracy: where a scan sees no difference, the channel's rank decides


class Sensitivity:
    """Ranks a channel by what its group lost when it was pruned, alone, up to and including that channel.

    The loss is that of validation accuracy which `rs-prune scan` measured, made monotone (the running maximum),
    interpolated between the shares and held beyond the last. Channels that lose nothing go by the share of their
    group that scores lower. Pruning each layer by its sensitivity: Han et al. 2015 (arXiv 1506.02626), Li et al. 2017
    (arXiv 1608.08710); one threshold on the curves is our reading of it.

    Args:
        scan: A `scan.csv` of the same net.
        per_mac: Whether the loss is divided by the MACs that one channel of the group saves.
    """

    def __init__(self, *, scan: str, per_mac: bool = False) -> None:
        self.scan = scan
        self.per_mac = per_mac

    @property
    def reads(self) -> tuple[Path, ...]:
        return (Path(self.scan).expanduser(),)

    def __call__(self, scores: Scores, saved: Mapping[str, float], groups: Sequence[Group]) -> Scores:
        curves = self._curves()
        priorities: Scores = {}
        for name, values in scores.items():
            if name not in curves:
                raise RsPruneError(f"scope.scan={self.scan}: knows no group {name}; scan this net with rs-prune scan")
            channels, shares, losses = curves[name]
            if len(values) > channels:
                raise RsPruneError(
                    f"scope.scan={self.scan}: group {name} has {channels} channels there and {len(values)} here; "
                    "scan this net with rs-prune scan"
                )
            ranks = values.double().argsort(stable=True).argsort().numpy() + 1
            gone = (channels - len(values) + ranks) / channels  # in a later round part of the group has gone already
            loss = np.interp(gone, shares, losses) + TIE * gone
            priorities[name] = torch.from_numpy(loss / max(saved[name], 1.0) if self.per_mac else loss)
        return priorities

    def _curves(self) -> dict[str, tuple[int, np.ndarray, np.ndarray]]:
        """Group -> channels, shares removed (from 0 on), accuracy lost (rising)."""
        path = self.reads[0]
        try:
            table = pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise RsPruneError(f"scope.scan={self.scan}: cannot be read; make it with rs-prune scan") from error
        for column in COLUMNS:
            if column not in table:
                raise RsPruneError(f"scope.scan={self.scan}: column {column} is missing; make it with rs-prune scan")
            if column != "group" and pd.to_numeric(table[column], errors="coerce").isna().any():
                raise RsPruneError(f"scope.scan={self.scan}: column {column} holds what is no number")
        curves = {}
        for name, rows in table.sort_values("kept", ascending=False).groupby("group"):
            channels = int(rows["channels"].iloc[0])
            if rows["kept"].iloc[0] != channels:
                raise RsPruneError(f"scope.scan={self.scan}: group {name} has no row with all channels kept")
            accuracy = rows["val_accuracy"].to_numpy(float)
            lost = np.maximum.accumulate(accuracy[0] - accuracy)
            curves[str(name)] = (channels, 1 - rows["kept"].to_numpy(float) / channels, lost)
        return curves
