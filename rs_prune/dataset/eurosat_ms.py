"""EuroSAT (multispectral): 27,000 Sentinel-2 scenes of 10 land-use classes in 13 bands.

Helber, Bischke, Dengel, Borth, "EuroSAT: A Novel Dataset and Deep Learning Benchmark for Land Use and Land
Cover Classification", IEEE JSTARS 2019, doi 10.1109/JSTARS.2019.2918242 (arXiv 1709.00029). MIT licence;
contains modified Copernicus Sentinel data.
"""

from __future__ import annotations

from typing import ClassVar

from rs_prune.contracts import Source
from rs_prune.scenes.declared import Declared


class EuroSATMS(Declared):
    """As distributed: `<Class>/<Class>_<n>.tif`, georeferenced, 64 x 64 pixels at 10 m.

    uint16 values are reflectance times 10,000. Band 8A is the files' last one, after band 12.
    """

    name = "eurosat_ms"
    below = "eurosat_ms"
    licence = "MIT"
    citation = "Helber et al., IEEE JSTARS 2019, doi 10.1109/JSTARS.2019.2918242"
    classes = (
        "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop",
        "Residential", "River", "SeaLake",
    )  # fmt: skip
    per_class = (3000, 3000, 3000, 2500, 2500, 2000, 2500, 3000, 2500, 3000)
    images = 27_000
    native = 64
    bands = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A")
    table: ClassVar = {
        "NDVI": ("B08", "B04"),  # vegetation: Tucker 1979, doi 10.1016/0034-4257(79)90013-0
        "NDWI": ("B03", "B08"),  # open water: McFeeters 1996, doi 10.1080/01431169608948714
        "MNDWI": ("B03", "B11"),  # open water beside buildings: Xu 2006, doi 10.1080/01431160600589179
        "NDBI": ("B11", "B08"),  # built-up land: Zha, Gao, Ni 2003, doi 10.1080/01431160304987
    }
    scale = 1e-4
    source = Source(
        url="https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
        "1ce6f1bfb56db63fd91b6ecc466ea67f2509774c/EuroSATallBands.zip",
        checksum="md5:5ac12b3b2557aa56e1826e981e8e200e",
        folder="ds/images/remote_sensing/otherDatasets/sentinel_2/tif",
        images=images,
    )
