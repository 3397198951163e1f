"""That its towers run on other devices and in other precisions than those of the check."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mismatch.backbones.base import Backbone
from mismatch.errors import ContractError
from mismatch.testing.checks import Checks
from mismatch.testing.outcomes import fail, one_line
from mismatch.testing.probes import Probe, copied, probes_of
from mismatch.testing.training import thawed

__all__ = ["DeviceChecks"]

# operations of which CUDA takes indices that lie on the CPU, and copies between devices
MIXING = ("aten.index.", "aten.index_put", "aten._index_put", "aten.copy_", "aten._to_copy")


class DeviceChecks(Checks):
    """That its towers run on other devices and in other precisions than those of the check."""

    def test_other_devices(self, backbone: Backbone) -> None:
        """Moved to another device, towers make nothing on the CPU. torch's `meta` device, which
        only knows shapes, stands for a GPU.
        """
        moved = copied(backbone).to("meta")
        for tower, plain in zip(probes_of(moved), probes_of(backbone), strict=True):
            watch = _DeviceWatch(backbone)
            inputs = [torch.from_numpy(array).to("meta") for array in tower.inputs]
            try:
                with torch.inference_mode(), watch:
                    output: object = tower.function(*inputs)
            except Exception:  # noqa: BLE001 - what needs values can't be asked for without them
                output = None
            if watch.fault:
                fail(
                    f"{plain.name} mixes tensors of the CPU with those of the backbone's device in"
                    f" {watch.fault}; make them on the device of its input (device=x.device), or"
                    " register them as buffers"
                )
            if isinstance(output, Tensor) and output.device.type != "meta":
                fail(
                    f"{plain.name} gives a tensor on the {output.device.type} for a backbone on"
                    " another device; return it where its input is"
                )

    def test_bf16_autocast(self, backbone: Backbone) -> None:
        """Both towers learn under autocast in bfloat16, which `precision="bf16"` trains in."""
        for tower in probes_of(backbone):
            with thawed(backbone), torch.random.fork_rng():
                _check_autocast(tower)


def _check_autocast(tower: Probe) -> None:
    inputs = [torch.from_numpy(array) for array in tower.inputs]
    try:
        with torch.autocast("cpu", torch.bfloat16):
            output = tower.function(*inputs)
        output.float().square().sum().backward()
    except Exception as error:
        raise ContractError(
            f"{tower.name} fails under autocast in bfloat16 with {one_line(error)}; give what it"
            " makes itself the dtype of what it meets (x.to(y.dtype)): `precision='bf16'` trains"
            " so"
        ) from error
    if not bool(torch.isfinite(output).all()):
        fail(f"{tower.name} gives nan or infinity under autocast in bfloat16")


class _DeviceWatch(TorchDispatchMode):
    """Notes the first operation on tensors of several devices, and the line of the plugin."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fault = ""
        towers = (inspect.unwrap(tower) for tower in (backbone.encode_image, backbone.encode_text))
        codes = (getattr(tower, "__code__", None) for tower in towers)
        self._files = {code.co_filename for code in codes if code is not None}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        leaves = tree_leaves((args, dict(kwargs or {})))
        # a single number may lie on the CPU
        devices = {
            leaf.device.type for leaf in leaves if isinstance(leaf, Tensor) and leaf.ndim > 0
        }
        if len(devices) > 1 and not self.fault and not str(func).startswith(MIXING):
            self.fault = str(func).removeprefix("aten.").partition(".")[0] + self._place()
        return func(*args, **(kwargs or {}))

    def _place(self) -> str:
        """Return ` (file, line N: code)` of the plugin's own line; nothing where it has none."""
        frames = [frame for frame in traceback.extract_stack() if frame.filename in self._files]
        if not frames:
            return ""
        frame = frames[-1]
        code = f": {frame.line.strip()}" if frame.line else ""
        return f" ({Path(frame.filename).name}, line {frame.lineno}{code})"
