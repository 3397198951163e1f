"""torch's table of ONNX operators, built once a process: torch.onnx.export builds it for each
graph, which takes a fifth of tracing a small tower.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

__all__ = ["torchlib_once"]


@pytest.fixture(scope="session")
def torchlib_once() -> Iterator[None]:
    """Each export gets a copy of the table, to which it may add operators of its own."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    build = ONNXRegistry.from_torchlib
    built: dict[Any, Any] = {}

    def copied(**version: Any) -> Any:
        key = tuple(version.items())
        if key not in built:
            built[key] = build(**version)
        table = ONNXRegistry()
        table._opset_version = built[key]._opset_version
        table.functions = {
            name: list(functions) for name, functions in built[key].functions.items()
        }
        return table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(copied))
        yield
