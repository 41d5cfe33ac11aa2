"""How the numbers of a page were made: commands, configuration, versions, machines, seeds."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from rs_prune.results.page.words import arm, word
from rs_prune.results.records import flat, options_of
from rs_prune.results.stats import rows
from rs_prune.usage import conf_folder

Facts = list[tuple[str, list[str]]]


def made(runs: pd.DataFrame, records: Sequence[Mapping[str, Any]], command: str) -> dict[str, Any]:
    """What the foot of the page says.

    Args:
        runs: One row a run.
        records: The records they were read from; none when they come from a `runs.csv`.
        command: What wrote the page.
    """
    finished = [record for record in records if record["status"] == "finished"]
    seeds = sorted({int(seed) for seed in runs["seed"].dropna()})
    seconds = _seconds(finished)
    facts: Facts = [("runs", [str(len(runs))]), ("seeds", [", ".join(map(str, seeds))])]
    if seconds:
        facts.append(("time", [f"{seconds / 3600:.2f} h, all runs together, each dense net once"]))
    facts += _provenance(finished)
    return {
        "command": command,
        "commands": list(_commands(runs)),
        "facts": facts,
        "config": _common([dict(flat(record.get("config") or {})) for record in finished]),
        "records": bool(finished),
    }


def _seconds(records: Sequence[Mapping[str, Any]]) -> float:
    """How long all runs took; those of one dense net all tell the same time of its training, to the last digit."""
    times = [dict(record.get("times") or {}) for record in records]
    dense = {float(known.pop("dense")) for known in times if "dense" in known}
    return float(sum(sum(known.values()) for known in times) + sum(dense))


def _provenance(records: Sequence[Mapping[str, Any]]) -> Facts:
    """Each distinct value that the records hold, once."""
    libraries = dict.fromkeys(name for record in records for name in record.get("versions") or {})
    versions = [f"{name} {', '.join(_distinct(records, 'versions', name))}" for name in libraries]
    machines = dict.fromkeys(_machine(record.get("hardware") or {}) for record in records)
    commits = dict.fromkeys(_commit(record.get("git") or {}) for record in records)
    dates = sorted(str(record["created"]) for record in records if record.get("created"))
    facts = [
        ("machine", [name for name in machines if name]),
        ("versions", versions),
        ("commit", [name for name in commits if name]),
        ("dates", [dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"] if dates else []),
    ]
    return [(name, found) for name, found in facts if found]


def _distinct(records: Sequence[Mapping[str, Any]], part: str, name: str) -> list[str]:
    return sorted({str(record[part][name]) for record in records if name in (record.get(part) or {})})


def _machine(hardware: Mapping[str, Any]) -> str:
    known = [str(hardware[name]) for name in ("processor", "machine", "system") if hardware.get(name)]
    for name, count in ((name, hardware.get(name)) for name in ("cores", "threads")):
        known += [f"{count} {name if count != 1 else name.removesuffix('s')}"] if count else []
    return ", ".join([*known, *([f"device {hardware['device']}"] if hardware.get("device") else [])])


def _commit(git: Mapping[str, Any]) -> str:
    return f"{git['commit']}{' with changed files' if git.get('dirty') else ''}" if git.get("commit") else ""


def _commands(runs: pd.DataFrame) -> Iterator[str]:
    """One `rs-prune run` per arm, in the words of the runs."""
    arms: dict[str, tuple[dict[str, str], dict[str, None], dict[str, None]]] = {}
    for row in rows(runs.sort_values(["keep", "seed"], ascending=[False, True], kind="stable")):
        words = arm(row)
        _, budgets, seeds = arms.setdefault(repr(words), (words, {}, {}))
        budgets[_budget(row)] = seeds[word(row["seed"])] = None
    for _, (words, budgets, seeds) in sorted(arms.items()):
        options = [_option(part) for part in options_of(words.pop("variant"))]
        said = [part for name, value in words.items() if value for part in _said(name, value)]
        key = "budget.count" if words["budget"] == "bands" else "budget.keep"
        said += [f"{key}={','.join(budgets)}", f"seed={','.join(seeds)}", *options]
        sweep = ["-m"] if len(budgets) + len(seeds) > 2 else []
        yield shlex.join(["rs-prune", "run", *sweep, *said])


def _budget(row: Mapping[str, Any]) -> str:
    """What stays, as the command line has it: a share, or a number of bands."""
    if row["budget"] != "bands":
        return word(row["keep"])
    return str(round(row["keep"] * len(str(row["dense_bands"]).split())))


def _option(text: str) -> str:
    """An option as the command line has it; the loss of dense nets is a second choice from the same group."""
    return f"loss@{text}" if text.startswith("dense_loss=") else text


def _said(name: str, value: str) -> list[str]:
    if name == "net":
        preset = (conf_folder() / "model" / f"{value}.yaml").exists()
        return [f"model={value}"] if preset else ["model=timm", f"model.name={value}"]
    return [f"{name}={value}"]


def _common(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys that all configurations agree in."""
    if not configs:
        return []
    first, *others = configs
    return [f"{key}={value}" for key, value in first.items() if all(other.get(key) == value for other in others)]
