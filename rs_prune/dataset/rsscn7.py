"""RSSCN7: 2,800 Google Earth scenes of 7 classes, 400 a class, at four scales.

Zou, Ni, Zhang, Wang, "Deep Learning Based Feature Selection for Remote Sensing Scene Classification", IEEE GRSL 2015,
doi 10.1109/LGRS.2015.2475299.
"""

from __future__ import annotations

from rs_prune.scenes.declared import Declared


class RSSCN7(Declared):
    """As distributed: `<aGrass ... gParking>/<a001>.jpg`, 400 x 400 pixels."""

    name = "rsscn7"
    below = "rsscn7"
    licence = "for research and academic purposes"
    citation = "Zou et al., IEEE GRSL 2015, doi 10.1109/LGRS.2015.2475299"
    classes = (
        "aGrass", "bField", "cIndustry", "dRiverLake", "eForest", "fResident", "gParking",
    )  # fmt: skip
    per_class = 400
    images = 2800
    native = 400
