"""What published data sets have in common: a subclass declares one, and this finds its images."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from rs_prune.contracts import Scenes, Source
from rs_prune.scenes.bands import ALL, select
from rs_prune.scenes.layout import class_folders, data_root, few, find_classes

RGB = ("red", "green", "blue")

log = logging.getLogger("rs_prune")


class Declared:
    """A data set of one folder per class whose classes are known beforehand.

    Args:
        root: The folder that holds the class folders, or folders around them; None: `below` below RS_PRUNE_DATA.
        size: Side in pixels that scenes are brought to; None: `native`.
        on_error: `raise` or `skip` for files that cannot be read.
        bands: Names of the bands to read, in the order in which nets get them; or `all`.
        indices: Names of indices to append to them.

    Attributes:
        name: The data set's name.
        below: Its folder below RS_PRUNE_DATA.
        licence: The images' licence, as far as their authors state one.
        citation: What to cite, with a doi or arXiv id.
        classes: The class folders as distributed, in label order.
        per_class: Images of each class; one number where all have as many; None where only the sum is known.
        images: Images in all.
        bands: Band names, in the order of the files.
        table: Index -> bands (a, b) of the normalised difference (a - b) / (a + b), after scaling.
        native: Side of a scene in pixels, as distributed.
        scale: Stored values are multiplied by this.
        mean: Mean per band after scaling; None: computed on the training part.
        std: Likewise.
        source: Where the set can be fetched; None where no address with a known checksum is.
    """

    name: ClassVar[str]
    below: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]
    per_class: ClassVar[int | tuple[int, ...] | None]
    images: ClassVar[int]
    bands: ClassVar[tuple[str, ...]] = RGB
    table: ClassVar[Mapping[str, tuple[str, str]]] = {}
    native: ClassVar[int]
    scale: ClassVar[float] = 1 / 255
    mean: ClassVar[tuple[float, ...] | None] = None
    std: ClassVar[tuple[float, ...] | None] = None
    source: ClassVar[Source | None] = None

    def __init__(
        self,
        *,
        root: str | None = None,
        size: int | None = None,
        on_error: str = "raise",
        bands: str | Sequence[str] = ALL,
        indices: Sequence[str] = (),
    ) -> None:
        self.root = root
        self.size = self.native if size is None else size
        self.on_error = on_error
        self.chosen = (bands, tuple(indices) if isinstance(indices, list) else indices)

    def folder(self) -> Path:
        return data_root(self.root, self.below)

    def __call__(self) -> Scenes:
        root, folders = find_classes(self.folder(), self.classes)
        files, labels, _ = class_folders(root, folders)
        self._tell(root, folders, labels)
        scenes = Scenes(
            name=self.name,
            root=root,
            files=files,
            labels=labels,
            classes=self.classes,
            bands=self.bands,
            size=(self.size, self.size),
            scale=self.scale,
            mean=self.mean,
            std=self.std,
            on_error=self.on_error,
        )
        bands, indices = self.chosen
        return select(scenes, bands=bands, indices=indices, table=self.table)

    def _tell(self, root: Path, folders: Sequence[str], labels: Sequence[int]) -> None:
        """One line for what is where or called otherwise than distributed, and one for counts that differ."""
        renamed = [f"{there} = {name}" for name, there in zip(self.classes, folders, strict=True) if there != name]
        if renamed:
            log.info("%s: class folders found under other names: %s", root, ", ".join(renamed))
        elif root != self.folder():
            log.info("%s: class folders found here", root)
        counts = Counter(labels)
        declared = self.per_class
        each = (declared,) * len(self.classes) if isinstance(declared, int) else declared or ()
        odd = [
            f"{name} {counts[label]} of {count}"
            for label, (name, count) in enumerate(zip(self.classes, each, strict=False))
            if counts[label] != count
        ]
        if odd or len(labels) != self.images:
            detail = f" ({few(odd)})" if odd else ""
            log.warning("%s: %d images, where %s has %d%s", root, len(labels), self.name, self.images, detail)
