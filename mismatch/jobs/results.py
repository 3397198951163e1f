"""What jobs return: frozen dataclasses that can be shown and written as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mismatch.spec_base import Spec

__all__ = ["Result", "as_json"]


class Result:
    """A result of a job; subclasses are frozen dataclasses."""

    def to_dict(self) -> dict[str, Any]:
        """Return it with plain JSON types only, under the names of its fields."""
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        return {name: as_json(getattr(self, name)) for name in names}


def as_json(value: Any) -> Any:
    """Return a value with plain JSON types only: dataclasses and mappings become objects, tuples
    and arrays lists, paths strings.
    """
    if isinstance(value, (Spec, Result)):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    return value
