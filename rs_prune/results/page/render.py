"""Values -> the page's text. Everything is embedded; names are escaped, wherever they come from."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rs_prune.results.page.curves import Curves
from rs_prune.results.page.tables import Table
from rs_prune.results.show import NAMES

HERE = Path(__file__).parent


def render(
    *,
    curves: Curves,
    tables: Sequence[Table],
    heat_maps: Sequence[dict[str, Any]],
    notes: Sequence[str],
    made: dict[str, Any],
    skipped: Sequence[tuple[str, dict[str, Any]]],
) -> str:
    """The page as text, about half a megabyte of which is plotly.js, compressed."""
    page = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page.policies["json.dumps_kwargs"] = {"allow_nan": False, "ensure_ascii": False}
    reasons = [reason for reason, _ in skipped]
    return page.get_template("page.html.j2").render(
        title=_title(curves),
        curves=curves,
        tables=[table for table in tables if table.rows],
        heat_maps=heat_maps,
        notes=notes,
        made=made,
        skipped={reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
        names=NAMES,
        style=Markup((HERE / "page.css").read_text()),
        script=Markup((HERE / "page.js").read_text()),
        plotly=Markup(_plotly()),
        attribute=lambda value: json.dumps(value, ensure_ascii=False),
    )


def _title(curves: Curves) -> str:
    nets = ", ".join(dict.fromkeys(panel["net"] for panel in curves.panels))
    return f"{nets} on {', '.join(dict.fromkeys(panel['dataset'] for panel in curves.panels))}"


@cache
def _plotly() -> str:
    """plotly.js, whose origin stands beside it: gzip, then base64."""
    return base64.b64encode(gzip.compress((HERE / "plotly" / "plotly-basic.min.js").read_bytes(), 9, mtime=0)).decode()
