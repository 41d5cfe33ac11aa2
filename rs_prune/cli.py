"""The command line: `rs-prune <verb> [overrides]`.

A verb is a module of this package with a function `main(cfg)` and a file `conf/<verb>.yaml`; nothing is registered.
"""

from __future__ import annotations

import io
import json
import logging
import os
import shlex
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from rs_prune.errors import one_line
from rs_prune.usage import conf_folder, general_help, verb_help, verbs
from rs_prune.worker import end_with_parent

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "no CUDA" is no news on a CPU
TRACEBACK = "RS_PRUNE_TRACEBACK"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # progress is read while it happens, also from a file
    words = list(sys.argv[1:] if argv is None else argv)
    if words in (["--version"], ["-V"]):
        from rs_prune import __version__

        return _say(f"rs-prune {__version__}", 0)
    verb = words.pop(0) if words and not words[0].startswith("-") else None
    if verb not in verbs():
        if verb is None and (not words or words[0] in ("-h", "--help")):
            return _say(general_help(), 0 if words else 2)
        return _complain(f"no verb {verb or words[0]}; the verbs are {', '.join(verbs())}", 2)
    assert verb is not None
    if "-h" in words or "--help" in words:
        return _say(verb_help(verb), 0)
    return _run(verb, words)


def _run(verb: str, words: list[str]) -> int:
    words, further = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    if {"-q", "--quiet"} & set(words):
        words = [word for word in words if word not in ("-q", "--quiet")] + ["quiet=true"]
    os.environ.pop(TRACEBACK, None)
    if "--traceback" in words:
        words.remove("--traceback")
        os.environ[TRACEBACK] = "1"
    if further and verb != "reproduce":
        return _complain(f"-- {further[0]}: what follows -- is for the runs that `rs-prune reproduce` starts", 2)
    if further:
        escaped = shlex.join(further).replace("\\", "\\\\").replace('"', '\\"')
        words.append(f'words="{escaped}"')
    os.environ["HYDRA_FULL_ERROR"] = "1"  # we say it ourselves, in one line
    try:
        paths, failures = runs_of(verb, words)
    except KeyboardInterrupt:
        return _complain("interrupted; the same command goes on from the last whole epoch", 130)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except Exception as error:
        if TRACEBACK in os.environ:
            raise
        return _complain(one_line(error), 1)
    if "quiet=true" not in words:
        _show(paths)
    for failure in failures:
        _complain(failure, 1)
    return 1 if failures else 0


Outcomes = tuple[list[Path], list[str]]
"""Records that runs made or found, and one line for every run that failed."""


def runs_of(verb: str, words: list[str], told: Callable[[Outcomes], None] | None = None) -> Outcomes:
    """What the runs of a verb came to; also within another verb.

    Args:
        verb: The verb.
        words: Its words.
        told: Called, from another thread, with what all runs so far came to, soon after a run has ended.
    """
    with tempfile.TemporaryDirectory(prefix="rs_prune-") as folder:
        journal = Path(folder) / "journal"
        with _watched(journal, told):
            _hydra(verb, words, journal)
        return _outcomes(journal)


def _outcomes(journal: Path) -> Outcomes:
    lines = journal.read_text().split("\n")[:-1] if journal.exists() else []  # what is being written has no end yet
    entries = [json.loads(line) for line in lines]
    paths = [Path(entry["record"]) for entry in entries if entry.get("record")]
    return paths, [entry["failed"] for entry in entries if "failed" in entry]


@contextmanager
def _watched(journal: Path, told: Callable[[Outcomes], None] | None) -> Iterator[None]:
    """Calls `told` whenever the journal has grown; workers write to it, so it is read."""
    stop = threading.Event()

    def watch(told: Callable[[Outcomes], None]) -> None:
        size = 0
        while not stop.wait(1.0):
            if journal.exists() and journal.stat().st_size > size:
                size = journal.stat().st_size
                told(_outcomes(journal))

    thread = threading.Thread(target=watch, args=(told,), daemon=True) if told else None
    if thread:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if thread:
            thread.join()


def _hydra(verb: str, words: list[str], journal: Path) -> None:
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()  # of a verb that calls this one
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("rs_prune").setLevel(logging.WARNING if "quiet=true" in words else logging.INFO)
    before, sys.argv = sys.argv, [f"rs-prune {verb}", *words]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=verb)(Task(verb, journal))()
    finally:
        sys.argv = before


class Task:
    """One verb as Hydra calls it, also in a worker process. Records and errors go to the journal.

    The journal's path travels with the task: workers outlive a sweep, and keep the environment of the first.
    """

    def __init__(self, verb: str, journal: Path) -> None:
        self.verb = verb
        self.journal = journal
        self.__name__ = verb
        self.__doc__ = None

    def __call__(self, cfg: Any) -> None:
        end_with_parent()
        entry: dict[str, str] = {}
        try:
            record = import_module(f"rs_prune.{self.verb}").main(cfg)
            entry["record"] = str(record) if record else ""
        except Exception as error:
            from hydra.core.hydra_config import HydraConfig
            from hydra.types import RunMode

            if TRACEBACK in os.environ:
                raise
            entry["failed"] = one_line(error)
            if HydraConfig.get().mode == RunMode.MULTIRUN:  # the other runs go on
                entry["failed"] += f" [{' '.join(HydraConfig.get().overrides.task)}]"
        with self.journal.open("a") as journal:
            journal.write(json.dumps(entry) + "\n")


def _say(text: str, status: int) -> int:
    try:
        print(text, flush=True)  # noqa: T201
    except BrokenPipeError:  # the reader has seen enough: rs-prune run --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _complain(text: str, status: int) -> int:
    print(f"rs-prune: {text}", file=sys.stderr)  # noqa: T201
    return status


def _show(paths: list[Path]) -> None:
    """One table of the runs that this command made or found, and those it skipped."""
    if not paths:
        return
    from rich.console import Console

    from rs_prune.results.records import read_record, runs, skipped
    from rs_prune.results.show import print_skipped, print_table

    records = [read_record(path) for path in sorted(set(paths))]
    console = Console(highlight=False)
    print_table(console, runs(records))
    print_skipped(console, skipped(records))


if __name__ == "__main__":
    sys.exit(main())
