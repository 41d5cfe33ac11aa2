"""Accuracy against cost as plain values, one panel per data set and net."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.markers import MarkerStyle

from rs_prune.results.looks import AXES, DENSE_MARKER, GREY, MARKERS, Looks
from rs_prune.results.page.words import arm, dense_net, filters, number
from rs_prune.results.paper import parsed
from rs_prune.results.stats import dense, rows

COST = ("keep", "macs", "dense_macs", "params", "dense_params", "latency_ms")
MEAN = (*COST, "seeds", *(f"accuracy{end}" for end in ("", "_low", "_high")), "drop", "raw_accuracy", "val_accuracy")
RUN = (*COST, "seed", "accuracy", "dense_accuracy", "raw_accuracy", "val_accuracy")
SYMBOLS = {**MARKERS, DENSE_MARKER: "star"}
STEP = 1.3  # pixels of a dash that is one line's width long


class Curves:
    """What the page draws. Colours, dashes and markers are those of the figures.

    Args:
        summary: What `summarise` gives.
        runs: One row a run.
        paper: What `results.paper.read_paper` gives; may be empty.
    """

    def __init__(self, summary: pd.DataFrame, runs: pd.DataFrame, paper: pd.DataFrame) -> None:
        self.filters = filters(summary)
        nets = dense(runs)
        self._looks = Looks(summary, nets)
        self._summary, self._dense, self._runs = rows(summary), rows(nets), rows(runs)
        self._paper = [row for row in parsed(paper) if row["accuracy"] is not None and (row["macs"] or row["params"])]
        self.panels = [self._panel(*key) for key in sorted({(row["dataset"], row["net"]) for row in self._summary})]

    def as_json(self) -> dict[str, Any]:
        axes = {name: {"title": title, "unit": unit} for name, (title, _, unit) in AXES.items()}
        axes["share"] = {"title": "MACs (% of the dense net's)", "unit": 1}
        return {"axes": axes, "filters": list(self.filters), "panels": self.panels}

    @property
    def axes(self) -> dict[str, str]:
        """Axis -> its title, of every axis that some run has a value for; of MACs if there is none."""
        titles = {name: axis["title"] for name, axis in self.as_json()["axes"].items()}
        there = {name for name in AXES if any(number(row[name]) is not None for row in self._summary)} or {"macs"}
        return {name: title for name, title in titles.items() if name in there or (name == "share" and "macs" in there)}

    @property
    def label(self) -> str:
        """What the words of a line's label are, in their order."""
        return self._looks.title

    def legend(self) -> dict[str, list[dict[str, Any]]]:
        """Attention -> the lines that it has somewhere, each once, in the order of the panels."""
        found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        for panel in self.panels:
            for line in (*panel["dense"], *panel["arms"]):
                found[line["words"]["attention"]].setdefault(line["key"], line)
        return {name: list(lines.values()) for name, lines in sorted(found.items())}

    def _panel(self, dataset: str, net: str) -> dict[str, Any]:
        def mine(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [row for row in table if (row["dataset"], row["net"]) == (dataset, net)]

        arms: dict[str, dict[str, Any]] = {}
        for row in sorted(mine(self._summary), key=lambda row: tuple(arm(row).values())):
            key = repr(arm(row))
            arms.setdefault(key, _line(arm(row), self._looks.arm(row), arm(row)) | {"means": [], "runs": []})
            arms[key]["means"].append({name: number(row[name]) for name in MEAN})
        for row in mine(self._runs):
            point = {name: number(row[name]) for name in RUN} | {"digest": row["digest"]}
            arms[repr(arm(row))]["runs"].append(point)
        nets = []
        for row in mine(self._dense):
            look = self._looks.dense(row)
            same = {"attention": row["attention"], "label": look["label"]}
            means = [{name: number(row.get(name)) for name in MEAN}]
            nets.append(_line(dense_net(row), look, same) | {"means": means})
        return {
            "dataset": dataset,
            "net": net,
            "arms": list(arms.values()),
            "dense": nets,
            "paper": mine(self._paper),
        }


def _line(words: dict[str, str], look: dict[str, Any], key: dict[str, str]) -> dict[str, Any]:
    """What the page needs of a look: dashes in pixels, the marker by its name in plotly and as an outline.

    Args:
        words: By which filters find the line.
        look: What `Looks` gives.
        key: What is the same in every panel that has this line, and besides data set and net in no other line.
    """
    style = look["linestyle"]
    dash = "solid" if style == "-" else ",".join(f"{step * STEP:g}px" for step in style[1])
    return {
        "words": words,
        "label": look["label"],
        "key": repr([value for name, value in key.items() if name not in ("dataset", "net")]),
        "color": look["color"],
        "dash": dash,
        "symbol": SYMBOLS[look["marker"]],
        "outline": _outline(look["marker"], 12 if look["marker"] == DENSE_MARKER else 8),
        "open": look["markerfacecolor"] == "white",
        "dense": look["color"] == GREY,
    }


def _outline(marker: str, size: int) -> str:
    """Matplotlib's marker as the path of an SVG, `size` pixels wide."""
    style = MarkerStyle(marker)
    (polygon,) = style.get_path().transformed(style.get_transform()).to_polygons()
    corners = size * np.asarray(polygon, float)[:-1]
    return "M" + "L".join(f"{x:.1f},{-y:.1f}" for x, y in corners.tolist()) + "z"
