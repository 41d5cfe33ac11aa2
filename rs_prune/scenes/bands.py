"""Bands by name: which of a file's bands are read, which become channels, and the indices made of two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from rs_prune.contracts import Scenes
from rs_prune.errors import RsPruneError

ALL = "all"


def select(
    scenes: Scenes, *, bands: object = ALL, indices: object = (), table: Mapping[str, tuple[str, str]] | None = None
) -> Scenes:
    """The scenes with these bands, in this order, and these indices behind them.

    Args:
        scenes: With all bands of the files.
        bands: `all`, or a list of names.
        indices: Names out of `table`.
        table: Name -> bands (a, b) of the normalised difference (a - b) / (a + b) of scaled values.

    Raises:
        RsPruneError: When a band or index does not exist or is asked for twice, with the list of what there is.
    """
    table = table or {}
    names = scenes.bands if bands == ALL else _names("bands", bands, scenes.bands, scenes.name)
    extra = _names("indices", indices, tuple(table), scenes.name)
    if not names and not extra:
        raise RsPruneError(f"dataset.bands=[]: nothing is left; the bands of {scenes.name} are {_list(scenes.bands)}")
    if (names, extra) == (scenes.bands, ()):
        return scenes
    if double := [name for name in extra if name in scenes.bands]:
        raise RsPruneError(f"dataset.indices: {double[0]} is a band of {scenes.name} too; name it otherwise")
    pairs = [table[name] for name in extra]
    for name, pair in zip(extra, pairs, strict=True):
        for band in pair:
            if band not in scenes.bands:
                raise RsPruneError(
                    f"dataset.indices: {name} is made of a band {band}, and the bands of {scenes.name} are "
                    f"{_list(scenes.bands)}"
                )
    needed = list(dict.fromkeys([*names, *(band for pair in pairs for band in pair)]))
    reads = tuple(scenes.bands.index(band) for band in needed)
    known = scenes.mean is not None and scenes.std is not None and not extra
    return replace(
        scenes,
        bands=(*names, *extra),
        stored=scenes.bands,
        reads=reads,
        channels=(
            *((needed.index(band),) for band in names),
            *((needed.index(a), needed.index(b)) for a, b in pairs),
        ),
        mean=tuple(scenes.mean[place] for place in reads) if known and scenes.mean else None,
        std=tuple(scenes.std[place] for place in reads) if known and scenes.std else None,
    )


def only(scenes: Scenes, kept: Sequence[int]) -> Scenes:
    """The scenes with only these of their channels; what is read of the files stays the same."""
    parts = scenes.channels or tuple((place,) for place in range(len(scenes.bands)))
    return replace(
        scenes,
        bands=tuple(scenes.bands[place] for place in kept),
        stored=scenes.stored or scenes.bands,
        channels=tuple(parts[place] for place in kept),
        mean=scenes.mean and tuple(scenes.mean[place] for place in kept),
        std=scenes.std and tuple(scenes.std[place] for place in kept),
    )


def scaled(scenes: Scenes, image: Tensor) -> Tensor:
    """Stored values as the floats that mean and std speak of.

    Args:
        scenes: Says what is read, the scale, and what the channels are.
        image: (N, bands read, H, W) of any type. Left as it is.

    Returns:
        (N, bands, H, W): float32, or float64 where the image came so. An index is 0 where the sum of its two bands is,
        and never leaves -1 to 1.
    """
    dtype = image.dtype if image.dtype == torch.float64 else torch.float32
    values = image.to(dtype, copy=True).mul_(scenes.scale)
    if not scenes.channels:
        return values
    planes = [values[:, part[0]] if len(part) == 1 else _difference(values, *part) for part in scenes.channels]
    return torch.stack(planes, 1)


def normalised(scenes: Scenes, image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Stored values with mean 0 and standard deviation 1 in every band.

    Args:
        scenes: As for `scaled`.
        image: (N, bands read, H, W) of any type. Left as it is.
        mean: Per band, after scaling.
        std: Likewise.

    Returns:
        (N, bands, H, W).
    """
    values = scaled(scenes, image)
    return values.sub_(_per_band(tuple(mean)).to(values)).div_(_per_band(tuple(std)).to(values))


@lru_cache(maxsize=8)
def _per_band(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)


def bands_read(scenes: Scenes) -> tuple[str, ...]:
    """The names of the bands that are read of the files, in the order of delivery."""
    stored = scenes.stored or scenes.bands
    return tuple(stored[place] for place in scenes.reads) or stored


def made_of(scenes: Scenes) -> dict[str, list[str]]:
    """Index -> the two bands that it is the normalised difference of."""
    read = bands_read(scenes)
    parts = zip(scenes.bands, scenes.channels, strict=False)
    return {name: [read[place] for place in part] for name, part in parts if len(part) == 2}


def pairs(indices: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, str]]:
    """A user's own indices: name -> two bands.

    Raises:
        RsPruneError: When an index is not made of two bands.
    """
    found = {}
    for name, made in dict(indices or {}).items():
        if isinstance(made, str) or len(made) != 2:
            raise RsPruneError(f"dataset.indices.{name}={made}: must be two bands, such as [band4,band3]")
        found[str(name)] = (str(made[0]), str(made[1]))
    return found


def _difference(values: Tensor, a: int, b: int) -> Tensor:
    total = values[:, a] + values[:, b]
    ratio = (values[:, a] - values[:, b]) / torch.where(total == 0, 1, total)
    return torch.where(total == 0, 0, ratio).clamp_(-1, 1)


def _names(key: str, given: object, known: Sequence[str], name: str) -> tuple[str, ...]:
    """The names that a key lists, each of them known."""
    if isinstance(given, str) or not isinstance(given, (Sequence, Mapping)):
        example = f"[{','.join(list(known)[:3])}]"
        words = f"all or a list of names, such as {example}" if key == "bands" else "a list of names"
        raise RsPruneError(f"dataset.{key}={given}: must be {words}")
    names = tuple(str(entry) for entry in given)
    for entry in names:
        if entry not in known:
            kind, there = ("band", "bands") if key == "bands" else ("index", "indices")
            have = f"its {there} are {_list(known)}" if known else f"it has no {there}"
            raise RsPruneError(f"dataset.{key}: {name} has no {kind} {entry}; {have}")
    if len(set(names)) < len(names):
        raise RsPruneError(f"dataset.{key}=[{','.join(names)}]: names one twice")
    return names


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
