"""Which arm is better than which, on the same seeds. Pure functions of the runs' table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rs_prune.errors import RsPruneError
from rs_prune.results.records import COUNTS, IDENTITY
from rs_prune.results.significance import holm, paired_t

LEVEL = 0.05
"""Below this an adjusted p is called significant."""
CONTEXT = ("dataset", "net", "budget", "keep", "selection")
"""What two arms must share to be compared."""
WORDS = tuple(name for name in IDENTITY if name not in CONTEXT)
"""What tells arms apart within it."""
BETTER, WORSE, NOT_SIGNIFICANT, UNTESTED = "better", "worse", "not significant", "not tested"

Row = dict[str, Any]
Words = tuple[Any, ...]
"""Values of `WORDS`; an empty word for what is not known."""
Arm = dict[int, Row]
"""Seed -> run."""
Baseline = Mapping[str, str]


def parse(baseline: str | Mapping[str, Any] | None, key: str) -> dict[str, str]:
    """The words of a baseline arm: `criterion=l1 attention=none`, or a mapping.

    Raises:
        RsPruneError: Naming `key` when they are not of that form.
    """
    if isinstance(baseline, Mapping):
        pairs = [(str(name), "=", text(value)) for name, value in baseline.items()]
    else:
        pairs = [word.partition("=") for word in str(baseline or "").split()]
    if not pairs or not all(sign and value for _, sign, value in pairs):
        raise RsPruneError(f"{key}={baseline}: name the arm to compare with, such as 'criterion=l1 attention=none'")
    for name, _, _ in pairs:
        if name in CONTEXT:
            raise RsPruneError(f"{key}: {name} is the same for all that is compared; name {', '.join(WORDS[:5])}, …")
    return {name: value for name, _, value in pairs}


def differences(
    runs: pd.DataFrame, baseline: Baseline, key: str = "baseline", confidence: float = 0.95
) -> pd.DataFrame:
    """Every arm against its baseline at every budget, in fractions of accuracy.

    Where the words fit several arms of a budget, an arm's baseline is the one that agrees with it in all other words:
    `criterion=l1` compares each criterion with L1 under the same attention, and so from the same dense net. Options of
    a choice that is named (`loss.r` of `loss=cross_entropy`) need not agree.

    Args:
        runs: One row a run.
        baseline: Words of an arm, as `parse` gives them.
        key: What errors call them.
        confidence: Of the intervals.

    Returns:
        One row per arm and budget that has a baseline, itself excepted: the columns of `IDENTITY`; `against`, the
        baseline's words where they differ; `pairs`; `accuracy` and `baseline_accuracy` over these pairs; `difference`,
        `low`, `high`, `p`; `same_start`: whether all pairs start from the same net, trained or untrained; `p_holm`,
        over the whole table; `verdict`.

    Raises:
        RsPruneError: When the words fit no arm, or several where none agrees in the rest, or runs of different splits
            would be paired.
    """
    known = contexts(runs)
    check_baseline([words for arms in known.values() for words in arms], baseline, key)
    found: list[Row] = []
    for context, arms in known.items():
        partner_of = matcher(arms, baseline, key)
        for words in arms:
            partner = partner_of(words)
            if partner is None or partner == words:
                continue
            pairs = list(pair(arms[words], arms[partner]))
            result = paired_t([ours["accuracy"] - its["accuracy"] for ours, its in pairs], confidence)
            row: Row = dict(zip((*CONTEXT, *WORDS), (*context, *words), strict=True))
            row |= {"against": named(partner, words), "pairs": result.pairs}
            row["accuracy"] = np.mean([ours["accuracy"] for ours, _ in pairs] or [np.nan])
            row["baseline_accuracy"] = np.mean([its["accuracy"] for _, its in pairs] or [np.nan])
            row |= {"difference": result.mean, "low": result.low, "high": result.high, "p": result.p}
            row["same_start"] = bool(pairs) and all(_start(ours) == _start(its) for ours, its in pairs)
            found.append(row)
    columns = ("against", "pairs", "accuracy", "baseline_accuracy", "difference", "low", "high", "p", "same_start")
    return judged(pd.DataFrame(found, columns=[*IDENTITY, *columns]))


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """A table with `difference` and `p`, and now `p_holm` and `verdict`; biggest budget first."""
    adjusted = holm(table["p"].to_numpy(float))
    says = [verdict(mean, p) for mean, p in zip(table["difference"], adjusted, strict=True)]
    counts = {
        name: pd.to_numeric(table[name], errors="coerce").astype("Int64")
        for name in COUNTS
        if name in table and name != "seed"
    }
    order = [name for name in ("dataset", "net", "selection", "budget", "keep", *WORDS) if name in table]
    return table.assign(p_holm=adjusted, verdict=says, **counts).sort_values(
        order, ascending=[name != "keep" for name in order], kind="stable", ignore_index=True
    )


def verdict(difference: float, adjusted: float) -> str:
    """What a difference and its adjusted p allow to be said."""
    if np.isnan(adjusted):
        return UNTESTED
    if adjusted >= LEVEL:
        return NOT_SIGNIFICANT
    return BETTER if difference > 0 else WORSE


def best_p(runs: pd.DataFrame, best: pd.DataFrame) -> list[float]:
    """For each arm that is called best: the adjusted p of its being better than *every* rival on test data.

    The p of one mark is the largest of its paired t-tests against the rivals, as all must be beaten (R. L. Berger,
    Technometrics 24 (1982)); 1 where one of them is not below, nan where one cannot be tested. Then Holm over all.

    Args:
        runs: One row a run.
        best: Rows with the columns of `IDENTITY`.
    """
    known = contexts(runs)
    found = []
    for row in _plain(best, IDENTITY):
        arms = known[tuple(row[name] for name in CONTEXT)]
        words = tuple(row[name] for name in WORDS)
        tests = [_beats(arms[words], rival) for other, rival in arms.items() if other != words]
        found.append(float(np.max(tests)) if tests else float("nan"))  # of several the nan, if there is one
    return [float(p) for p in holm(found)]


def pair(mine: Arm, other: Arm) -> Iterator[tuple[Row, Row]]:
    """The runs of two arms side by side, by seed.

    Raises:
        RsPruneError: When two of a pair have different splits.
    """
    for seed in sorted(mine.keys() & other.keys()):
        ours, its = mine[seed], other[seed]
        if ours["split"] and its["split"] and ours["split"] != its["split"]:
            raise RsPruneError(
                f"runs {ours['digest']} and {its['digest']}: of one seed but of different splits ({ours['split']}, "
                f"{its['split']}), which cannot be paired; report them apart"
            )
        yield ours, its


def contexts(runs: pd.DataFrame) -> dict[Words, dict[Words, Arm]]:
    """Values of `CONTEXT` -> the arms to compare there, in the order of their words."""
    columns = (*IDENTITY, "seed", "accuracy", "dense_accuracy", "dense_val_accuracy", "macs", "dense_macs", "digest")
    later = {"split": runs.get("split", ""), "dense_training_macs": runs.get("dense_training_macs", np.nan)}
    found: dict[Words, dict[Words, Arm]] = {}
    for row in _plain(runs.assign(**later), (*columns, *later)):
        arms = found.setdefault(tuple(row[name] for name in CONTEXT), {})
        arms.setdefault(tuple(row[name] for name in WORDS), {})[int(row["seed"])] = row
    return {key: dict(sorted(arms.items(), key=lambda arm: tuple(map(str, arm[0])))) for key, arms in found.items()}


def matcher(arms: Iterable[Words], baseline: Baseline, key: str) -> Callable[[Words], Words | None]:
    """Finds the baseline of an arm among `arms`; None where no arm fits the words.

    Raises:
        RsPruneError: When several fit and none agrees with the arm in the rest.
    """
    fitting = [words for words in arms if _fits(words, baseline)]

    def partner_of(words: Words) -> Words | None:
        if words in fitting:
            return words
        near = fitting if len(fitting) <= 1 else _nearest(fitting, words, baseline)
        if len(near) == 1 or not fitting:
            return near[0] if near else None
        values = {name: sorted({text(one[place]) for one in fitting}) for place, name in enumerate(WORDS)}
        options = "; ".join(f"{name}={'|'.join(found)}" for name, found in values.items() if len(found) > 1)
        raise RsPruneError(
            f"{key}: '{_said(baseline)}' fits {len(fitting)} arms, and none of them agrees with '{named(words)}' in "
            f"all else; add one of {options}"
        )

    return partner_of


def check_baseline(arms: Sequence[Words], baseline: Baseline, key: str) -> None:
    """Refuses words that fit no arm at all.

    Raises:
        RsPruneError: With the words that there are.
    """
    if not any(_fits(words, baseline) for words in arms):
        values = {name: sorted({text(words[place]) for words in arms} - {""}) for place, name in enumerate(WORDS)}
        known = "; ".join(f"{name}={'|'.join(found)}" for name, found in values.items() if found)
        raise RsPruneError(f"{key}: '{_said(baseline)}' fits no arm; there are {known}")


def named(words: Words, other: Words | None = None) -> str:
    """An arm as words of the command line; with `other`, only those in which it differs from it."""
    told = [
        (name, text(value))
        for place, (name, value) in enumerate(zip(WORDS, words, strict=True))
        if (other[place] != value if other is not None else value != "")
    ]
    return " ".join((value or "no further options") if name == "variant" else f"{name}={value}" for name, value in told)


def text(value: Any) -> str:
    """A choice as the command line has it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(table: pd.DataFrame, columns: Sequence[str]) -> list[Row]:
    """The rows with an empty word for a choice that is not known."""
    known = [
        ["" if pd.isna(value) else value for value in table[name].tolist()]
        if name in IDENTITY
        else table[name].tolist()
        for name in columns
    ]
    return [dict(zip(columns, values, strict=True)) for values in zip(*known, strict=True)]


def _beats(mine: Arm, rival: Arm) -> float:
    result = paired_t([ours["accuracy"] - its["accuracy"] for ours, its in pair(mine, rival)])
    return 1.0 if result.mean <= 0 else result.p


def _start(run: Row) -> tuple[Any, ...]:
    """What tells the net that a run of some seed starts from: one that is trained, or one as it is drawn."""
    if run["dense_training_macs"] == 0:
        return (run["attention"],)
    known = (run["attention"], run["dense_accuracy"], run["dense_val_accuracy"])
    return known[: 2 if np.isnan(known[2]) else 3]  # there is no validation part where the test part chose the epoch


def _fits(words: Words, baseline: Baseline) -> bool:
    known = {name: text(value) for name, value in zip(WORDS, words, strict=True)}
    options = dict(option.split("=", 1) for option in known["variant"].split() if "=" in option)
    return all({**options, **known}.get(name) == value for name, value in baseline.items())


def _nearest(fitting: Sequence[Words], words: Words, baseline: Baseline) -> list[Words]:
    """Those that agree with an arm in all that the baseline does not name, or in all but options of what it names."""
    alike: list[Words] = []
    for signs in (("=",), ("=", ".")):
        named = tuple(f"{name}{sign}" for name in baseline for sign in signs)
        alike = [one for one in fitting if _rest(one, baseline, named) == _rest(words, baseline, named)]
        if len(alike) == 1:
            break
    return alike


def _rest(words: Words, baseline: Baseline, named: tuple[str, ...]) -> Words:
    known = dict(zip(WORDS, words, strict=True))
    known["variant"] = tuple(option for option in known["variant"].split() if not option.startswith(named))
    return tuple(value for name, value in known.items() if name not in baseline)


def _said(baseline: Baseline) -> str:
    return " ".join(f"{name}={value}" for name, value in baseline.items())
