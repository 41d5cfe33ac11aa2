"""Errors that a user can act on: one line that names the thing and the way out."""

from __future__ import annotations


class RsPruneError(Exception):
    """A mistake in the input or the set-up. The command line prints its one line and exits with 1."""


class DoesNotApply(RsPruneError):
    """A combination of options that makes no sense; a multirun records it as skipped and goes on."""
