"""Errors that a user can act on: one line that names the thing and the way out."""

from __future__ import annotations

import errno
import re


class RsPruneError(Exception):
    """A mistake in the input or the set-up. The command line prints its one line and exits with 1."""


class PassingFault(RsPruneError):
    """The system could not just then: says nothing of the file, so that no file is skipped for it."""


class DoesNotApply(RsPruneError):
    """A combination of options that makes no sense; a multirun records it as skipped and goes on."""


def one_line(error: BaseException) -> str:
    """Any error as one line; those of Hydra and the operating system in our words."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if isinstance(error, RsPruneError):
        return text
    text = re.sub(r"\s*(full_key|object_type|reference_type)[=:].*$", "", text)
    if isinstance(error, HydraException):
        return _of_hydra(text)
    if isinstance(error, OmegaConfBaseException):
        key = getattr(error, "full_key", None)
        text = f"{key}: {text}" if key and str(key) not in text else text
        return re.sub(r"^Missing mandatory value: (\S+)", r"\1: has no value yet; set \1=<value>", text)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space left on the disk{f' for {error.filename}' if error.filename else ''}; free some and run again"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}"
    if "No space left on device" in text:  # as safetensors and torch say it
        return "no space left on the disk; free some and run again"
    return f"{type(error).__name__}: {text} (an error of rs-prune; --traceback shows where)"


def _of_hydra(text: str) -> str:
    text = re.sub(r"In '[^']*': ", "", text)
    text = re.sub(r"^You must specify '([^']*)'.*?Available options:", r"\1: has no value yet; the options are", text)
    text = re.sub(r"Could not find '([^']*)/([^'/]*)'", r"\1=\2: no such option", text)
    text = re.sub(r" Available options in '[^']*': ", "; the options are ", text)
    text = re.sub(r"Could not override '([^']*)'\..*", r"\1: no such key; --help lists them", text)
    text = re.sub(r" Config search path:.*| Use --\S+ .*| Set the environment.*| See https\S+.*", "", text)
    text = re.sub(
        r"^(mismatched input|no viable|extraneous|token recognition)", r"an override cannot be read: \1", text
    )
    text = re.sub(r"^LexerNoViableAltException: (.*?)\s*\^?$", r"\1: an override cannot be read; quote its value", text)
    return re.sub(r"(the options are )(.*)", lambda found: found[1] + ", ".join(found[2].split()), text)
