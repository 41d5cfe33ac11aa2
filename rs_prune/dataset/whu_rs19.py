"""WHU-RS19: 1,005 Google Earth scenes of 19 classes, about 50 a class.

Xia, Yang, Delon, Gousseau, Sun, Maitre, "Structural High-Resolution Satellite Image Indexing", ISPRS TC VII
Symposium 2010; Dai, Yang, "Satellite Image Classification via Two-Layer Sparse Coding With Biased Image
Representation", IEEE GRSL 2011, doi 10.1109/LGRS.2010.2055033.
"""

from __future__ import annotations

from rs_prune.scenes.declared import Declared


class WHURS19(Declared):
    """As distributed: `WHU-RS19/<Class>/<class>_<nn>.jpg`, 600 x 600 pixels at up to 0.5 m.

    Some descriptions count 1,013 images; the copies in circulation hold 1,005 (so does that of jonathan-roberts1 on the
    Hugging Face hub, some of whose images are wider than 600 pixels). For counts of single classes there is no source.
    """

    name = "whu_rs19"
    below = "whu_rs19"
    licence = "not stated by the authors; Google Earth imagery, for research"
    citation = "Dai, Yang, IEEE GRSL 2011, doi 10.1109/LGRS.2010.2055033"
    classes = (
        "Airport", "Beach", "Bridge", "Commercial", "Desert", "Farmland", "Forest", "Industrial", "Meadow", "Mountain",
        "Park", "Parking", "Pond", "Port", "Residential", "River", "Viaduct", "footballField", "railwayStation",
    )  # fmt: skip
    per_class = None
    images = 1005
    native = 600
