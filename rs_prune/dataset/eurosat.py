"""EuroSAT (RGB): 27,000 Sentinel-2 scenes of 10 land-use classes.

Helber, Bischke, Dengel, Borth, "EuroSAT: A Novel Dataset and Deep Learning Benchmark for Land Use and Land
Cover Classification", IEEE JSTARS 2019, doi 10.1109/JSTARS.2019.2918242 (arXiv 1709.00029). MIT licence;
contains modified Copernicus Sentinel data.
"""

from __future__ import annotations

from pathlib import Path

from rs_prune.contracts import Scenes, Source
from rs_prune.scenes.layout import class_folders, data_root


class EuroSAT:
    """The RGB version as distributed: `<Class>/<Class>_<n>.jpg`, 64 x 64 pixels at 10 m.

    Args:
        root: The folder that holds the ten class folders; None: `eurosat_rgb` below RS_PRUNE_DATA.
        size: Side in pixels that scenes are brought to.
        on_error: `raise` or `skip` for files that cannot be read.
    """

    licence = "MIT"
    citation = "Helber et al., IEEE JSTARS 2019, doi 10.1109/JSTARS.2019.2918242"
    classes = (
        "AnnualCrop",
        "Forest",
        "HerbaceousVegetation",
        "Highway",
        "Industrial",
        "Pasture",
        "PermanentCrop",
        "Residential",
        "River",
        "SeaLake",
    )
    bands = ("red", "green", "blue")
    native = 64
    # Over the training part of the 60/10/30 split with seed 0.
    mean = (0.3425, 0.3789, 0.4069)
    std = (0.2015, 0.1362, 0.1149)
    source = Source(
        url="https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
        "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
        checksum="md5:c8fa014336c82ac7804f0398fcb19387",
        folder="2750",
        images=27_000,
    )

    def __init__(self, *, root: str | None = None, size: int = native, on_error: str = "raise") -> None:
        self.root = root
        self.size = size
        self.on_error = on_error

    def folder(self) -> Path:
        return data_root(self.root, "eurosat_rgb")

    def __call__(self) -> Scenes:
        root = self.folder()
        files, labels, classes = class_folders(root, self.classes)
        return Scenes(
            name="eurosat",
            root=root,
            files=files,
            labels=labels,
            classes=classes,
            bands=self.bands,
            size=(self.size, self.size),
            scale=1 / 255,
            mean=self.mean,
            std=self.std,
            on_error=self.on_error,
        )
