"""Options in a file, run.yaml or TOML: read and checked by name and type, and written
for a run to be repeated. Torch-free.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from mismatch import __version__
from mismatch.errors import InputError, MissingExtraError
from mismatch.io.reading import read_text
from mismatch.io.text import did_you_mean
from mismatch.training.options import NEEDED, Kind

__all__ = ["SETTINGS", "SETTINGS_HEAD", "read_settings", "settings_text"]

SETTINGS = "run.yaml"  # in a run's folder
SETTINGS_HEAD = "# mismatch "  # how one that a run wrote begins
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")  # YAML 1.1 takes 1e-5 for text
SHOWN = 200  # characters of a value in an error


def read_settings(path: str | Path, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Return the options of a YAML or TOML file.

    `kinds`: those that there are, by name; dashes are as good as underscores. Relative paths stay
    as they are: the working directory is what they are relative to, as on the command line.
    InputError for an unknown name or a wrong type.
    """
    options: dict[str, Any] = {}
    for key, value in _load(Path(path)).items():
        name = str(key).replace("-", "_")
        if name not in kinds:
            raise _unknown(path, key, kinds)
        if name in options:
            raise InputError(
                f"{path}: {name} is given twice, with a dash and with an underscore; leave one out"
            )
        if value is not None:  # a key without a value leaves the option open
            options[name] = _checked(path, name, value, kinds[name].type)
    return options


def settings_text(values: Mapping[str, Any]) -> str:
    """Return a YAML file of these options, with a note for people at its head."""
    import yaml

    head = (
        f"{SETTINGS_HEAD}{__version__}: `mismatch train --config {SETTINGS} --output-dir ELSEWHERE`"
        " repeats this run.\n"
    )
    where = (
        "# Relative paths are relative to the working directory; options on the command line win"
        " over this file.\n"
    )
    body = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=1000)
    return head + where + str(body)


def _unknown(path: str | Path, key: Any, kinds: Mapping[str, Kind]) -> InputError:
    nearest = did_you_mean(str(key).replace("-", "_"), kinds)
    return InputError(f"{path}: {key!r} is not an option of training{nearest}")


def _load(path: Path) -> Mapping[Any, Any]:
    if path.suffix.lower() not in (".yaml", ".yml", ".toml"):
        raise InputError(
            f"`config` {path} must end in .yaml, .yml or .toml, which says how it is read"
        )
    try:
        text = read_text(path, encoding="utf-8-sig")
        data = tomllib.loads(text) if path.suffix.lower() == ".toml" else _yaml(path, text)
    except OSError as error:
        raise InputError(f"`config` {path} can't be read: {error.strerror}") from error
    # ValueErrors are those of UTF-8, of TOML, of numbers with thousands of digits
    except (ValueError, RecursionError) as error:
        raise InputError(f"`config` {path} can't be read: {error}") from error
    if not isinstance(data, Mapping):
        raise InputError(f"`config` {path} holds no options; lines of `name: value` are needed")
    return data


def _yaml(path: Path, text: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"`config` {path}", "train") from error

    class Loader(yaml.SafeLoader):
        """Safe, and strict about keys that stand twice, of which YAML takes the last."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise InputError(f"{path}: {twice[0]} is given twice; leave one out")
            return super().construct_mapping(node, deep)

    try:
        return {} if (data := yaml.load(text, Loader)) is None else data
    # a ValueError is of a date or of a number with thousands of digits
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(
            f"`config` {path} is not valid YAML: {' '.join(str(error).split())}"
        ) from error


def _checked(path: str | Path, name: str, value: Any, kind: type) -> Any:
    """Return the value as the option's type; a number that YAML takes for text is one. InputError
    for a value of another type.
    """
    if kind is float and isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        return float(value)
    if (
        kind is float
        and isinstance(value, int)
        and not isinstance(value, bool)
        and abs(value) < sys.float_info.max
    ):
        return float(value)
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    quoted = "; put it in quotes" if kind is str and not isinstance(value, list | dict) else ""
    raise InputError(f"{path}: {name} is {_shown(value)}; {NEEDED[kind]} is needed{quoted}")


def _shown(value: Any) -> str:
    """Show it as it stands in the file, nearly: true, "many", [1, 2]."""
    try:
        # one by one: aliases of YAML can make gigabytes of a few lines
        pieces = json.JSONEncoder(default=str, ensure_ascii=False).iterencode(value)
        text = "".join(islice(pieces, SHOWN))
    except (ValueError, RecursionError):  # a list in itself, or a number with thousands of digits
        return f"a {type(value).__name__} that can't be shown"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
