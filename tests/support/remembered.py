"""Graphs that torch traced before: tracing a tower takes five seconds, and most tests that export
need only what came of it.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from mismatch.specs import ImageSpec

__all__ = ["remembering"]

KEPT = 500e6  # bytes of weights in memory; a program has 30 MB
PLAIN = (bool, int, float, str, bytes, type(None))
# no graph depends on these of a backbone, of its model and of a configuration of transformers, and
# a loaded model names its folder there
NOT_IN_GRAPHS = {
    *("image_processor", "tokenizer", "preprocess_cfg", "zero_shot_threshold"),
    *("_name_or_path", "name_or_path", "architectures", "dtype"),
}
_programs: OrderedDict[str, Any] = OrderedDict()


@contextmanager
def remembering() -> Iterator[None]:
    """Within it torch traces a module once in this process: one of the same classes, settings and
    weights, with the same inputs, gets a copy of what came of it.
    """
    import torch.onnx

    real = torch.onnx.export

    def export(module: Any, inputs: Any, **options: Any) -> Any:
        key = digest(module, inputs, options)
        if key not in _programs:
            _programs[key] = whole(real(module, inputs, **options))
        _programs.move_to_end(key)
        while sum(map(size, _programs.values())) > KEPT:
            _programs.popitem(last=False)
        return torch.onnx.ONNXProgram(_programs[key].clone(), None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", export)
        yield


def whole(program: Any) -> Any:
    """Its model with weights of its own: those of the module may be trained further."""
    import onnx_ir

    for value in program.model.graph.initializers.values():
        if value.const_value is not None:
            value.const_value = onnx_ir.tensor(value.const_value.numpy().copy(), name=value.name)
    return program.model


def size(model: Any) -> int:
    """Of its weights, in bytes."""
    values = (value.const_value for value in model.graph.initializers.values())
    return sum(value.nbytes for value in values if value is not None)


def digest(module: Any, inputs: Any, options: Any) -> str:
    """Of all that a graph depends on."""
    found = hashlib.sha256()
    for name, part in module.named_modules():
        settings = {
            key: of
            for key, of in sorted(vars(part).items())
            if key[:1] != "_" and key not in NOT_IN_GRAPHS
        }
        found.update(f"{name} {type(part).__qualname__} {id(type(part))} {part}".encode())
        found.update(words(settings).encode())
        # a method that a test replaced on this very object
        found.update(repr([id(of) for of in settings.values() if inspect.isroutine(of)]).encode())
    for name, tensor in (*module.named_parameters(), *module.named_buffers(), *enumerate(inputs)):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} {tensor.device}".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    translations = sorted(map(str, options.get("custom_translation_table", ())))
    rest = {key: of for key, of in options.items() if key != "custom_translation_table"}
    found.update(f"{translations} {words(rest)}".encode())
    return found.hexdigest()


def words(value: Any) -> str:
    """Settings as a text, however they are nested; objects by their own settings."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, dict):
        return "".join(f"{key!s}:{words(of)};" for key, of in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"[{','.join(map(words, value))}]"
    if isinstance(value, ImageSpec):  # what is done to colours before a tower sees them
        return repr(replace(value, colour_profile="ignore"))
    if hasattr(value, "to_json_string"):  # a configuration of transformers
        attention = getattr(value, "_attn_implementation", None)
        return f"{attention} {words(without_origin(value.to_dict()))}"
    own: Any = type(value).__repr__
    return repr(copy.copy(value)) if own is not object.__repr__ else ""


def without_origin(settings: Any) -> Any:
    """A configuration without what differs between a new model and the same one from a folder."""
    if not isinstance(settings, dict):
        return settings
    return {key: without_origin(of) for key, of in settings.items() if key not in NOT_IN_GRAPHS}
