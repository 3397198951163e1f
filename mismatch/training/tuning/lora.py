"""Low-rank adapters of a backbone's layers (LoRA, Hu et al. 2021). For saving they are merged into
plain weights, while the live ones stay as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mismatch.errors import InputError, MissingExtraError
from mismatch.training.tuning.towers import Tower

__all__ = ["LowRank", "adapter_layers", "add_adapters", "merged"]

ADAPTER = "default"  # peft's own name
# relative difference that rounding may make between a layer and the plain function it stands for
SAME = 1e-4


class LowRank(nn.Module):
    """A weight plus a product of two thin matrices, which begins as zero."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        """Take a `weight`, (out, …), of which all but the first axis count as one."""
        super().__init__()
        out_width, in_width = weight.flatten(1).shape
        self.down = nn.Parameter(weight.new_empty(rank, in_width))
        self.up = nn.Parameter(weight.new_zeros(out_width, rank))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as peft does

    def forward(self, weight: Tensor) -> Tensor:
        """Map (out, …) → the same shape."""
        return weight + self.scale * (self.up @ self.down).view_as(weight)


def add_adapters(
    backbone: nn.Module, towers: Sequence[Tower], *, rank: int, alpha: float, dropout: float
) -> dict[str, int]:
    """Freeze the backbone and adapt the linear layers, convolutions and attentions of its towers'
    blocks → how many layers of each tower.

    peft adapts linear layers and plain convolutions. Attention with packed projections is adapted
    here. After each step peft subtracts from the frozen weights what it added, which doesn't give
    them back to the last bit. So are other kinds of convolutions, of which peft would build more.
    There the weight itself is adapted, without dropout, which belongs to a layer's input.
    """
    chosen = {tower.name: _targets(backbone, tower) for tower in towers}
    layers = list(dict.fromkeys(layer for targets in chosen.values() for layer in targets))
    if not layers:
        raise InputError(
            "`tune='lora'` finds no linear layer, convolution or attention in this backbone; use"
            " `tune='full'` or `tune='head'`"
        )
    backbone.requires_grad_(False)
    _adapt_layers(backbone, [layer for layer in layers if _is_pefts(layer)], rank, alpha, dropout)
    for layer in layers:
        if not _is_pefts(layer):
            _adapt_weights(layer, rank, alpha)
    return {name: len(targets) for name, targets in chosen.items()}


def adapter_layers(backbone: nn.Module) -> list[nn.Module]:
    """Return the layers that `add_adapters` has put in place of plain ones, and the attentions that
    it has adapted.
    """
    return [module for module in backbone.modules() if _is_adapted(module)]


@contextmanager
def merged(backbone: nn.Module) -> Iterator[None]:
    """Put plain layers with the adapters' share added in the adapted layers' places until the block
    ends. Then these stand there again, untouched.
    """
    places = [
        (parent, name, layer)
        for parent in backbone.modules()
        for name, layer in parent.named_children()
        if _is_adapted(layer)
    ]
    plain = {layer: _plain(layer) for layer in dict.fromkeys(layer for *_, layer in places)}
    try:
        for parent, name, layer in places:
            setattr(parent, name, plain[layer])
        yield
    finally:
        for parent, name, layer in places:
            setattr(parent, name, layer)


# --- which layers


def _targets(backbone: nn.Module, tower: Tower) -> list[nn.Module]:
    """Return the layers of a tower's blocks that can be adapted; those of the whole tower where it
    has no blocks, or none in them.
    """
    inner = [layer for block in tower.blocks for layer in block.modules()]
    return _adaptable(inner, tower) or _adaptable(backbone.modules(), tower)


def _adaptable(modules: Iterable[nn.Module], tower: Tower) -> list[nn.Module]:
    modules = list(modules)
    parts = {
        part
        for module in modules
        if isinstance(module, nn.MultiheadAttention)
        for part in module.modules()
        if part is not module
    }
    weights = {
        module: getattr(
            module,
            "in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight",
            None,
        )
        for module in modules
    }
    return [
        module
        for module, weight in weights.items()
        if module not in parts and weight in tower.places and _can_adapt(module)
    ]


def _can_adapt(layer: nn.Module) -> bool:
    """Return whether a layer can be adapted: attention, a convolution over all channels, or a
    linear layer whose output moves with its weight.
    """
    if isinstance(layer, nn.Linear):
        return _is_linear(layer)
    return isinstance(layer, nn.MultiheadAttention) or (
        isinstance(layer, nn.Conv2d) and layer.groups == 1
    )


@torch.no_grad()
def _is_linear(layer: nn.Linear) -> bool:
    """Return whether it computes what its class says; a subclass may do anything."""
    x = torch.linspace(
        -1, 1, 2 * layer.in_features, device=layer.weight.device, dtype=layer.weight.dtype
    ).reshape(2, -1)
    ours = nn.functional.linear(x, layer.weight, layer.bias)
    theirs = layer(x)
    return ours.shape == theirs.shape and bool((ours - theirs).norm() <= SAME * ours.norm())


def _is_pefts(layer: nn.Module) -> bool:
    """Return whether peft adapts it."""
    return isinstance(layer, nn.Linear) or (
        type(layer) is nn.Conv2d and layer.padding_mode == "zeros"
    )


# --- how they are adapted


def _adapt_layers(
    backbone: nn.Module, layers: Sequence[nn.Module], rank: int, alpha: float, dropout: float
) -> None:
    if not layers:
        return
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtraError("`tune='lora'`", "train") from error
    wanted = set(layers)
    # peft would match a list by the ends of names
    names = "|".join(
        re.escape(name) for name, module in backbone.named_modules() if module in wanted
    )
    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names),
        backbone,
        ADAPTER,
    )


def _adapt_weights(layer: nn.Module, rank: int, alpha: float) -> None:
    places = (
        [(layer, "in_proj_weight"), (layer.out_proj, "weight")]
        if isinstance(layer, nn.MultiheadAttention)
        else [(layer, "weight")]
    )
    for module, name in places:
        parametrize.register_parametrization(
            module, name, LowRank(getattr(module, name), rank, alpha)
        )


def _is_adapted(module: nn.Module) -> bool:
    return hasattr(module, "lora_A") or (
        isinstance(module, nn.MultiheadAttention | nn.Conv2d)
        and parametrize.is_parametrized(module)
    )


@torch.no_grad()
def _plain(layer: Any) -> Any:
    """Return what the adapted layer computes in eval mode, as the layer that it was."""
    if parametrize.is_parametrized(layer):
        plain = _unparametrized(layer)
        if isinstance(layer, nn.MultiheadAttention):
            plain.out_proj = _unparametrized(layer.out_proj)
    else:
        plain = deepcopy(layer.get_base_layer())
        plain.weight += layer.get_delta_weight(ADAPTER)
    return plain


def _unparametrized(module: nn.Module) -> Any:
    """Return the module as it was before, with what its parametrizations compute. torch's own way
    back would change the class that the live one shares.
    """
    parametrizations: Any = module.parametrizations
    kind: Any = parametrize.type_before_parametrizations(module)
    plain = kind.__new__(kind)  # without its __init__, which would draw random weights
    plain.__dict__ = module.__dict__ | {
        "_modules": {
            name: child for name, child in module._modules.items() if name != "parametrizations"
        }
    }
    plain._parameters = {
        name: nn.Parameter(getattr(module, name).clone(), requires_grad=False)
        for name in parametrizations
    } | module._parameters
    return plain
