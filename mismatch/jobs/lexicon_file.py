"""Words of one's own that can be exchanged, from YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mismatch.errors import InputError, MissingExtraError
from mismatch.io.reading import read_text
from mismatch.jobs.value_checks import check_kinds

__all__ = ["read_lexicon"]


def read_lexicon(path: str | Path | None) -> Mapping[str, Sequence[str]] | None:
    """Return the classes of words of a YAML file; None without a file.

    InputError for a file that can't be read or holds something else.
    """
    if path is None:
        return None
    check_kinds({"lexicon": "str | Path"}, {"lexicon": path})
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("`lexicon`", "audit") from error
    try:
        classes = yaml.safe_load(read_text(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(classes, dict) or not all(
        isinstance(kind, str) and isinstance(families, list) for kind, families in classes.items()
    ):
        raise InputError(
            f'{path}: classes of words are needed, as `shape: ["round, circular", square]`'
        )
    return classes
