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


def experiments_folder() -> Path:
    """Where papers' printed numbers are: inside an installed package, in the checkout otherwise."""
    inside = PACKAGE / "experiments"
    return inside if inside.is_dir() else PACKAGE.parent / "experiments"


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
    base = re.findall(r"^  - (?!_self_)(\w+)$", text, flags=re.MULTILINE)  # a verb whose keys are this one's too
    texts = [text, *((conf_folder() / f"{name}.yaml").read_text() for name in base)]
    lines = [f"rs-prune {verb}: {_summary(verb)}", "", f"Usage: rs-prune {verb} [key=value ...] [flags]"]
    groups = re.findall(r"^  - (\w+(?:@\w+)?): (.+)$", "\n".join(texts), flags=re.MULTILINE)
    if groups:
        lines += ["", "Choices (group=option; * is the default):"]
    for group, default in groups:
        option, _, place = group.partition("@")
        if place:
            lines.append(
                f"  {group + '=…':<28}  any {option}= option, for {place.replace('_', ' ')}; default: {default}"
            )
            continue
        chosen = re.findall(r"\w+", default)
        for path in sorted((conf_folder() / group).glob("*.yaml")):
            comments = (line for line in path.read_text().splitlines() if not line.startswith("# @"))
            star = "*" if path.stem in chosen else " "
            lines.append(f"  {group + '=' + path.stem:<28}{star} {next(comments, '').removeprefix('# ')}")
    lines += ["", "Keys and their defaults (key=value; nested ones with dots):"]
    lines += [f"  {line}" for line in "\n\n".join(_keys(text) for text in texts).splitlines()]
    return "\n".join([*lines, "", FLAGS, f"`rs-prune {verb} --cfg job` shows the whole composed configuration."])


def _keys(text: str) -> str:
    """A configuration without its opening comment, its defaults list and Hydra's own keys."""
    rest = re.sub(r"\A(#.*\n)*(defaults:\n(  .*\n)*)?", "", text)
    return re.split(r"^hydra:", rest, flags=re.MULTILINE)[0].strip("\n")


def _summary(verb: str) -> str:
    """First line of a verb's module docstring, without importing it."""
    text = ast.get_docstring(ast.parse((PACKAGE / f"{verb}.py").read_text())) or ""
    return text.splitlines()[0] if text else ""
