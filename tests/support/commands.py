"""`mismatch` in the process of the test."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner, Result

from mismatch.cli import main

__all__ = ["run"]


def run(*args: object, **options: Any) -> Result:
    """Run `mismatch ARGS`; `options` are those of click's `invoke`, `env` among them."""
    return CliRunner().invoke(main, list(map(str, args)), prog_name="mismatch", **options)
