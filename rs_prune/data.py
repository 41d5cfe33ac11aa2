"""Show what a data set holds: counts, sizes, bands, values, faults, statistics, and a contact sheet."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from rs_prune.build import build
from rs_prune.contracts import Scenes, Split
from rs_prune.errors import RsPruneError
from rs_prune.results.sheet import contact_sheet, stretch, true_colour
from rs_prune.results.store import write_json
from rs_prune.scenes.layout import few
from rs_prune.scenes.reading import read
from rs_prune.scenes.splits import PARTS, in_use, options, share_of_training, split
from rs_prune.scenes.survey import Seen, common, moments, survey, units

SHOWN = 20  # names on the screen; summary.json has all


def main(cfg: DictConfig) -> None:
    """Reads every file of the set, writes `summary.json` and `contact_sheet.png`, and prints the summary."""
    if not isinstance(cfg.images, int) or isinstance(cfg.images, bool) or cfg.images < 1:
        raise RsPruneError(f"images={cfg.images}: must be a whole number of at least 1")
    scenes: Scenes = build(cfg.dataset, "dataset")()
    console = Console(quiet=cfg.quiet, highlight=False, soft_wrap=True, markup=False)
    seen = survey(scenes)
    usable = _usable(scenes, seen)
    words: dict[str, Any] = OmegaConf.to_container(cfg.split, resolve=True)  # type: ignore[assignment]
    found = [one for one in seen if one.file in usable]
    good = [index for index, one in enumerate(seen) if one.file in usable]
    kept = replace(scenes, files=tuple(usable), labels=tuple(scenes.labels[index] for index in good))
    parts, reason = None, None
    try:
        parts = split(kept, units(found), **options(words), seed=words["seed"])
        contents = [found[index].content for index in parts.train]
        parts = share_of_training(parts, kept.labels, contents, in_use(words), words["seed"])
    except RsPruneError as error:
        reason = str(error)
    facts = _summary(scenes, seen, kept, found, parts, reason)
    folder = Path(cfg.out).expanduser() / "data" / scenes.name
    write_json(folder / "summary.json", facts)
    sheet = _draw(folder / "contact_sheet.png", kept, facts["bands"], cfg.images)
    _show(console, scenes, facts)
    for path in (folder / "summary.json", sheet):
        console.print(str(path))


def _usable(scenes: Scenes, seen: Sequence[Seen]) -> list[str]:
    """The files that are read and are of the bands and type that most have: those that a run takes."""
    whole = [one for one in seen if not one.error]
    if all(one.empty for one in whole):
        raise RsPruneError(f"{scenes.root}: none of the {len(seen)} images can be read and holds anything but nodata")
    kind = common(whole)
    return [one.file for one in whole if (one.shape[0], one.dtype) == kind]


def _summary(
    scenes: Scenes, seen: Sequence[Seen], kept: Scenes, found: Sequence[Seen], parts: Split | None, reason: str | None
) -> dict[str, Any]:
    """Everything that summary.json holds."""
    count = found[0].shape[0]
    names = scenes.stored or scenes.bands  # the files are shown whole, whatever bands are chosen
    bands = list(names) if len(names) == count else [f"band{n + 1}" for n in range(count)]
    classes: dict[str, dict[str, int]] = {
        name: {"images": scenes.labels.count(label)} for label, name in enumerate(scenes.classes)
    }
    statistics = {"all": moments(found, scenes)}
    if parts:
        for part in PARTS:
            held = Counter(kept.labels[index] for index in getattr(parts, part))
            for label, name in enumerate(scenes.classes):
                classes[name][part] = held[label]
        statistics["train"] = moments([found[index] for index in parts.train], scenes)
    alike: dict[str, list[str]] = defaultdict(list)
    for one in seen:
        if not one.error:
            alike[one.look].append(one.file)
    low = np.min([one.low for one in found], 0)
    high = np.max([one.high for one in found], 0)
    readable = [one for one in seen if not one.error]
    return {
        "name": scenes.name,
        "root": str(scenes.root),
        "images": len(seen),
        "classes": classes,
        "split": {part: len(getattr(parts, part)) for part in PARTS} if parts else None,
        "no_split": reason,
        "bands": bands,
        "size": list(scenes.size),
        "sizes": _counts(f"{one.shape[2]}x{one.shape[1]}" for one in readable),
        "dtypes": _counts(one.dtype for one in readable),
        "band_counts": _counts(str(one.shape[0]) for one in readable),
        "crs": _counts(one.crs or "none" for one in readable),
        "range": {name: [low[n].item(), high[n].item()] for n, name in enumerate(bands)},
        "scale": scenes.scale,
        "declared": {"mean": scenes.mean, "std": scenes.std} if scenes.mean and not scenes.channels else None,
        "statistics": statistics,
        "duplicates": sorted(files for files in alike.values() if len(files) > 1),
        "corrupt": {one.file: one.error for one in seen if one.error and not one.empty},
        "nodata_only": [one.file for one in seen if one.empty],
        "odd": {
            one.file: f"{one.shape[0]} bands of {one.dtype}"
            for one in readable
            if (one.shape[0], one.dtype) != (count, found[0].dtype)
        },
    }


def _counts(words: Any) -> dict[str, int]:
    return dict(Counter(words).most_common())


def _draw(path: Path, scenes: Scenes, bands: Sequence[str], images: int) -> Path:
    """A few scenes of each class, from evenly spaced places in its list."""
    colours = true_colour(bands)
    chosen: list[tuple[str, list[int]]] = []
    for label, name in enumerate(scenes.classes):
        own = [index for index, other in enumerate(scenes.labels) if other == label]
        places = np.linspace(0, len(own) - 1, min(images, len(own))).round().astype(int)
        chosen.append((name, [own[place] for place in places]))
    flat = stretch([read(scenes.root / scenes.files[index])[list(colours)] for _, own in chosen for index in own])
    queue = iter(flat)
    rows = [(name, [next(queue) for _ in own]) for name, own in chosen]
    shown = ", ".join(bands[index] for index in dict.fromkeys(colours))
    return contact_sheet(path, rows, f"{scenes.name}: {len(scenes.files)} images; bands shown: {shown}")


def _show(console: Console, scenes: Scenes, facts: dict[str, Any]) -> None:
    """The summary on the screen."""
    width, height = scenes.size[1], scenes.size[0]
    console.print(f"{scenes.root}: {facts['images']} images, {len(scenes.classes)} classes, used at {width}x{height}")
    table = Table("class", *(("images", *PARTS) if facts["split"] else ("images",)), box=None, pad_edge=False)
    for name, counts in facts["classes"].items():
        table.add_row(name, *map(str, counts.values()))
    if facts["split"]:
        table.add_row("all", *map(str, (sum(facts["split"].values()), *facts["split"].values())))
    console.print(table)
    if facts["no_split"]:
        console.print(f"not split: {facts['no_split']}")
    for key, words in (("sizes", "sizes"), ("dtypes", "values"), ("band_counts", "bands"), ("crs", "CRS")):
        said = [f"{name} ({count})" for name, count in facts[key].items()]
        console.print(f"{words}: {few(said, SHOWN)}")
    statistics = facts["declared"] or facts["statistics"].get("train") or facts["statistics"]["all"]
    source = "declared" if facts["declared"] else "of the training part" if facts["split"] else "of all images"
    table = Table("band", "lowest", "highest", "mean", "std", box=None, pad_edge=False)
    for name, mean, std in zip(facts["bands"], statistics["mean"], statistics["std"], strict=True):
        table.add_row(name, *(f"{value:g}" for value in facts["range"][name]), f"{mean:.4f}", f"{std:.4f}")
    console.print(table)
    console.print(f"lowest and highest as stored; mean and std {source}, stored values times {facts['scale']:g}")
    for key, words in (
        ("corrupt", "cannot be read"),
        ("nodata_only", "holds nodata or 0 only"),
        ("odd", "differs from the other files"),
    ):
        names = list(facts[key])
        for file in names[:SHOWN]:
            detail = f" ({facts[key][file]})" if key == "odd" else ""
            console.print(f"{words}: {file}{detail}")
        if len(names) > SHOWN:
            console.print(f"{words}: {len(names) - SHOWN} more, in summary.json")
    for files in facts["duplicates"][:SHOWN]:
        console.print(f"identical images: {', '.join(files)}")
    if len(facts["duplicates"]) > SHOWN:
        console.print(f"identical images: {len(facts['duplicates']) - SHOWN} groups more, in summary.json")
