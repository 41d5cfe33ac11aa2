"""The texts of `--help`, read off the configuration and the verbs' docstrings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
FLAGS = """\
Flags:
  -h, --help       this text, or that of a verb
  -m, --multirun   sweep: every combination of comma-separated values
  -q, --quiet      no progress, no table
  --cfg job        show the composed configuration and stop
  --traceback      show where an error came from
  --version        show the version
"""
EXAMPLES = """\
Examples:
  rs-prune run dataset=eurosat attention=se criterion=attention budget.keep=0.5
  rs-prune run -m criterion=attention,l1,random budget.keep=0.7,0.5,0.3
  rs-prune report"""


def conf_folder() -> Path:
    """Where the configuration is: inside an installed package, beside it in a checkout."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


def verbs() -> list[str]:
    """Every module with a configuration of the same name."""
    return sorted(path.stem for path in conf_folder().glob("*.yaml") if (PACKAGE / f"{path.stem}.py").exists())


def general_help() -> str:
    lines = [f"  {verb:<10} {_summary(verb)}" for verb in verbs()]
    title = "rs-prune: attention-guided pruning of CNNs for aerial and satellite scenes"
    return "\n".join(
        [title, "", "Usage: rs-prune <verb> [key=value ...] [flags]", "", "Verbs:", *lines, "", FLAGS, EXAMPLES]
    )


def verb_help(verb: str) -> str:
    """The choices of a verb, then its keys with their defaults and comments, as the YAML has them."""
    text = (conf_folder() / f"{verb}.yaml").read_text()
    lines = [f"rs-prune {verb}: {_summary(verb)}", "", f"Usage: rs-prune {verb} [key=value ...] [flags]"]
    groups = re.findall(r"^  - (\w+): (.+)$", text, flags=re.MULTILINE)
    if groups:
        lines += ["", "Choices (group=option; * is the default):"]
    for group, default in groups:
        chosen = re.findall(r"\w+", default)
        for path in sorted((conf_folder() / group).glob("*.yaml")):
            comments = (line for line in path.read_text().splitlines() if not line.startswith("# @"))
            star = "*" if path.stem in chosen else " "
            lines.append(f"  {group + '=' + path.stem:<28}{star} {next(comments, '').removeprefix('# ')}")
    keys = re.split(r"^hydra:", re.sub(r"\A(#.*\n)*(defaults:\n(  .*\n)*)?", "", text), flags=re.MULTILINE)[0]
    lines += ["", "Keys and their defaults (key=value; nested ones with dots):"]
    lines += [f"  {line}" for line in keys.strip("\n").splitlines()]
    return "\n".join([*lines, "", FLAGS, f"`rs-prune {verb} --cfg job` shows the whole composed configuration."])


def _summary(verb: str) -> str:
    """First line of a verb's module docstring, without importing it."""
    text = ast.get_docstring(ast.parse((PACKAGE / f"{verb}.py").read_text())) or ""
    return text.splitlines()[0] if text else ""
