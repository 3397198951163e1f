"""Tuning modes: which weights of a backbone train and at which part of its rate, which parts are in
training mode, and what is saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn

from mismatch.backbones.base import Backbone
from mismatch.training.callbacks import announce
from mismatch.training.config import TrainConfig
from mismatch.training.tuning.lora import adapter_layers, add_adapters, merged
from mismatch.training.tuning.towers import STEM, Tower, find_towers

__all__ = ["Tuning"]


class Tuning:
    """A backbone made ready for `tune`. The head is no concern of it: that trains always."""

    def __init__(self, config: TrainConfig, backbone: Backbone) -> None:
        """Freeze what doesn't train and put adapters in; announce what trains where the mode
        alone doesn't say so.
        """
        self.mode = config.mode
        self.backbone = backbone
        # share of the backbone's rate, for weights that have less than all of it
        self.factors: dict[nn.Parameter, float] = {}
        # blocks that are to be computed again in the backward pass of lora
        self.checkpointed: list[nn.Module] = []
        weights = sum(parameter.numel() for parameter in backbone.parameters())
        backbone.requires_grad_(self.mode == "full")
        if self.mode == "lora":
            self._adapt(config, weights)
        elif self.mode == "last-N":
            self._thaw(find_towers(backbone), config, weights)
        elif self.mode == "full" and config.value("layer_decay") < 1:
            self.factors = decayed(find_towers(backbone), config.value("layer_decay"))

    @property
    def frozen(self) -> bool:
        """Return whether nothing of the backbone changes, so that all checkpoints may share its
        files.
        """
        return self.mode == "head"

    def train_mode(self) -> None:
        """Put what trains into training mode, all else into eval mode: no dropout there, and batch
        norm keeps its statistics.
        """
        self.backbone.train(self.mode == "full")
        if self.mode == "last-N":
            _set_modes(self.backbone, inside=False)
        if self.mode == "lora":
            self._train_adapters()

    def plain(self) -> AbstractContextManager[None]:
        """Make the backbone one that `save_pretrained` can write, until the block ends: adapters
        are merged into its weights. Nothing that trains is touched.
        """
        return merged(self.backbone) if self.mode == "lora" else nullcontext()

    @contextmanager
    def replacing(self) -> Iterator[None]:
        """Let others take the places of the backbone's parameters within the block. They then have
        their factors; the ones before are let go.
        """
        factors = {
            name: self.factors[parameter]
            for name, parameter in self.backbone.named_parameters()
            if parameter in self.factors
        }
        self.factors = {}
        yield
        self.factors = {
            parameter: factors[name]
            for name, parameter in self.backbone.named_parameters()
            if name in factors
        }

    def state(self) -> dict[str, Tensor]:
        """Return what training changes in the backbone, by name: the weights that train, and all
        buffers. What a fresh start has as well is left out. Nothing is copied.
        """
        if self.frozen:
            return {}
        weights = {
            name: weight.detach()
            for name, weight in self.backbone.named_parameters()
            if weight.requires_grad
        }
        return weights | {name: buffer.detach() for name, buffer in self.backbone.named_buffers()}

    def _train_adapters(self) -> None:
        """Put the adapters' dropout alone in training mode. For gradient checkpointing, which
        transformers leaves out in eval mode, so are the blocks themselves, without what is in them.
        """
        for layer in adapter_layers(self.backbone):
            dropout = getattr(layer, "lora_dropout", None)
            if isinstance(dropout, nn.Module):
                dropout.train()
        for block in self.checkpointed:
            block.training = True

    def _adapt(self, config: TrainConfig, weights: int) -> None:
        rank, alpha, dropout = (
            config.value(name) for name in ("lora_rank", "lora_alpha", "lora_dropout")
        )
        towers = find_towers(self.backbone)
        self.checkpointed = [
            block for tower in towers for block in tower.blocks if config.gradient_checkpointing
        ]
        counts = add_adapters(self.backbone, towers, rank=rank, alpha=alpha, dropout=dropout)
        layers = " and ".join(
            f"{count} layers of the {name} tower" for name, count in counts.items()
        )
        announce(
            f"adapters of rank {rank} in {layers}: {_trained(self.backbone):,} weights train"
            f" next to the backbone's {weights:,}"
        )

    def _thaw(self, towers: tuple[Tower, ...], config: TrainConfig, weights: int) -> None:
        for tower in towers:
            if config.last_blocks > tower.depth:
                announce(
                    f"the {tower.name} tower has {tower.depth or 'no'} blocks, so"
                    f" `tune='{config.tune}'` trains all of it"
                )
            first = tower.depth - config.last_blocks
            for parameter in tower.from_block(first if first >= 0 else STEM):
                parameter.requires_grad_(True)
        self.factors = decayed(towers, config.value("layer_decay"))
        announce(
            f"`tune='{config.tune}'`: {_trained(self.backbone):,} of the backbone's {weights:,}"
            " weights train"
        )


def decayed(towers: tuple[Tower, ...], decay: float) -> dict[nn.Parameter, float]:
    """Return each weight's factor: 1 in a tower's last block and after it, in each block below
    `decay` times that of the block above, least before the first.
    """
    factors: dict[nn.Parameter, float] = {}
    for tower in towers:
        top = max(tower.depth - 1, STEM)
        for parameter, place in tower.places.items():
            factors[parameter] = max(factors.get(parameter, 0.0), decay ** (top - place))
    return factors


def _set_modes(module: nn.Module, *, inside: bool) -> None:
    """Put a module all of whose weights train into training mode, and others into eval mode. One
    without weights is put into the mode of the one around it.
    """
    weights = list(module.parameters())
    module.training = all(weight.requires_grad for weight in weights) if weights else inside
    for child in module.children():
        _set_modes(child, inside=module.training)


def _trained(backbone: nn.Module) -> int:
    return sum(parameter.numel() for parameter in backbone.parameters() if parameter.requires_grad)
