"""What `tune` sets where an option is left open, and how defaults are shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field
from types import MappingProxyType
from typing import Any

__all__ = ["LAST", "MODES", "explained", "shown_default"]

# defaults of modes that train the towers
TOWERS = {"epochs": 10, "batch_size": 32, "head_learning_rate": 1e-3, "dropout": 0.1}
# what `tune` sets where an option is left open
MODES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "full": MappingProxyType(TOWERS | {"learning_rate": 1e-5, "layer_decay": 1.0}),
        "head": MappingProxyType(
            {
                "epochs": 12,
                "batch_size": 256,
                "learning_rate": 0.0,
                "head_learning_rate": 2e-3,
                "dropout": 0.65,
            }
        ),
        "lora": MappingProxyType(
            TOWERS
            | {"learning_rate": 2e-4, "lora_rank": 16, "lora_alpha": 32.0, "lora_dropout": 0.05}
        ),
        "last-N": MappingProxyType(TOWERS | {"learning_rate": 1e-5, "layer_decay": 1.0}),
    }
)
LAST = re.compile(r"last-([1-9]\d*)")


def shown_default(option: Field[Any]) -> str | None:
    """Return the default as the help shows it: `10; head: 25`, `0.01`, `off`; None where there is
    nothing to show.
    """
    default = option.default
    if default is MISSING or isinstance(default, bool):
        return None
    if "shown" in option.metadata:
        return str(option.metadata["shown"])
    names = option.metadata.get("modes", MODES)
    values = {mode: MODES[mode][option.name] for mode in names if option.name in MODES[mode]}
    if not values:
        return f"{default:g}" if isinstance(default, float) else str(default)
    first = next(iter(values.values()))
    others = [f"{mode}: {value:g}" for mode, value in values.items() if value != first]
    return "; ".join([f"{first:g}", *others])


def explained(option: Field[Any]) -> str:
    """Return what an option is for, its range, and what None or its default means."""
    text = f"{option.name} ({option.type}): {option.metadata['help']}"
    within = option.metadata.get("range")
    if within is not None:
        text += f" It is {within}."
    shown = shown_default(option)
    if shown is not None:
        text += f" {'None' if option.default is None else 'Default'}: {shown}."
    return text
