"""PatternNet: 30,400 Google Earth scenes of 38 classes, 800 a class.

Zhou, Newsam, Li, Shao, "PatternNet: A Benchmark Dataset for Performance Evaluation of Remote Sensing Image Retrieval",
ISPRS Journal 2018, doi 10.1016/j.isprsjprs.2018.01.004.
"""

from __future__ import annotations

from rs_prune.contracts import Source
from rs_prune.scenes.declared import Declared


class PatternNet(Declared):
    """As distributed: `PatternNet/images/<class>/<class><nnn>.jpg`, 256 x 256 pixels at 0.06 to 4.7 m."""

    name = "patternnet"
    below = "patternnet"
    licence = "CC-BY-4.0 by the TorchGeo mirror; Google imagery"
    citation = "Zhou et al., ISPRS Journal 2018, doi 10.1016/j.isprsjprs.2018.01.004"
    classes = (
        "airplane", "baseball_field", "basketball_court", "beach", "bridge", "cemetery", "chaparral",
        "christmas_tree_farm", "closed_road", "coastal_mansion", "crosswalk", "dense_residential", "ferry_terminal",
        "football_field", "forest", "freeway", "golf_course", "harbor", "intersection", "mobile_home_park",
        "nursing_home", "oil_gas_field", "oil_well", "overpass", "parking_lot", "parking_space", "railway", "river",
        "runway", "runway_marking", "shipping_yard", "solar_panel", "sparse_residential", "storage_tank",
        "swimming_pool", "tennis_court", "transformer_station", "wastewater_treatment_plant",
    )  # fmt: skip
    per_class = 800
    images = 30_400
    native = 256
    source = Source(
        url="https://huggingface.co/datasets/torchgeo/PatternNet/resolve/"
        "2dbd901b00e301967a5c5146b25454f5d3455ad0/PatternNet.zip",
        checksum="md5:96d54b3224c5350a98d55d5a7e6984ad",
        folder="PatternNet/images",
        images=images,
    )
