"""What the images of one set must have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from rs_prune.contracts import Scenes
from rs_prune.errors import RsPruneError


def one_type(scenes: Scenes, files: Sequence[str], types: Sequence[np.dtype[np.generic]]) -> np.dtype[np.generic]:
    """The type of values that all files share; one scale for two types would make nonsense of one of them.

    Args:
        scenes: The set.
        files: Those that could be read.
        types: Of each.

    Raises:
        RsPruneError: When there is more than one type, naming a file of each.
    """
    counts = Counter(types)
    usual = min(counts, key=lambda kind: (-counts[kind], kind.str))
    odd = [(file, kind) for file, kind in zip(files, types, strict=True) if kind != usual]
    if odd:
        file, kind = odd[0]
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        raise RsPruneError(
            f"{scenes.root / file}{more}: values of type {kind} where {files[list(types).index(usual)]} has {usual}; "
            "bring all images to one type"
        )
    return usual
