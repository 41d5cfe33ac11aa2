"""How the arms of a figure look, and the legend that says so. The same arm looks the same in every panel."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from itertools import chain, count
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from rs_prune.results.records import COUNTS, options_of
from rs_prune.results.stats import ARM, DENSE, rows, varying

AXES = {
    "macs": ("MACs of one image (millions; 1 MAC = 2 FLOPs)", "MACs", 1e6),
    "params": ("parameters (millions)", "parameters", 1e6),
    "latency_ms": ("latency (ms)", "latency", 1.0),
}
"""Cost -> title of its axis, its short name, and what its values are divided by."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
MARKERS = {
    "o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down", "P": "cross", "X": "x",
    "<": "triangle-left", ">": "triangle-right", "d": "diamond-tall", "h": "hexagon", "p": "pentagon",
}  # fmt: skip
"""Matplotlib's marker of an arm -> plotly's name of it."""
DENSE_MARKER = "*"
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
DENSE_DASHES = (
    (0, (7, 3)), (0, (2, 2)), (0, (1, 3)), (0, (7, 2, 1, 2)), (0, (14, 4)), (0, (7, 2, 1, 2, 1, 2)),
)  # fmt: skip
GREY = "#606060"
Shape = tuple[int, tuple[str, ...], str]
Net = tuple[Any, ...]
MANY = 2
"""With more further choices than these a legend names only what is not as in most arms."""
CHARACTER, HANDLE = 0.065, 0.75  # inches that a letter and the sample of a line take in a legend, at 8 points


class Looks:
    """Colour says criterion; dashes and the marker's face say attention; the marker tells apart what they do not.

    With one attention setting the dashes and the face say "all else" too. A dense net is a star; its dashes and face
    tell it from the other dense nets.

    Args:
        summary: What `summarise` gives.
        nets: What `dense` gives.
    """

    def __init__(self, summary: pd.DataFrame, nets: pd.DataFrame) -> None:
        self.criteria = sorted(summary["criterion"].unique())
        self.attentions = sorted(summary["attention"].unique())
        self.further = varying(summary)
        self.kinds = sorted({self._kind(row) for row in rows(summary)})
        self.arms = rows(summary.drop_duplicates(list(ARM)).sort_values(list(ARM)))
        self.markers = self._markers()
        self.usual = self._usual() if len(self.further) > MANY else {}
        self.nets = rows(nets)
        self.names = self._names()
        self.stars = sorted({(net["attention"], self.names[_net(net)]) for net in self.nets})

    def arm(self, row: dict[str, Any]) -> dict[str, Any]:
        """What `errorbar` needs to draw the arm of this row."""
        colour = self._colour(row)
        attention, kind = self.attentions.index(row["attention"]), self.kinds.index(self._kind(row))
        style = attention if len(self.attentions) > 1 else kind
        return {
            "label": self._label(row, self.usual),
            "color": colour,
            "linestyle": DASHES[style % len(DASHES)],
            "marker": self.markers[self._shape(row)],
            "markersize": 4.5,
            "markerfacecolor": "white" if style % 2 else colour,
            "linewidth": 1.3,
            "elinewidth": 0.8,
            "capsize": 2,
        }

    def dense(self, row: dict[str, Any]) -> dict[str, Any]:
        """What `errorbar` needs to draw the dense net of this row."""
        label = self.names[_net(row)]
        turn, style = divmod(self.stars.index((row["attention"], label)), len(DENSE_DASHES))
        return {
            "label": label,
            "color": GREY,
            "linestyle": DENSE_DASHES[style],
            "marker": DENSE_MARKER,
            "markersize": 10,
            "markerfacecolor": "white" if (style + turn) % 2 else GREY,
            "linewidth": 0.7,
            "elinewidth": 0.8,
            "capsize": 2,
        }

    def legend(self, width: float) -> tuple[list[Line2D], int]:
        """The entries and how many columns of them `width` inches hold.

        With several attention settings each has a column with a heading, if so many columns fit.
        """
        columns = [self._column(name) for name in self.attentions]
        flat = [line for column in columns for line in column]
        longest = max(len(str(line.get_label())) for line in flat)
        fit = max(1, int(width / (longest * CHARACTER + HANDLE)))
        if 1 < len(columns) <= fit:
            most = max(len(column) for column in columns)
            filled = [
                [_text(f"attention: {name}"), *column, *(_text(" ") for _ in range(most - len(column)))]
                for name, column in zip(self.attentions, columns, strict=True)
            ]
            return [line for column in filled for line in column], len(columns)
        if len(columns) > 1:
            for name, column in zip(self.attentions, columns, strict=True):
                for line in column:
                    line.set_label(f"{line.get_label()}, attention: {name}")
            longest = max(len(str(line.get_label())) for line in flat)
            fit = max(1, int(width / (longest * CHARACTER + HANDLE)))
        down = math.ceil(len(flat) / min(fit, 4))
        return flat, math.ceil(len(flat) / down)

    def least_width(self) -> float:
        """Inches that the longest entry takes with its attention, and the title."""
        entries = [f"{line.get_label()}, attention: {name}" for name in self.attentions for line in self._column(name)]
        return CHARACTER * max(len(text) for text in (*entries, self.title)) + HANDLE

    @property
    def title(self) -> str:
        """What the words of an entry are, in their order."""
        if self.usual:
            return f"criterion, and what is not {', '.join(filter(None, self.usual.values()))}"
        return ", ".join(["criterion", *self.further]) if self.further or len(self.attentions) == 1 else ""

    def _column(self, attention: str) -> list[Line2D]:
        looks = [self.dense(row) for row in self.nets if row["attention"] == attention]
        looks += [self.arm(row) for row in self.arms if row["attention"] == attention]
        unlike = {look["label"]: look for look in looks}.values()
        unused = ("elinewidth", "capsize")
        return [Line2D([], [], **{k: v for k, v in look.items() if k not in unused}) for look in unlike]

    def _label(self, row: dict[str, Any], usual: dict[str, str]) -> str:
        """The criterion, and of the choices that the row has those that are not usual."""
        words = [str(row["criterion"])]
        for name in filter(row.__contains__, self.further):
            own = _options(name, _said(name, row) if self.usual else str(row[name]))
            most = _options(name, usual.get(name, ""))
            unlike = [word for option, word in own.items() if word != most.get(option)]
            words.append(" ".join([*unlike, *(f"no {option}" for option in most if option not in own)]))
        return ", ".join(filter(None, words))

    def _names(self) -> dict[Net, str]:
        """The label of each dense net: the shortest that no other of its panel and attention has.

        The variant of a dense net that several arms share is empty, and goes without saying.
        """
        found: dict[Net, str] = {}
        taken = set()
        for net in self.nets:
            net = net | {"criterion": "dense"}
            short = self._label(net | {"variant": net["variant"] or self.usual.get("variant", "")}, self.usual)
            full = self._label(net, {})
            place = net["dataset"], net["net"], net["attention"]
            labels = chain((short, full), (f"{full} ({number})" for number in count(2)))
            found[_net(net)] = next(label for label in labels if (*place, label) not in taken)
            taken.add((*place, found[_net(net)]))
        return found

    def _usual(self) -> dict[str, str]:
        """What most arms have of each further choice, option by option; what only some options have is named."""
        found = {}
        for name in self.further:
            counts = Counter(word for arm in self.arms for word in _options(name, _said(name, arm)).values())
            found[name] = " ".join(word for word, count in counts.items() if count > len(self.arms) / 2)
        return found

    def _kind(self, row: dict[str, Any]) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in self.further)

    def _markers(self) -> dict[Shape, str]:
        """A marker for each shape: its own while there are enough, then one that no arm of the same colour has."""
        colours = defaultdict(set)
        for arm in self.arms:
            colours[self._shape(arm)].add(self._colour(arm))
        found: dict[Shape, str] = {}
        for shape in sorted(colours):
            taken = {marker for other, marker in found.items() if colours[other] & colours[shape]}
            used = Counter(found.values())
            found[shape] = min(MARKERS, key=lambda marker: (marker in taken, used[marker]))
        return found

    def _colour(self, row: dict[str, Any]) -> str:
        return COLOURS[self.criteria.index(row["criterion"]) % len(COLOURS)]

    def _shape(self, row: dict[str, Any]) -> Shape:
        """What a marker tells apart: all but the colour."""
        return self.criteria.index(row["criterion"]) // len(COLOURS), self._kind(row), row["attention"]


def _said(name: str, row: dict[str, Any]) -> str:
    """A choice that is understood where its name does not stand beside it."""
    value = str(row[name])
    return f"{name}={value}" if name in COUNTS and value else value


def _options(name: str, said: str) -> dict[str, str]:
    """What is said of a choice by option; a variant is several options: `optimizer.lr=0.1 penalty=none`."""
    if name != "variant":
        return {name: said} if said else {}
    return {word.partition("=")[0]: word for word in options_of(said)}


def _net(row: dict[str, Any]) -> Net:
    """What tells two dense nets apart."""
    return tuple(row[name] for name in (*DENSE, "accuracy"))


def _text(label: str) -> Line2D:
    return Line2D([], [], linestyle="none", label=label)
