"""Where class folders are looked for, and what is said where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from rs_prune.errors import RsPruneError
from rs_prune.scenes.layout import class_folders, few, find_classes, plain

CLASSES = ("BareLand", "sea_ice", "Port")


def grow(root: Path, *folders: str) -> Path:
    for folder in folders:
        (root / folder).mkdir(parents=True)
        (root / folder / "1.jpg").write_bytes(b"")
    return root


@pytest.mark.parametrize("inside", [".", "Set", "Set/Images", "a/b/c/d/e/f"])
@pytest.mark.parametrize("names", [CLASSES, ("bare land", "SEA-ICE", "port"), ("Bare_Land", "seaice", "PORT")])
def test_wrapping_folders_and_other_spellings_are_found(tmp_path, inside, names):
    grow(tmp_path / inside, *names, "extra")
    assert find_classes(tmp_path, CLASSES) == (tmp_path / inside, names)


def test_siblings_of_the_wrapping_folder_do_not_matter(tmp_path):
    grow(tmp_path, *(f"Set/Images/{name}" for name in CLASSES), "Set/docs", "__MACOSX/Set", ".cache", "other/x")
    assert find_classes(tmp_path, CLASSES) == (tmp_path / "Set" / "Images", CLASSES)


def test_the_outermost_place_wins(tmp_path):
    grow(tmp_path, *CLASSES, *(f"old/{name}" for name in CLASSES))
    assert find_classes(tmp_path, CLASSES)[0] == tmp_path


def test_two_places_are_refused(tmp_path):
    grow(tmp_path, *(f"{part}/{name}" for part in ("train", "test") for name in CLASSES))
    with pytest.raises(RsPruneError, match=r"more than once \(test, train\); set dataset\.root"):
        find_classes(tmp_path, CLASSES)


def test_two_folders_of_one_class_are_refused(tmp_path):
    grow(tmp_path, *CLASSES, "Bare Land")
    with pytest.raises(RsPruneError, match="Bare Land and BareLand are both class BareLand"):
        find_classes(tmp_path, CLASSES)


def test_what_is_missing_and_what_is_there_is_said(tmp_path):
    grow(tmp_path, "Set/BareLand", "Set/Port", "Set/Harbour", "other/x")
    message = r"Set: expected .* each of 3 classes; missing: sea_ice; found: BareLand, Harbour, Port; set dataset\.root"
    with pytest.raises(RsPruneError, match=message):
        find_classes(tmp_path, CLASSES)


def test_a_flat_folder_a_file_and_nothing_are_refused(tmp_path):
    (tmp_path / "airport_1.jpg").write_bytes(b"")
    with pytest.raises(RsPruneError, match="missing: BareLand, sea_ice, Port; found: no folder"):
        find_classes(tmp_path, CLASSES)
    for wrong in ("airport_1.jpg", "nowhere"):
        with pytest.raises(RsPruneError, match=f"{wrong}: no such folder; set dataset.root"):
            find_classes(tmp_path / wrong, CLASSES)


def test_a_class_without_images_is_refused(tmp_path):
    grow(tmp_path, *CLASSES)
    (tmp_path / "Port" / "1.jpg").rename(tmp_path / "Port" / "notes.txt")
    with pytest.raises(RsPruneError, match=r"Port: holds no image \(\.jpg"):
        class_folders(tmp_path, CLASSES)


def test_a_folder_that_holds_itself_does_not_lead_astray(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path)
    with pytest.raises(RsPruneError, match="missing"):
        find_classes(tmp_path, CLASSES)


def test_spellings():
    assert {plain(name) for name in ("Sea_Ice", "sea ice", "SEA-ICE", "seaice")} == {"seaice"}
    assert few("abcdefg") == "a, b, c, d, e and 2 more"
    assert few("ab") == "a, b"
