"""`fsdp`: the backbone's weights, their gradients and AdamW's averages spread over the processes by
torch's FSDP2; whole in every file that is written.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from mismatch.backbones.base import Backbone
from mismatch.errors import DeviceError, InputError
from mismatch.io.text import did_you_mean
from mismatch.training.callbacks import announce
from mismatch.training.config import TrainConfig
from mismatch.training.detector import Detector, tower_methods
from mismatch.training.distributed.processes import Processes
from mismatch.training.folder.state import Weights
from mismatch.training.optim import trainable
from mismatch.training.tuning.towers import find_towers

__all__ = ["ShardedOptimizer", "ShardedWeights", "Shards", "as_launched", "shards_towers"]

LAUNCHED = "ACCELERATE_USE_FSDP"  # what `accelerate launch --use_fsdp` sets
VERSION = "2"  # of FSDP, the one that leaves the weights their names and shapes
T = TypeVar("T")


def as_launched(config: TrainConfig) -> TrainConfig:
    """Return the options with what `accelerate launch --use_fsdp` adds to them: `fsdp`, and
    `gradient_checkpointing` for accelerate's activation checkpointing. InputError for what of
    accelerate's options there is no counterpart to.
    """
    if not config.fsdp and not _launched():
        return config
    plugin = _plugin()
    try:
        return replace(
            config,
            fsdp=True,
            gradient_checkpointing=config.gradient_checkpointing or plugin.activation_checkpointing,
        )
    except InputError as error:
        raise InputError(f"accelerate launch --use_fsdp: {error}") from error


def shards_towers(config: TrainConfig, processes: Processes, precision: str) -> bool:
    """Return whether the run is a sharded one, which takes `fsdp` and several processes. InputError
    or DeviceError where it can't be one.
    """
    if not config.fsdp:
        return False
    if processes.count == 1:
        announce(
            "`fsdp` spreads the backbone over several processes, and this is one alone, so it does"
            " nothing; start more by torchrun --nproc-per-node N"
        )
        return False
    if processes.device.type not in ("cpu", "cuda"):
        raise DeviceError(
            f"`fsdp` needs CUDA devices or CPUs, and this is {processes.device.type}; leave it out"
        )
    if precision == "fp16":
        raise InputError(
            "`fsdp` and fp16 don't go together: a gradient's overflow in one shard would have to be"
            " known to all; use `precision='bf16'` or fp32"
        )
    return True


class Shards:
    """A detector whose backbone is spread over the processes. Each block of its towers is gathered
    when it computes, and what is around them for a whole pass.

    Gradients are summed, as those of a backbone that every process has. What FSDP can't spread
    stays whole in every process: scalars, and weights that several blocks share. So does the head.
    """

    def __init__(self, detector: Detector, processes: Processes) -> None:
        """Shard the backbone, which may be on the CPU as yet, on the processes' devices, and
        announce how much each has.
        """
        self.backbone = detector.backbone
        self.processes = processes
        plugin = _plugin()
        blocks = _blocks(self.backbone, plugin.transformer_cls_names_to_wrap)
        self._whole = _indivisible(self.backbone, blocks)
        for parameter in self._whole:
            parameter.data = parameter.data.to(processes.device)
        options: dict[str, Any] = {
            "mesh": init_device_mesh(processes.device.type, (processes.count,)),
            "ignored_params": self._whole,
        }
        for block in blocks:
            block.register_forward_hook(lambda _block, _inputs, output: _no_view(output))
            _sum(fully_shard(block, reshard_after_forward=plugin.reshard_after_forward, **options))
        _sum(fully_shard(self.backbone, **options))
        for name in tower_methods(detector):
            setattr(self.backbone, name, _without_views(getattr(self.backbone, name)))
            register_fsdp_forward_method(self.backbone, name)
        announce(self._line(len(blocks)))

    @property
    def whole_parameters(self) -> list[nn.Parameter]:
        """Return the backbone's trainable parameters that every process has whole."""
        return [parameter for parameter in trainable(self.backbone) if parameter in self._whole]

    @torch.no_grad()
    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> None:
        """Cut the length of these parameters' gradient down to `limit`: of all processes' shards
        together, and of what each has whole counted once.
        """
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        shards = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
        whole = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
        square = (
            torch.zeros((), device=self.processes.device) + nn.utils.get_total_norm(shards).square()
        )
        torch.distributed.all_reduce(square)
        length = (square + nn.utils.get_total_norm(whole).square()).sqrt()
        factor = (limit / (length + 1e-6)).clamp(max=1.0)  # as in clip_grad_norm_
        for gradient in (*shards, *whole):
            gradient.mul_(factor)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update all weights that have a gradient, shards first: fused AdamW doesn't take them
        together with whole ones of their group.
        """
        whole = [
            (parameter, parameter.grad)
            for parameter in self.whole_parameters
            if parameter.grad is not None
        ]
        for parameter, _ in whole:
            parameter.grad = None
        optimizer.step()
        if whole:
            optimizer.zero_grad(set_to_none=True)
            for parameter, gradient in whole:
                parameter.grad = gradient
            optimizer.step()

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Put whole weights on the CPU in the shards' places until the block ends, in the main
        process, for `save_pretrained`. All processes enter together.
        """
        self.reshard()
        parts = [
            (module, *part)
            for module in self.backbone.modules()
            for part in module.named_parameters(recurse=False, remove_duplicate=False)
        ]
        places = [(module, name, part) for module, name, part in parts if isinstance(part, DTensor)]
        whole = {
            part: gather(part, self.processes.main)
            for part in dict.fromkeys(part for *_, part in places)
        }
        try:
            for module, name, part in places if self.processes.main else []:
                module._parameters[name] = nn.Parameter(
                    whole[part], requires_grad=part.requires_grad
                )
            yield
        finally:
            for module, name, part in places:
                module._parameters[name] = part

    def reshard(self) -> None:
        """Free what a pass has left gathered."""
        for module in self.backbone.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def _line(self, blocks: int) -> str:
        local, count = (
            sum(sizes)
            for sizes in zip(
                *((_local(part).numel(), part.numel()) for part in self.backbone.parameters()),
                strict=True,
            )
        )
        return (
            f"`fsdp`: {blocks} blocks and what is around them over {self.processes.count}"
            f" processes, {local:,} of the backbone's {count:,} weights in this one"
        )


class ShardedWeights:
    """`Weights` whose state is whole, on the CPU of the main process, and empty in the others,
    which take part in making it.
    """

    def __init__(self, weights: Weights, shards: Shards) -> None:
        self.weights = weights
        self.shards = shards

    def state_dict(self) -> dict[str, Any]:
        self.shards.reshard()
        return gather(self.weights.state_dict(), self.shards.processes.main)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        current = self.weights.state_dict()
        self.weights.load_state_dict(
            {name: _spread(tensor, current.get(name)) for name, tensor in state_dict.items()}
        )


class ShardedOptimizer:
    """An optimizer of sharded parameters whose state is whole, as `ShardedWeights`' is."""

    def __init__(self, optimizer: torch.optim.Optimizer, shards: Shards) -> None:
        self.optimizer = optimizer
        self.shards = shards

    def state_dict(self) -> dict[str, Any]:
        return gather(self.optimizer.state_dict(), self.shards.processes.main)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        parameters = [
            parameter for group in self.optimizer.param_groups for parameter in group["params"]
        ]
        averages = {
            i: {name: _spread(value, parameters[i]) for name, value in values.items()}
            for i, values in state_dict["state"].items()
        }
        self.optimizer.load_state_dict(state_dict | {"state": averages})


def gather(state: T, keep: bool) -> T:
    """Return a state, nested in dicts and lists, with each sharded tensor whole and on the CPU, or
    empty where it isn't kept. All processes call it alike.
    """
    if isinstance(state, DTensor):
        whole = state.full_tensor()
        return whole.cpu() if keep else whole.new_empty(0)  # type: ignore[return-value]
    if isinstance(state, Mapping):
        return {  # type: ignore[return-value]
            name: gather(value, keep) for name, value in state.items()
        }
    if isinstance(state, list):
        return [gather(value, keep) for value in state]  # type: ignore[return-value]
    return state


def _spread(value: Any, like: Tensor | None) -> Any:
    """Return this process's shard of a whole tensor, where `like` is a sharded one of its shape;
    else the value as it is.
    """
    if not isinstance(value, Tensor) or not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(
        value.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )


def _launched() -> bool:
    return os.environ.get(LAUNCHED, "false").lower() == "true"


def _plugin() -> Any:
    """Return accelerate's plugin, which reads what its launcher and its configuration say.
    InputError for what mismatch has no counterpart to.
    """
    from accelerate.utils import FullyShardedDataParallelPlugin, disable_fsdp_ram_efficient_loading

    if _launched() and (asked := os.environ.get("FSDP_VERSION", "1")) != VERSION:
        raise InputError(
            f"accelerate launch --use_fsdp asks for FSDP {asked}, and mismatch train shards by FSDP"
            f" {VERSION}; pass --fsdp_version {VERSION}"
        )
    # transformers would load weights in one process only, and a backbone is run to look at it
    disable_fsdp_ram_efficient_loading()
    try:
        plugin: Any = FullyShardedDataParallelPlugin(fsdp_version=int(VERSION))
    except (ValueError, KeyError) as error:
        raise InputError(f"accelerate's FSDP options can't be used: {error}") from error
    refused = {
        "--fsdp_offload_params": isinstance(plugin.cpu_offload, CPUOffloadPolicy),
        "--fsdp_ignored_modules": plugin.ignored_modules,
        "--fsdp_activation_checkpointing_offload": getattr(
            plugin, "activation_checkpointing_offload", False
        ),
    }
    for flag in (flag for flag, asked in refused.items() if asked):
        raise InputError(
            f"accelerate launch {flag} is not supported by mismatch train; leave it out"
        )
    return plugin


def _blocks(backbone: Backbone, names: Sequence[str] | None) -> list[nn.Module]:
    """Return the modules that are gathered one by one: those of the classes that accelerate
    received, else the blocks of both towers. InputError for a class that the backbone doesn't have.
    """
    if not names:
        return list(
            dict.fromkeys(block for tower in find_towers(backbone) for block in tower.blocks)
        )
    classes = {type(module).__name__ for module in backbone.modules()}
    if unknown := [name for name in names if name not in classes]:
        raise InputError(
            "accelerate launch --fsdp_transformer_layer_cls_to_wrap: the backbone has no"
            f" {unknown[0]}{did_you_mean(unknown[0], classes)}"
        )
    chosen = [module for module in backbone.modules() if type(module).__name__ in names]
    return [
        module
        for module in chosen
        if not any(other in chosen for other in module.modules() if other is not module)
    ]


def _indivisible(backbone: nn.Module, blocks: Sequence[nn.Module]) -> set[nn.Parameter]:
    """Return scalars, and weights that are in two blocks, or in a block and around it: FSDP takes
    neither.
    """
    inside = {module for block in blocks for module in block.modules()}
    around = [
        parameter
        for module in backbone.modules()
        if module not in inside
        for parameter in module.parameters(recurse=False)
    ]
    uses = Counter(
        parameter
        for unit in (*(block.parameters() for block in blocks), dict.fromkeys(around))
        for parameter in unit
    )
    return {parameter for parameter, count in uses.items() if count > 1 or parameter.ndim == 0}


def _sum(module: FSDPModule) -> None:
    """Sum gradients over the processes, where FSDP would average them."""
    module.set_gradient_divide_factor(1.0)
    module.set_force_sum_reduction_for_comms(True)  # gloo can't multiply while it sums


def _no_view(output: Any) -> Any:
    """Return what a module gives, with copies in place of views. A view that is changed in place
    would lose the hook by which FSDP gathers for the backward pass.
    """
    if isinstance(output, Tensor):
        return output.clone() if output._is_view() else output
    return type(output)(map(_no_view, output)) if type(output) in (tuple, list) else output


def _without_views(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *inputs: _no_view(method(*inputs))


def _local(parameter: Tensor) -> Tensor:
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter
