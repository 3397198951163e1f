"""`mismatch doctor`: see `mismatch.doctor`."""

from __future__ import annotations

import click

from mismatch.cli.verb import echo_result, flag, verb

__all__ = ["command"]


@verb("Show what this machine has, and what it lacks.", flag("--json as_json"))
def command(as_json: bool) -> None:
    """Show versions, GPU, CPU, memory, disk, whether the model hub answers, and what is missing for
    which extra, with the line that installs it. It goes into a bug report.

    Exit 0: nothing has to be repaired; 1: something has. HF_HUB_OFFLINE=1 asks nothing of the hub.

    Options:
    --json: Print it as JSON.
    """
    from mismatch.jobs.doctor import doctor

    result = doctor()
    echo_result(result, as_json=as_json)
    if result.problems:
        raise click.exceptions.Exit(1)
