"""What a net said of every test image, as a compact file a run.

Two runs of one split are compared image by image; the images are known by their content, not by their names or order.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rs_prune.errors import RsPruneError
from rs_prune.results.files import write
from rs_prune.results.store import digest

if TYPE_CHECKING:
    from rs_prune.scenes.load import Loaded

PREDICTIONS = "predictions.npz"
"""The dense net's file in the cache; a run's own is named after its record."""
STAGES = ("final", "dense")


@dataclass(frozen=True)
class Predictions:
    """Classes of the test images of one split, ordered by the images' content.

    Attributes:
        images: Identity of the test part: digest of every image's content and label.
        labels: (images,) true class.
        stages: `final`, and `dense` where it is known -> (images,) predicted class.
    """

    images: str
    labels: NDArray[np.int64]
    stages: Mapping[str, NDArray[np.int64]]

    def right(self, stage: str = "final") -> NDArray[np.bool_]:
        """(images,) whether the net of that stage was right."""
        return np.asarray(self.stages[stage] == self.labels)


def keep(path: Path, loaded: Loaded, predicted: NDArray[np.int64], dense: Path | None = None) -> None:
    """Writes what a net predicted for the test part, whole or not at all.

    Args:
        path: The file.
        loaded: The scenes.
        predicted: (images,) in the order of `loaded.parts.test`.
        dense: A file of the same form whose `final` becomes this file's `dense`; ignored if there is none, as in caches
            of earlier versions.

    Raises:
        RsPruneError: When `dense` is damaged or holds other images.
    """
    test = np.array(loaded.parts.test)
    contents = np.array(loaded.contents)[test]
    labels = np.array(loaded.scenes.labels)[test]
    order = np.lexsort((labels, contents))
    labels = labels[order]
    identity = digest([contents[order].tolist(), labels.tolist()])
    found = Predictions(identity, labels, {"final": np.asarray(predicted)[order]})
    if dense is not None and dense.exists():
        start = load(dense)
        check_same(found, start, str(path), str(dense))
        found = Predictions(identity, labels, {**found.stages, "dense": start.stages["final"]})
    small = np.uint8 if len(loaded.scenes.classes) <= 256 else np.uint16
    arrays = {"labels": labels, **found.stages}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=np.array(identity), **{name: a.astype(small) for name, a in arrays.items()})
    write(path, buffer.getvalue())


def load(path: Path) -> Predictions:
    """What `keep` wrote.

    Raises:
        RsPruneError: When the file is missing, damaged, or no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            stages = {stage: kept[stage].astype(np.int64) for stage in STAGES if stage in kept}
            found = Predictions(str(kept["images"]), kept["labels"].astype(np.int64), stages)
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise RsPruneError(f"{path}: not a readable file of predictions ({reason}); remove it and its record") from None
    if "final" not in stages or any(stage.shape != found.labels.shape for stage in stages.values()):
        raise RsPruneError(f"{path}: its predictions do not fit its labels; remove it and its record, and rerun")
    return found


def check_same(one: Predictions, other: Predictions, name: str, other_name: str) -> None:
    """Refuses two nets that did not see the same test images.

    Raises:
        RsPruneError: Naming both.
    """
    if one.images != other.images:
        raise RsPruneError(
            f"{name} and {other_name}: predictions of different test images ({one.images}, {other.images}), which "
            "cannot be paired; compare runs of one data set, split.seed and limit"
        )
