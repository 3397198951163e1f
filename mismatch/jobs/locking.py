"""What a job writes, kept from other writers while it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from mismatch.io.locks import locked
from mismatch.io.replacing import remembered
from mismatch.runtime.card_file import CARD
from mismatch.runtime.hub_models import refuse_hub_cache
from mismatch.runtime.score_file import score_file

__all__ = ["lock_file", "lock_folder", "lock_score"]


@contextmanager
def lock_file(path: str | Path) -> Iterator[None]:
    """Let no other job write this file until the block ends; see `locked`. What another program
    puts there meanwhile is not replaced.
    """
    with locked(path), remembered(path):
        yield


@contextmanager
def lock_folder(path: str | Path, *, inside: re.Pattern[str] | None = None) -> Iterator[None]:
    """Let no other job write this folder until the block ends. What another program puts into it
    meanwhile is not replaced.

    What a killed writer has left of files `inside` under temporary names is removed.
    """
    with locked(path, parents=True, inside=inside), remembered(path, is_folder=True):
        yield


def lock_score(model: str | Path) -> AbstractContextManager[None]:
    """Let no other job write this model's calibration, thresholds and card until the block ends.

    CheckpointError for what can't store them.
    """
    refuse_hub_cache(model)
    names = (score_file(model).name, CARD)
    return locked(model, inside=re.compile("|".join(map(re.escape, names))))
