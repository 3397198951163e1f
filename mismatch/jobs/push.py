"""Push a model to a hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mismatch.io.text import plural
from mismatch.jobs.results import Result
from mismatch.jobs.value_checks import checked
from mismatch.runtime.hub_push import PushOptions, push_folder
from mismatch.runtime.predictor import Predictor

__all__ = ["PushResult", "push"]


@dataclass(frozen=True)
class PushResult(Result):
    """A model on a hub.

    `repository`: OWNER/NAME.
    `commit`: 40 hex digits; "" of a dry run.
    `url`: address of the repository's page.
    `files`: names of the files.
    `bytes`: size of all files.
    """

    repository: str
    commit: str
    url: str
    files: tuple[str, ...]
    bytes: int

    def summary(self) -> list[str]:
        """Return it for people, a line each."""
        size = f"{plural(len(self.files), 'file')}, {self.bytes / 1e6:.1f} MB"
        names = ", ".join(self.files)
        if not self.commit:
            return [f"would push {size} to {self.url}: {names}"]
        return [
            f"pushed {size} to {self.url}: {names}",
            f"load it by hub:{self.repository}@{self.commit}",
        ]


@checked
def push(
    model: str | Path | Predictor,
    name: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
) -> PushResult:
    """Push a checkpoint or a bundle to a model hub, in one commit, with its card.

    `model`: folder, or a Predictor that was loaded from it. `name`: OWNER/NAME of the repository,
    which is made if it is not there. `private`: whether only its owner sees a new one. `revision`:
    branch, by default main; it is made if it is not there. `message`: of the commit. `dry_run`:
    push nothing, and return which files would be.

    Only files that the model lists go, after a look at their hashes, with its card, licence and
    statistics of training. Paths of this machine are left out of them. The hub is that of
    HF_ENDPOINT, the token that of HF_TOKEN or `hf auth login`.

    Raises CheckpointError for a folder that holds no model, a damaged one, and where the hub
    refuses it; InputError for a name that can be none.
    """
    options = PushOptions(private=private, revision=revision, message=message, dry_run=dry_run)
    if isinstance(model, Predictor):
        done = model.push_to_hub(name, **options)
    else:
        done = push_folder(model, name, **options)
    return PushResult(**vars(done))
