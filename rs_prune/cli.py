"""The command line: `rs-prune <verb> [overrides]`.

A verb is a module of this package with a function `main(cfg)` and a file `conf/<verb>.yaml`; nothing is registered.
"""

from __future__ import annotations

import ast
import errno
import io
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "no CUDA" is no news on a CPU
FLAGS = """\
Flags:
  -h, --help       this text, or that of a verb
  -m, --multirun   sweep: every combination of comma-separated values
  -q, --quiet      no progress, no table
  --cfg job        show the composed configuration and stop
  --traceback      show where an error came from
  --version        show the version
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # progress is read while it happens, also from a file
    words = list(sys.argv[1:] if argv is None else argv)
    if words in (["--version"], ["-V"]):
        from rs_prune import __version__

        print(f"rs-prune {__version__}")  # noqa: T201
        return 0
    verb = words.pop(0) if words and not words[0].startswith("-") else None
    if verb is None or verb not in verbs():
        if verb is None and (not words or words[0] in ("-h", "--help")):
            print(_help())  # noqa: T201
            return 0 if words else 2
        return _complain(f"no verb {verb or words[0]}; the verbs are {', '.join(verbs())}", 2)
    if "-h" in words or "--help" in words:
        print(_verb_help(verb))  # noqa: T201
        return 0
    return _run(verb, words)


def conf_folder() -> Path:
    """Where the configuration is: inside an installed package, beside it in a checkout."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


def verbs() -> list[str]:
    """Every module with a configuration of the same name."""
    return sorted(path.stem for path in conf_folder().glob("*.yaml") if (PACKAGE / f"{path.stem}.py").exists())


def _run(verb: str, words: list[str]) -> int:
    full = "--traceback" in words
    words = [word for word in words if word != "--traceback"]
    if {"-q", "--quiet"} & set(words):
        words = [word for word in words if word not in ("-q", "--quiet")] + ["quiet=true"]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # we say it ourselves, in one line
    with tempfile.TemporaryDirectory(prefix="rs_prune-") as folder:
        journal = Path(folder) / "journal"
        os.environ["RS_PRUNE_JOURNAL"] = str(journal)
        try:
            _hydra(verb, words)
        except KeyboardInterrupt:
            return _complain("interrupted; the same command goes on from the last whole epoch", 130)
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 1
        except Exception as error:
            if full:
                raise
            return _complain(_line(error), 1)
        entries = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    failures = [entry["failed"] for entry in entries if "failed" in entry]
    if verb == "run" and not any(word.startswith(("-c", "--cfg")) for word in words):
        _show([Path(entry["result"]) for entry in entries if entry.get("result")], words)
    for failure in failures:
        _complain(failure, 1)
    return 1 if failures else 0


def _hydra(verb: str, words: list[str]) -> None:
    import hydra

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("rs_prune").setLevel(logging.INFO)
    before, sys.argv = sys.argv, [f"rs-prune {verb}", *words]
    try:
        app = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=verb)(Task(verb))
        app()
    finally:
        sys.argv = before


class Task:
    """One verb as Hydra calls it, also in a worker process. Errors of users and results go to the journal."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.__name__ = verb
        self.__doc__ = None

    def __call__(self, cfg: Any) -> None:
        entry: dict[str, str] = {}
        try:
            result = import_module(f"rs_prune.{self.verb}").main(cfg)
            entry["result"] = str(result) if result else ""
        except Exception as error:
            from hydra.core.hydra_config import HydraConfig
            from hydra.types import RunMode

            if HydraConfig.get().mode != RunMode.MULTIRUN:
                raise
            entry["failed"] = f"{_line(error)} [{' '.join(HydraConfig.get().overrides.task)}]"
        with Path(os.environ["RS_PRUNE_JOURNAL"]).open("a") as journal:
            journal.write(json.dumps(entry) + "\n")


def _line(error: BaseException) -> str:
    """An error as one line that a user can act on."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from rs_prune.errors import RsPruneError

    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    text = re.sub(r"\s*(full_key|object_type|reference_type)[=:].*$", "", text)
    if isinstance(error, RsPruneError):
        return text
    if isinstance(error, HydraException):
        text = re.sub(r"In '[^']*': ", "", text)
        text = re.sub(r"Could not find '([^']*)/([^'/]*)'", r"\1=\2: no such option", text)
        text = re.sub(r" Available options in '[^']*': ", "; the options are ", text)
        text = re.sub(
            r" Config search path:.*| To append to your config use.*| Use --\S+ .*| Set the environment.*",
            "",
            text,
        )
        return re.sub(r"(the options are )(.*)", lambda found: found[1] + ", ".join(found[2].split()), text)
    if isinstance(error, OmegaConfBaseException):
        key = getattr(error, "full_key", None)
        return f"{key}: {text}" if key and str(key) not in text else text
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space left on the disk{f' for {error.filename}' if error.filename else ''}; free some and run again"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}"
    return f"{type(error).__name__}: {text} (an error of rs-prune; --traceback shows where)"


def _complain(text: str, status: int) -> int:
    print(f"rs-prune: {text}", file=sys.stderr)  # noqa: T201
    return status


def _show(paths: list[Path], words: list[str]) -> None:
    """One table of the runs that this command made or found."""
    if not paths or "quiet=true" in words:
        return
    from rich.console import Console

    from rs_prune.results.records import runs
    from rs_prune.results.show import print_table
    from rs_prune.results.store import read_json

    records = [read_json(path) for path in sorted(set(paths))]
    console = Console(highlight=False)
    finished = [record for record in records if record["status"] == "finished"]
    if finished:
        print_table(console, runs(finished))
    for record in records:
        if record["status"] == "skipped":
            words_ = record["choices"]
            named = " ".join(f"{key}={words_[key]}" for key in ("attention", "criterion", "keep", "seed"))
            console.print(f"skipped {named}: {record['reason']}")


def _summary(verb: str) -> str:
    """First line of a verb's module docstring, without importing it."""
    text = ast.get_docstring(ast.parse((PACKAGE / f"{verb}.py").read_text())) or ""
    return text.splitlines()[0] if text else ""


def _help() -> str:
    lines = [f"  {verb:<10} {_summary(verb)}" for verb in verbs()]
    return "\n".join(
        [
            "rs-prune: attention-guided pruning of CNNs for aerial and satellite scenes",
            "",
            "Usage: rs-prune <verb> [key=value ...] [flags]",
            "",
            "Verbs:",
            *lines,
            "",
            FLAGS,
            "Examples:",
            "  rs-prune run dataset=eurosat attention=se criterion=attention budget.keep=0.5",
            "  rs-prune run -m criterion=attention,l1,random budget.keep=0.7,0.5,0.3",
            "  rs-prune report",
        ]
    )


def _verb_help(verb: str) -> str:
    text = (conf_folder() / f"{verb}.yaml").read_text()
    groups = re.findall(r"^  - (\w+): (.+)$", text, flags=re.MULTILINE)
    lines = [f"rs-prune {verb}: {_summary(verb)}", "", f"Usage: rs-prune {verb} [key=value ...] [flags]"]
    if groups:
        lines += ["", "Choices (group=option; * is the default):"]
    for group, default in groups:
        chosen = re.findall(r"\w+", default)
        for path in sorted((conf_folder() / group).glob("*.yaml")):
            star = "*" if path.stem in chosen else " "
            comments = (line for line in path.read_text().splitlines() if not line.startswith("# @"))
            about = next(comments, "").removeprefix("# ")
            lines.append(f"  {group + '=' + path.stem:<28}{star} {about}")
    keys = text.split("\n\n", 1)[1].split("\nhydra:")[0].strip("\n") if "\n\n" in text else ""
    lines += ["", "Keys and their defaults (key=value; nested ones with dots):"]
    lines += [f"  {line}" for line in keys.splitlines()]
    lines += ["", FLAGS, f"`rs-prune {verb} --cfg job` shows the whole composed configuration."]
    return "\n".join(lines)
