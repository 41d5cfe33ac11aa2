"""Spatial splits: georeferenced scenes in blocks of neighbours, each block wholly in one part.

Scenes that lie side by side look alike, so that a split at random flatters accuracy (Roberts et al., "Cross-validation
strategies for data with temporal, spatial, hierarchical, or phylogenetic structure", Ecography 2017, doi
10.1111/ecog.02881).
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rs_prune.contracts import Scenes
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.scenes.reading import TIFF

KM_PER_DEGREE = 111.195  # of latitude, on a sphere of 6,371 km
PASSES = 100  # over all blocks; the search ends long before
FEW = 2000  # blocks: with more, single moves come as near, and exchanges would take minutes


def centres(scenes: Scenes) -> NDArray[np.float64]:
    """(N, 2) longitude and latitude of every scene's centre in degrees (WGS 84), whatever CRS its file has.

    Raises:
        DoesNotApply: When a file has no coordinates.
    """
    found = np.empty((len(scenes.files), 2))
    by_crs: dict[str, list[int]] = defaultdict(list)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for index, (crs, centre) in enumerate(pool.map(_centre, (scenes.root / file for file in scenes.files))):
            by_crs[crs].append(index)
            found[index] = centre
    for crs, members in by_crs.items():
        try:
            found[members] = _degrees(crs, found[members])
        except ValueError:
            lost = next(index for index in members if not _on_earth(crs, found[index : index + 1]))
            raise DoesNotApply(
                f"split=spatial: {scenes.root / scenes.files[lost]} lies nowhere on the earth; mend its coordinates"
            ) from None
    return found


def _degrees(crs: str, places: NDArray[np.float64]) -> NDArray[np.float64]:
    try:
        found = np.transpose(transform(crs, "EPSG:4326", *places.T))
    except Exception as error:  # GDAL's own, which rasterio does not export
        raise ValueError("off the projection") from error
    if not (np.isfinite(found).all() and (np.abs(found) <= (360, 90)).all()):
        raise ValueError("off the earth")
    return found


def _on_earth(crs: str, place: NDArray[np.float64]) -> bool:
    try:
        _degrees(crs, place)
    except ValueError:
        return False
    return True


def _centre(path: Path) -> tuple[str, tuple[float, float]]:
    """The CRS of a file, and its centre in it."""
    if path.suffix.lower() in TIFF:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(path) as scene:
                    if scene.crs is not None and not scene.transform.is_identity:
                        return scene.crs.to_wkt(), scene.xy((scene.height - 1) / 2, (scene.width - 1) / 2)
        except (RasterioError, OSError) as error:
            raise RsPruneError(f"{path}: not a readable image (damaged, empty or of another kind)") from error
    raise DoesNotApply(f"split=spatial: {path} has no coordinates; use georeferenced files, or split=default")


def cells(places: NDArray[np.float64], block_km: float) -> list[tuple[int, int]]:
    """Row and column of the block that each place lies in; a function of that place alone.

    Args:
        places: (N, 2) longitude and latitude in degrees.
        block_km: Side of a block; rows are that high, and columns that wide at the middle of their row.
    """
    rows = np.floor(places[:, 1] * KM_PER_DEGREE / block_km).astype(int)
    middle = np.clip((rows + 0.5) * block_km / KM_PER_DEGREE, -89.9, 89.9)
    columns = np.floor(places[:, 0] * KM_PER_DEGREE * np.cos(np.radians(middle)) / block_km).astype(int)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def joined(blocks: Sequence[tuple[int, int]], units: Sequence[str]) -> list[str]:
    """The name of each scene's block, those that hold identical images taken as one."""
    names, block = np.unique([f"{row} {column}" for row, column in blocks], return_inverse=True)
    _, unit = np.unique(list(units), return_inverse=True)
    size = len(names) + len(units)
    links = coo_array((np.ones(len(units)), (block, len(names) + unit)), shape=(size, size))
    _, component = connected_components(links, directed=False)
    first: dict[int, str] = {}
    for number, name in enumerate(names.tolist()):
        first.setdefault(int(component[number]), name)
    return [first[int(component[number])] for number in block]


def assign(blocks: Sequence[str], labels: Sequence[int], shares: Mapping[str, float], seed: int) -> list[str]:
    """Gives whole blocks to parts, so that each class comes as near to its shares as the blocks allow.

    Blocks are placed in an order that the seed draws, then moved one by one, and exchanged, as long as that lowers the
    chi-squared distance between the counts (class by part) and the shares.

    Args:
        blocks: The block of each scene.
        labels: The class of each.
        shares: Of each part; they sum to 1.
        seed: Another seed, another split.

    Returns:
        The part of each scene.
    """
    parts = list(shares)
    names = sorted(set(blocks), key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).hexdigest())
    number = {name: index for index, name in enumerate(names)}
    counts = np.zeros((len(names), max(labels) + 1))
    np.add.at(counts, ([number[name] for name in blocks], list(labels)), 1)
    counts = counts[:, counts.any(0)]
    target = np.outer(list(shares.values()), counts.sum(0))

    def costs(have: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = ((have - target) ** 2 / target).sum(-1)
        return found

    home = np.full(len(names), -1)
    have = np.zeros_like(target)
    for _ in range(PASSES):
        moved = False
        for index, own in enumerate(counts):
            at = home[index]
            if at >= 0:
                have[at] -= own
            gain = costs(have + own) - costs(have)
            best = int(gain.argmin())
            if at >= 0 and gain[best] > gain[at] - 1e-9:
                best = at
            moved |= best != at
            home[index] = best
            have[best] += own
        if not moved and (len(names) > FEW or not _exchange(counts, home, have, target)):
            break
    return [parts[home[number[name]]] for name in blocks]


def _exchange(
    counts: NDArray[np.float64], home: NDArray[np.int64], have: NDArray[np.float64], target: NDArray[np.float64]
) -> bool:
    """Exchanges blocks of different parts, in place, where that lowers the distance; whether any was."""
    done = False
    for index, own in enumerate(counts):
        at = home[index]
        step = counts - own  # what `at` gains, and the other's part loses
        new = ((have[at] + step - target[at]) ** 2 / target[at]).sum(1)
        new += ((have[home] - step - target[home]) ** 2 / target[home]).sum(1)
        old = ((have - target) ** 2 / target).sum(1)
        gain = np.where(home == at, 0.0, new - old[at] - old[home])
        other = int(gain.argmin())
        if gain[other] < -1e-9:
            have[at] += step[other]
            have[home[other]] -= step[other]
            home[index], home[other] = home[other], at
            done = True
    return done
