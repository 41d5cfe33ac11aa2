"""Images that do not belong together."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from fakes import TINY_RUN, decode

from rs_prune.dataset.folder import Folder
from rs_prune.errors import RsPruneError


def grow(root, kinds):
    for label in "ab":
        (root / label).mkdir()
        for number, kind in enumerate(kinds):
            with rasterio.open(
                root / label / f"{number}.tif", "w", driver="GTiff", count=3, height=4, width=4, dtype=kind
            ) as file:
                file.write(np.full((3, 4, 4), number + 1, kind))
    return Folder(root=str(root))()


def test_two_types_of_values_are_refused(tmp_path):
    scenes = grow(tmp_path, ["uint16", "uint16", "uint8", "uint16"])
    with pytest.raises(
        RsPruneError, match=r"a/2\.tif and 1 more: values of type uint8 where a/0\.tif has uint16; bring"
    ):
        decode(scenes)


def test_files_that_are_read_as_one_type_are_not_mixed(tmp_path):
    assert decode(grow(tmp_path, ["int16", "float32", "int32"]))[1].dtype == np.float32


def test_a_run_says_so_in_one_line(rs_prune, tmp_path):
    (tmp_path / "set").mkdir()
    grow(tmp_path / "set", ["uint16", "uint8"])
    answer = rs_prune("run", *TINY_RUN, f"dataset.root={tmp_path / 'set'}", "out=here")
    assert answer.status == 1
    (line,) = [line for line in answer.err.splitlines() if line.startswith("rs-prune: ")]
    assert "values of type" in line
