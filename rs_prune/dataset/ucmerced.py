"""UC Merced Land Use: 2,100 aerial scenes of 21 classes, 100 a class.

Yang, Newsam, "Bag-Of-Visual-Words and Spatial Extensions for Land-Use Classification", ACM SIGSPATIAL GIS 2010,
doi 10.1145/1869790.1869829. Images of the USGS National Map, public domain.
"""

from __future__ import annotations

from rs_prune.contracts import Source
from rs_prune.scenes.declared import Declared


class UCMerced(Declared):
    """As distributed: `UCMerced_LandUse/Images/<class>/<class><nn>.tif`, 256 x 256 pixels at 0.3 m, not georeferenced.

    44 images are a few pixels off 256 and are brought to it; two (`airplane01`, `airplane02`) have identical pixels.
    """

    name = "ucmerced"
    below = "ucmerced"
    licence = "public domain"
    citation = "Yang, Newsam, ACM SIGSPATIAL GIS 2010, doi 10.1145/1869790.1869829"
    classes = (
        "agricultural", "airplane", "baseballdiamond", "beach", "buildings", "chaparral", "denseresidential", "forest",
        "freeway", "golfcourse", "harbor", "intersection", "mediumresidential", "mobilehomepark", "overpass",
        "parkinglot", "river", "runway", "sparseresidential", "storagetanks", "tenniscourt",
    )  # fmt: skip
    per_class = 100
    images = 2100
    native = 256
    source = Source(
        url="https://huggingface.co/datasets/torchgeo/ucmerced/resolve/"
        "7c5ef3454d9b1cccfa7ccde0c01fc8f00a45909a/UCMerced_LandUse.zip",
        checksum="md5:5b7ec56793786b6dc8a908e8854ac0e4",
        folder="UCMerced_LandUse/Images",
        images=images,
    )
