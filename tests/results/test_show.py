"""Names that nobody should give break no table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console
from test_paired import arm, table

from rs_prune.results.beside import beside, write_beside
from rs_prune.results.paper import nothing
from rs_prune.results.show import print_skipped, print_table
from rs_prune.results.stats import summarise
from rs_prune.table.markdown import Markdown
from rs_prune.table.paired import Paired


def named(net: str) -> pd.DataFrame:
    return table([*arm([0.9], net=net, scope=net), *arm([0.8], net=net, scope=net, criterion="cap")])


def test_a_line_break_in_a_name_breaks_no_row(tmp_path: Path) -> None:
    texts = []
    for net in ("two\nlines", "two lines"):
        runs = named(net)
        Markdown()(summarise(runs), runs, tmp_path)
        Paired(baseline="criterion=l1")(summarise(runs), runs, tmp_path)
        numbers = beside(nothing().assign(arm="", keep=""), runs, {net: set(runs["digest"])})
        write_beside(numbers, tmp_path)
        console = Console(width=400)
        with console.capture() as screen:
            print_table(console, runs)
            print_skipped(console, [("reason", {"criterion": net})])
        files = [(tmp_path / f"{name}.md").read_text() for name in ("table", "paired", "beside")]
        texts.append([*files, screen.get()])
    assert texts[0] == texts[1]
