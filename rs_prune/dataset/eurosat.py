"""EuroSAT (RGB): 27,000 Sentinel-2 scenes of 10 land-use classes.

Helber, Bischke, Dengel, Borth, "EuroSAT: A Novel Dataset and Deep Learning Benchmark for Land Use and Land
Cover Classification", IEEE JSTARS 2019, doi 10.1109/JSTARS.2019.2918242 (arXiv 1709.00029). MIT licence;
contains modified Copernicus Sentinel data.
"""

from __future__ import annotations

from rs_prune.contracts import Source
from rs_prune.scenes.declared import Declared


class EuroSAT(Declared):
    """As distributed: `<Class>/<Class>_<n>.jpg` (in the folder `2750` or `EuroSAT_RGB`), 64 x 64 pixels at 10 m."""

    name = "eurosat"
    below = "eurosat_rgb"
    licence = "MIT"
    citation = "Helber et al., IEEE JSTARS 2019, doi 10.1109/JSTARS.2019.2918242"
    classes = (
        "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop",
        "Residential", "River", "SeaLake",
    )  # fmt: skip
    per_class = (3000, 3000, 3000, 2500, 2500, 2000, 2500, 3000, 2500, 3000)
    images = 27_000
    native = 64
    # Over the training part of the 60/10/30 split with seed 0.
    mean = (0.3425, 0.3789, 0.4069)
    std = (0.2015, 0.1362, 0.1149)
    source = Source(
        url="https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
        "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
        checksum="md5:c8fa014336c82ac7804f0398fcb19387",
        folder="2750",
        images=images,
    )
