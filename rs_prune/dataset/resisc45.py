"""NWPU-RESISC45: 31,500 Google Earth scenes of 45 classes, 700 a class.

Cheng, Han, Lu, "Remote Sensing Image Scene Classification: Benchmark and State of the Art", Proceedings
of the IEEE 2017, doi 10.1109/JPROC.2017.2675998 (arXiv 1703.00121).
"""

from __future__ import annotations

from rs_prune.contracts import Source
from rs_prune.scenes.declared import Declared


class RESISC45(Declared):
    """As distributed: `NWPU-RESISC45/<class>/<class>_<nnn>.jpg`, 256 x 256 pixels at 0.2 to 30 m."""

    name = "resisc45"
    below = "resisc45"
    licence = "not stated by the authors; Google Earth imagery, for research"
    citation = "Cheng et al., Proceedings of the IEEE 2017, doi 10.1109/JPROC.2017.2675998"
    classes = (
        "airplane", "airport", "baseball_diamond", "basketball_court", "beach", "bridge", "chaparral", "church",
        "circular_farmland", "cloud", "commercial_area", "dense_residential", "desert", "forest", "freeway",
        "golf_course", "ground_track_field", "harbor", "industrial_area", "intersection", "island", "lake", "meadow",
        "medium_residential", "mobile_home_park", "mountain", "overpass", "palace", "parking_lot", "railway",
        "railway_station", "rectangular_farmland", "river", "roundabout", "runway", "sea_ice", "ship", "snowberg",
        "sparse_residential", "stadium", "storage_tank", "tennis_court", "terrace", "thermal_power_station", "wetland",
    )  # fmt: skip
    per_class = 700
    images = 31_500
    native = 256
    source = Source(
        url="https://huggingface.co/datasets/torchgeo/resisc45/resolve/"
        "a826b44d938a883185f11ebe3d512d38b464312f/NWPU-RESISC45.zip",
        checksum="md5:75206b2e16446591afa88e2628744886",
        folder="NWPU-RESISC45",
        images=images,
    )
