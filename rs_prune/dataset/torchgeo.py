"""Any classification data set of torchgeo, with the train, validation and test lists that it brings along.

Stewart, Robinson, Corley, Ortiz, Lavista Ferres, Banerjee, "TorchGeo: Deep Learning With Geospatial Data", ACM
SIGSPATIAL 2022, doi 10.1145/3557915.3560953 (arXiv 2111.08872).
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rs_prune.contracts import Scenes
from rs_prune.errors import RsPruneError
from rs_prune.scenes.bands import ALL, pairs, select
from rs_prune.scenes.layout import data_root
from rs_prune.scenes.reading import first_readable

PARTS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
FAULTS = (OSError, RuntimeError, AssertionError, ValueError, LookupError)


class TorchGeo:
    """Finds the files, labels and lists through torchgeo; images are read by our own reader, at their stored values.

    Args:
        dataset: torchgeo's name of the set, such as EuroSAT.
        root: What torchgeo calls `root`; None: `torchgeo/<dataset>` below RS_PRUNE_DATA.
        size: Side in pixels that scenes are brought to; None: the first readable image's own size.
        bands: Names of the bands to read (torchgeo's; red, green, blue; else band1, band2, …), in the order in which
            nets get them; or `all`.
        indices: Index -> bands (a, b) of the normalised difference (a - b) / (a + b), appended in this order.
        scale: Stored values are multiplied by this, above 0; None: 1/255 for bytes, else 1.
        download: Let torchgeo download what is missing.
        on_error: `raise` or `skip` for files that cannot be read.
    """

    licence = "see torchgeo's documentation of the set"
    citation = "Stewart et al., ACM SIGSPATIAL 2022, doi 10.1145/3557915.3560953, and what torchgeo names for the set"
    source = None

    def __init__(
        self,
        *,
        dataset: str,
        root: str | None = None,
        size: int | None = None,
        bands: str | Sequence[str] = ALL,
        indices: Mapping[str, Sequence[str]] | None = None,
        scale: float | None = None,
        download: bool = False,
        on_error: str = "raise",
    ) -> None:
        if scale is not None and not scale > 0:
            raise RsPruneError(f"dataset.scale={scale}: must be above 0")
        self.dataset = dataset
        self.root = root
        self.size = size
        self.bands = bands
        self.table = pairs(indices)
        self.scale = scale
        self.download = download
        self.on_error = on_error

    def folder(self) -> Path:
        return data_root(self.root, f"torchgeo/{self.dataset}")

    def __call__(self) -> Scenes:
        kind, root = self._kind(), self.folder()
        files: dict[str, int] = {}
        parts: dict[str, str] = {}
        classes: tuple[str, ...] = ()
        for split in self._splits(kind):
            made = self._made(kind, root, split)
            classes = classes or tuple(made.classes)
            if tuple(made.classes) != classes:
                raise RsPruneError(f"{root}: torchgeo's {split} part has other classes than its first part")
            for path, label in made.samples:
                file = Path(path).relative_to(root).as_posix()
                if file in parts:
                    raise RsPruneError(f"{root / file}: torchgeo lists it in {parts[file]} and in {split}")
                files[file] = int(label)
                if split:
                    parts[file] = PARTS[split]
        ordered = tuple(sorted(files))
        first = first_readable(root, ordered, self.on_error)
        count, height, width = first.shape
        scenes = Scenes(
            name=f"torchgeo_{self.dataset.lower()}",
            root=root,
            files=ordered,
            labels=tuple(files[file] for file in ordered),
            classes=classes,
            bands=_bands(kind, count),
            size=(height, width) if self.size is None else (self.size, self.size),
            scale=self.scale or (1 / 255 if first.dtype == "uint8" else 1.0),
            mean=None,
            std=None,
            on_error=self.on_error,
            parts=parts or None,
        )
        return select(scenes, bands=self.bands, indices=tuple(self.table), table=self.table)

    def _kind(self) -> Any:
        """The set's class in torchgeo."""
        try:
            module = importlib.import_module("torchgeo.datasets")
        except ImportError as error:
            raise RsPruneError(
                f"dataset=torchgeo: torchgeo cannot be imported ({error}); pip install 'rs-prune[torchgeo]'"
            ) from error
        base = module.NonGeoClassificationDataset
        kinds = {
            name: value
            for name, value in vars(module).items()
            if inspect.isclass(value) and issubclass(value, base) and value is not base
        }
        if self.dataset not in kinds:
            raise RsPruneError(
                f"dataset.dataset={self.dataset}: torchgeo has no such classification data set; it has "
                f"{', '.join(sorted(kinds))}"
            )
        return kinds[self.dataset]

    def _splits(self, kind: Any) -> tuple[str | None, ...]:
        """The parts that the set is made of; (None,) where torchgeo does not divide it."""
        if "split" not in inspect.signature(kind).parameters:
            return (None,)
        names = tuple(getattr(kind, "splits", ("train", "val", "test")))
        if unknown := [name for name in names if name not in PARTS]:
            raise RsPruneError(f"dataset.dataset={self.dataset}: its part {unknown[0]} is none of {', '.join(PARTS)}")
        return names

    def _made(self, kind: Any, root: Path, split: str | None) -> Any:
        given = {} if split is None else {"split": split}
        try:
            return kind(root=str(root), download=self.download, **given)
        except FAULTS as error:
            if type(error).__name__ == "DatasetNotFoundError":
                raise RsPruneError(
                    f"{root}: torchgeo does not find {self.dataset} here; set dataset.root, or dataset.download=true"
                ) from error
            line = next(iter(str(error).splitlines()), type(error).__name__)
            raise RsPruneError(f"{root}: torchgeo cannot use {self.dataset}: {line}") from error


def _bands(kind: Any, count: int) -> tuple[str, ...]:
    names = tuple(getattr(kind, "all_band_names", ()))
    if len(names) == count:
        return names
    return ("red", "green", "blue") if count == 3 else tuple(f"band{n + 1}" for n in range(count))
