"""AID: 10,000 Google Earth scenes of 30 classes, 220 to 420 a class.

Xia, Hu, Hu, Shi, Bai, Zhong, Zhang, Lu, "AID: A Benchmark Dataset for Performance Evaluation of Aerial Scene
Classification", IEEE TGRS 2017, doi 10.1109/TGRS.2017.2685945 (arXiv 1608.05167).
"""

from __future__ import annotations

from rs_prune.scenes.declared import Declared


class AID(Declared):
    """As distributed: `AID/<Class>/<class>_<n>.jpg`, 600 x 600 pixels at 0.5 to 8 m."""

    name = "aid"
    below = "aid"
    licence = "not stated by the authors; Google Earth imagery, for research"
    citation = "Xia et al., IEEE TGRS 2017, doi 10.1109/TGRS.2017.2685945"
    classes = (
        "Airport", "BareLand", "BaseballField", "Beach", "Bridge", "Center", "Church", "Commercial", "DenseResidential",
        "Desert", "Farmland", "Forest", "Industrial", "Meadow", "MediumResidential", "Mountain", "Park", "Parking",
        "Playground", "Pond", "Port", "RailwayStation", "Resort", "River", "School", "SparseResidential", "Square",
        "Stadium", "StorageTanks", "Viaduct",
    )  # fmt: skip
    per_class = (
        360, 310, 220, 400, 360, 260, 240, 350, 410, 300, 370, 250, 390, 280, 290, 340, 350, 390, 370, 420, 380,
        260, 290, 410, 300, 300, 330, 290, 360, 420,
    )  # fmt: skip
    images = 10_000
    native = 600
