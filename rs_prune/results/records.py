"""Records on disk -> one row a run; and the committed `runs.csv` back again."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rs_prune.errors import RsPruneError
from rs_prune.results.limits import check

ESSENTIAL = ("dataset", "net", "attention", "criterion", "keep", "seed")
WORDS = ("dataset", "net", "attention", "criterion", "granularity", "schedule", "scope", "budget")
CHOICES = (*WORDS, "keep", "seed", "epochs", "finetune_epochs", "selection")
COUNTS = ("seed", "epochs", "finetune_epochs")
VALUES: dict[str, tuple[str, ...]] = {
    "dense_accuracy": ("accuracy", "dense", "test"),
    "folded_accuracy": ("accuracy", "folded", "test"),
    "raw_accuracy": ("accuracy", "raw", "test"),
    "recalibrated_accuracy": ("accuracy", "recalibrated", "test"),
    "accuracy": ("accuracy", "final", "test"),
    "dense_params": ("cost", "dense", "params"),
    "params": ("cost", "pruned", "params"),
    "dense_macs": ("cost", "dense", "macs"),
    "macs": ("cost", "pruned", "macs"),
    "latency_ms": ("latency", "pruned", "median_ms"),
    "mask_error": ("checks", "mask_error"),
    "wall_s": ("times",),
    "val_accuracy": ("accuracy", "final", "val"),
    "dense_val_accuracy": ("accuracy", "dense", "val"),
    "dense_latency_ms": ("latency", "dense", "median_ms"),
    "mean_gate_error": ("checks", "mean_gate_error"),
    "nonzero": ("cost", "pruned", "nonzero"),
    "sparse_macs": ("cost", "pruned", "sparse_macs"),
    "size_mb": ("cost", "pruned", "size_mb"),
    "compressed_mb": ("cost", "pruned", "compressed_mb"),
    "dense_training_macs": ("training", "macs", "dense"),
}
"""Column -> where a record holds it; the order is that of `runs.csv`."""
BANDS = ("dense_bands", "kept_bands")
COLUMNS = (*CHOICES, *VALUES, *BANDS, "split", "variant", "digest")
TEXT = (*WORDS, "selection", *BANDS, "split", "variant", "digest")
IDENTITY = (*(name for name in CHOICES if name != "seed"), "variant")
"""Runs that agree in these differ in nothing but their seed."""
UNRECORDED = ("out", "cache", "logger", "workers", "threads", "quiet")
"""Keys of a run's config that say where and how it ran, not what it was; a record leaves them out."""
METHOD = ("penalty._target_", "loss._target_", "dense_loss._target_")
"""Keys that belong to what an arm is called wherever runs differ in them."""
ELSEWHERE = (*UNRECORDED, "latency", "trainer", "hydra", "cache_gb")
"""Keys that never tell two runs apart; of the trainer's, the precision does."""
OWNERS = {"attach": "attention", "split": "selection"}
"""Keys that are options of a choice under another name."""


def load(folder: Path) -> list[dict[str, Any]]:
    """Every record in `folder`, in the order of the files' names; none if there is no such folder."""
    files = sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))
    return [read_record(path) for path in files]


def runs(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per finished record, with the columns of `runs.csv`; a record held twice counts once."""
    for record in records:
        _check(record, f"record {record.get('digest', '?')}")
    finished: dict[Any, Mapping[str, Any]] = {}
    for number, record in enumerate(records):
        if record["status"] == "finished":
            finished.setdefault(record.get("digest") or number, record)
    chosen = list(finished.values())
    rows = [_row(record) | {"variant": name} for record, name in zip(chosen, _variants(chosen), strict=True)]
    return _typed(pd.DataFrame(rows, columns=list(COLUMNS)))


def skipped(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """(reason, choices) of every record that was not run."""
    found = [(str(r.get("reason") or "?"), dict(r["choices"])) for r in records if r["status"] != "finished"]
    return sorted(found, key=lambda cell: (cell[0], json.dumps(cell[1], sort_keys=True, default=str)))


def read(path: Path) -> pd.DataFrame:
    """The rows of a committed `runs.csv`, as `runs` gave them; columns that it lacks are empty.

    Raises:
        RsPruneError: Naming file, line and column, where it is cut or holds what no run can have given.
    """
    try:
        written = path.read_text(encoding="utf-8-sig")
        lines = check(path, written, ESSENTIAL, (*COUNTS, "keep", *VALUES))
        table = pd.read_csv(
            io.StringIO(written),
            dtype=dict.fromkeys(TEXT, str),
            keep_default_na=False,
            na_values=[""],
            float_precision="round_trip",
        )
        further = [name for name in table if name not in COLUMNS]
        table = table.reindex(columns=[*COLUMNS, *further])
        _refuse_twice(path, table, lines)
        return _typed(table)
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise RsPruneError(f"{path}: cannot be read as runs.csv ({_line(error)})") from None


def read_record(path: Path) -> dict[str, Any]:
    """One record, checked to be one."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RsPruneError(f"{path}: not a readable record ({_line(error)}); remove it and rerun") from None
    return dict(_check(record, str(path)))


def _refuse_twice(path: Path, table: pd.DataFrame, lines: Sequence[int]) -> None:
    known: dict[tuple[str, ...], int] = {}
    choices = table[[*IDENTITY, "seed"]].astype(str).itertuples(index=False, name=None)
    for line, words in zip(lines, choices, strict=True):
        if known.setdefault(words, line) != line:
            raise RsPruneError(
                f"{path}: lines {known[words]} and {line} agree in every choice and in the seed, so that they are one "
                "run; remove that which is out of date, or say in the column variant how they differ"
            )


def _check(record: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(record, Mapping) or not isinstance(record.get("choices"), Mapping):
        raise RsPruneError(f"{where}: not a record, it has no choices")
    if record.get("status") not in ("finished", "skipped"):
        raise RsPruneError(f"{where}: status must be finished or skipped, got {record.get('status')!r}")
    choices = record["choices"]
    missing = [name for name in ESSENTIAL if name not in choices]
    if missing and record["status"] == "finished":
        raise RsPruneError(f"{where}: the record's choices lack {', '.join(missing)}")
    for name in ("keep", "seed"):
        try:
            float(choices.get(name, 0))
        except (TypeError, ValueError):
            raise RsPruneError(f"{where}: choices.{name}={choices[name]!r} is not a number") from None
    return record


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {name: _word(record["choices"], name) for name in CHOICES}
    row |= {column: _number(_at(record, path)) for column, path in VALUES.items() if column != "wall_s"}
    if str(row["selection"]).startswith("test"):  # there are no validation data that an arm could be chosen on
        row |= {"val_accuracy": None, "dense_val_accuracy": None}
    times = record.get("times") or {}
    row["wall_s"] = sum(times.values()) if times else None
    row |= {name: " ".join(_at(record, ("bands", name.removesuffix("_bands"))) or ()) for name in BANDS}
    return row | {"split": _split(record.get("config")), "digest": record.get("digest", "")}


def _split(config: Any) -> str:
    """How the scenes were split: `seed0-0.6-0.1-0.3`; runs that are paired have the same."""
    shares = _at(config, ("split",))
    if not isinstance(shares, Mapping):
        return ""
    limit = _at(config, ("limit",))
    words = [f"seed{shares.get('seed')}", *(f"{shares[part]}" for part in ("train", "val", "test") if part in shares)]
    words += [f"{key}{shares[key]}" for key in ("lists", "block_km") if key in shares]
    return "-".join(words if limit is None else [*words, f"limit{limit}"])


def _word(choices: Mapping[str, Any], name: str) -> Any:
    if name in WORDS and name in choices and choices[name] is None:
        return "none"
    return choices.get(name)


def _at(record: Any, path: Sequence[str]) -> Any:
    for key in path:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def _number(value: Any) -> float | int | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    for name in TEXT:
        table[name] = table[name].astype(object).where(table[name].notna(), "").astype(str)
    for name in COUNTS:
        table[name] = pd.to_numeric(table[name]).astype("Int64")
    for name in ("keep", *VALUES):
        table[name] = pd.to_numeric(table[name]).astype("float64")
    order = [*IDENTITY, "seed", "digest"]
    return table.sort_values(order, kind="stable", ignore_index=True)


def _variants(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The options besides the choices that tell runs of a data set and net apart: `optimizer.lr=0.1`.

    Without them runs that differ in more than their choices would make one curve, be averaged as seeds, or seem to
    start from one dense net. An option is compared among the runs that have the choice it belongs to. A seed of
    something else (`split.seed`) may follow the run's seed, an option the share to keep (`attention.keep`). Penalty
    and losses are told wherever any runs differ in them, of other data sets too.
    """
    configs = [dict(_options(record.get("config") or {})) for record in records]
    found: dict[tuple[str, Any, Any], set[tuple[str, bool]]] = defaultdict(set)
    for record, config in zip(records, configs, strict=True):
        choices = record["choices"]
        for key, value in config.items():
            among = (choices["dataset"], choices["net"], choices["seed"] if key.endswith(".seed") else None)
            found[key, _owner(key, choices, config), among].add((value, value == config.get("budget.keep")))
    telling = {
        (key, owner)
        for (key, owner, _), values in found.items()
        if len({value for value, _ in values}) > 1 and not all(follows for _, follows in values)
    }
    method = {key for key in METHOD if len({config.get(key) for config in configs}) > 1}
    return [
        " ".join(
            _said(key, value)
            for key, value in sorted(config.items())
            if key in method or (key, _owner(key, record["choices"], config)) in telling
        )
        for record, config in zip(records, configs, strict=True)
    ]


def _options(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, value as the command line has it) of all that can tell runs apart."""
    for group, node in config.items():
        named = (
            {f"{group}.{name}": value for name, value in node.items()} if isinstance(node, Mapping) else {group: node}
        )
        for key, value in named.items():
            if group not in ELSEWHERE or key == "trainer.precision":
                yield key, value if isinstance(value, str) else _compact(value)


def options_of(variant: str) -> list[str]:
    """The options that a variant is made of, word by word: `optimizer.lr=0.1`. A value may hold spaces."""
    return [word for word in re.split(r" (?=\S+=)", variant) if word]


def _compact(value: Any) -> str:
    """`[0.5,0.75]`, `{a:1}`: without spaces, as words are split there, and quotes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).replace('"', "")


def _owner(key: str, choices: Mapping[str, Any], config: Mapping[str, str]) -> Any:
    """What a key is an option of; runs that differ in this do not differ in the key besides."""
    group = key.partition(".")[0]
    owner = OWNERS.get(group, group)
    if owner == "budget":
        return choices.get("budget"), choices["keep"]
    if owner in CHOICES:
        return choices.get(owner)
    return None if key == f"{group}._target_" else config.get(f"{group}._target_")


def _said(key: str, value: str) -> str:
    """`loss._target_=rs_prune.loss.focal.Focal` as the words of the command line: `loss=focal`."""
    group, dot, last = key.rpartition(".")
    if not dot or last != "_target_" or "." not in value:
        return f"{key}={value}"
    module, name = value.split(".")[-2:]
    return f"{group}={name.lower() if module == 'optim' else module}"


def flat(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, value as text) of a nested configuration."""
    if not isinstance(node, Mapping):
        yield prefix, node if isinstance(node, str) else json.dumps(node, sort_keys=True, default=str)
        return
    for key, value in node.items():
        yield from flat(value, f"{prefix}.{key}" if prefix else str(key))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
