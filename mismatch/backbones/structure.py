"""What a backbone computes with its weights: layers, and the settings that they hold. Two models of
the same weights may differ in an activation or the number of heads.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mismatch.backbones.base import Backbone

__all__ = ["structure_digest"]

# attributes that say where a model comes from, or that a fingerprint has anyway
LEFT_OUT = frozenset(
    {
        *(
            "training",
            "model_id",
            "commit",
            "image_spec",
            "text_spec",
            "name_or_path",
            "architectures",
        ),
        *("transformers_version", "dtype", "torch_dtype", "model_type"),
        *("_name_or_path", "_commit_hash"),
        # what is made of the cosine, and of pixels before a tower sees them
        *("logit_scale", "logit_bias", "zero_shot_threshold", "int8", "preprocess_cfg"),
    }
)
OF_MODULES = frozenset(vars(nn.Module()))  # torch's own: parameters, hooks
DEEPEST = 8  # levels of lists and mappings in one setting
Plain = str | int | float | list[Any] | dict[str, Any] | None


def structure_digest(backbone: Backbone) -> str:
    """Return a hash, hex, of the layers in their order, their settings (plain attributes, tensors
    outside of the weights, functions by name), and nothing of where they were loaded from.
    """
    digest = hashlib.sha256()
    for name, module in backbone.named_modules():
        digest.update(json.dumps([name, _kind(module), _settings(module)], sort_keys=True).encode())
    return digest.hexdigest()


def _settings(module: nn.Module) -> dict[str, Plain]:
    settings = {
        name: _plain(value)
        for name, value in vars(module).items()
        if not _is_left_out(name, module)
    }
    kept = module._non_persistent_buffers_set  # no part of the weights
    settings |= {
        name: _plain(value) for name, value in module.named_buffers(recurse=False) if name in kept
    }
    return settings


def _is_left_out(name: str, module: nn.Module) -> bool:
    """Return whether an attribute is no setting. Of transformers' private ones some say how the
    model was loaded; what it computes stands in its configuration.
    """
    is_private = name.startswith("_") and _kind(module).startswith("transformers.")
    return is_private or name in OF_MODULES or name in LEFT_OUT


def _plain(value: object, depth: int = 0) -> Plain:
    """Return a setting as JSON has it, as far as it can matter to what is computed."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return "" if "/" in value or "\\" in value else value  # a place, not a setting
    if isinstance(value, Tensor):
        return _bytes_digest(
            value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        )
    if isinstance(value, np.ndarray):
        return _bytes_digest(value)
    if isinstance(value, torch.dtype):
        return str(value)
    if depth >= DEEPEST or isinstance(value, nn.Module):
        return _kind(value)
    return _composite(value, depth + 1)


def _composite(value: object, depth: int) -> Plain:
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(json.dumps(_plain(item, depth), sort_keys=True) for item in value)
    if isinstance(value, Mapping):
        return dict(_items(value, depth))
    if isinstance(value, functools.partial):
        return [_plain(part, depth) for part in (value.func, value.args, value.keywords)]
    if callable(getattr(value, "to_dict", None)):  # a configuration of transformers
        return _configuration(value, depth)
    if isinstance(value, Callable):  # type: ignore[arg-type]
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', _kind(value))}"
    return _kind(value)


def _configuration(value: Any, depth: int) -> Plain:
    try:
        content = value.to_dict()
    except Exception:  # noqa: BLE001 - a plugin's own, which says nothing then
        return _kind(value)
    return _plain(content, depth)


def _items(value: Mapping[Any, Any], depth: int) -> Iterator[tuple[str, Plain]]:
    for key, item in value.items():
        if key not in LEFT_OUT:
            yield str(key), _plain(item, depth)


def _bytes_digest(values: np.ndarray[Any, Any]) -> str:
    content = np.ascontiguousarray(values)
    if content.dtype == object:
        return f"{content.shape}"
    return hashlib.sha256(content.tobytes()).hexdigest()


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
