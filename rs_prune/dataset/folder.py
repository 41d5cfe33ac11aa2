"""Any tree of one folder per class, with JPEG, PNG or (Geo)TIFF images inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rs_prune.contracts import Scenes
from rs_prune.errors import RsPruneError
from rs_prune.scenes.bands import ALL, pairs, select
from rs_prune.scenes.layout import class_folders
from rs_prune.scenes.reading import first_readable


class Folder:
    """A data set of one's own. Classes are discovered; statistics are computed on the training part.

    Args:
        root: The folder that holds one folder per class.
        size: Side in pixels that images are brought to; None: the first readable image's own size.
        on_error: `raise` or `skip` for files that cannot be read.
        bands: Names of the bands to read (red, green, blue; else band1, band2, …), in the order in which nets get
            them; or `all`.
        indices: Index -> bands (a, b) of the normalised difference (a - b) / (a + b), appended in this order.
        scale: Stored values are multiplied by this, 1e-4 for Sentinel-2 reflectance; None: 1/255 for uint8, else 1.
    """

    licence = "the user's"
    citation = ""
    source = None

    def __init__(
        self,
        *,
        root: str | None = None,
        size: int | None = None,
        on_error: str = "raise",
        bands: str | Sequence[str] = ALL,
        indices: Mapping[str, Sequence[str]] | None = None,
        scale: float | None = None,
    ) -> None:
        if scale is not None and not scale > 0:
            raise RsPruneError(f"dataset.scale={scale}: must be above 0")
        self.root = root
        self.size = size
        self.on_error = on_error
        self.bands = bands
        self.table = pairs(indices)
        self.scale = scale

    def folder(self) -> Path:
        if self.root is None:
            raise RsPruneError("dataset.root: nothing says where the images are; set dataset.root=<folder>")
        return Path(self.root).expanduser()

    def __call__(self) -> Scenes:
        root = self.folder()
        files, labels, classes = class_folders(root)
        first = first_readable(root, files, self.on_error)
        count, height, width = first.shape
        scenes = Scenes(
            name=root.resolve().name,
            root=root,
            files=files,
            labels=labels,
            classes=classes,
            bands=("red", "green", "blue") if count == 3 else tuple(f"band{n + 1}" for n in range(count)),
            size=(height, width) if self.size is None else (self.size, self.size),
            scale=self.scale or (1 / 255 if first.dtype == "uint8" else 1.0),
            mean=None,
            std=None,
            on_error=self.on_error,
        )
        return select(scenes, bands=self.bands, indices=tuple(self.table), table=self.table)
