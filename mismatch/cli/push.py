"""`mismatch push`: see `mismatch.push`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mismatch.cli.options import PATH
from mismatch.cli.verb import echo_result, flag, option, verb

__all__ = ["command"]


@verb(
    "Push a model to the model hub.",
    click.Argument(["model"], type=PATH, metavar="DIR"),
    click.Argument(["name"], metavar="OWNER/NAME"),
    flag("--private"),
    option("--revision", metavar="BRANCH"),
    option("--message", metavar="TEXT"),
    flag("--dry-run"),
    flag("--json as_json"),
)
def command(model: Path, name: str, as_json: bool, **options: Any) -> None:
    """Push DIR, a checkpoint or a bundle, to OWNER/NAME on the model hub, in one commit, with its
    card. The repository is made if it is not there.

    Only files that the model lists go, after a look at their hashes, with its card, licence and
    statistics of training; paths of this machine are left out of them. The hub is that of
    HF_ENDPOINT, the token that of HF_TOKEN or `hf auth login`.

    Options:
    --private: Only its owner sees a repository that this makes.
    --revision: Branch; it is made if it is not there.  [default: main]
    --message: What the commit says.
    --dry-run: Push nothing, and show which files would be.
    --json: Print the result as JSON.
    """
    from mismatch.jobs.push import push

    echo_result(push(model, name, **options), as_json=as_json)
