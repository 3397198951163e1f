"""The head: what joins an image embedding and a text embedding into one logit."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from mismatch.backbones.base import Backbone
from mismatch.backbones.features import feature_fields, feature_names
from mismatch.errors import InputError
from mismatch.specs import HeadSpec

__all__ = [
    "AdapterHead",
    "ByteDropout",
    "CosineHead",
    "Head",
    "Standardise",
    "ZeroShotHead",
    "build_head",
    "cosine_threshold",
    "head_options",
    "head_spec_for",
    "normalise",
]

SCALE = 1 / 0.07  # of the cosine where the backbone knows none; CLIP's own start
CLIP_THRESHOLD = 0.25  # cosine
COMMON_DIM = 256  # width in which unlike widths are compared


def normalise(x: Tensor) -> Tensor:
    """Map (…, D) → (…, D) of length 1; zeros stay zeros, and there is no branch that an exporter
    would trip over.
    """
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-12)


class Head(nn.Module, ABC):
    """Embeds both sides into one space and compares there."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def embed_image(self, image_embedding: Tensor) -> Tensor:
        """Map (B, image_width) → (B, D), length 1."""

    @abstractmethod
    def embed_text(self, text_embedding: Tensor) -> Tensor:
        """Map (B, text_width) → (B, D), length 1."""

    @abstractmethod
    def logit(self, cosine: Tensor) -> Tensor:
        """Map (B,) → (B,); above 0 is a match by the head's own reckoning."""

    def forward(self, image_embedding: Tensor, text_embedding: Tensor) -> Tensor:
        """Map (B, image_width), (B, text_width) → (B,) logits."""
        return self.logit(
            (self.embed_image(image_embedding) * self.embed_text(text_embedding)).sum(-1)
        )


class ZeroShotHead(Head):
    """The plain cosine, no parameters."""

    def embed_image(self, image_embedding: Tensor) -> Tensor:
        """Map (B, D) → (B, D), length 1."""
        return normalise(image_embedding)

    def embed_text(self, text_embedding: Tensor) -> Tensor:
        """Map (B, D) → (B, D), length 1."""
        return normalise(text_embedding)

    def logit(self, cosine: Tensor) -> Tensor:
        """Return the cosine itself."""
        return cosine


class CosineHead(ZeroShotHead):
    """Scale · cosine + bias, both learned; `log_temperature` is the contrastive loss's own scale
    and serves training only.
    """

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__(spec)
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))
        self.bias = nn.Parameter(torch.tensor(0.0))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(SCALE)))

    def logit(self, cosine: Tensor) -> Tensor:
        """Map (B,) → (B,), scale · cosine + bias."""
        return self.log_scale.exp() * cosine + self.bias

    def fit(self, images: Tensor, texts: Tensor) -> None:
        """Standardise by these rows, (U, image_width) and (V, text_width), where this
        head does so.
        """

    def members(self, embedded: Tensor) -> Tensor:
        """Map (B, D) of either side → (members, B, D / members), each as long as a whole row is:
        what is taught apart.
        """
        return embedded[None]

    @torch.no_grad()
    def start(self, scale: float, threshold: float) -> None:
        """Begin with this scale, and with logit 0 at this cosine."""
        self.log_scale.fill_(math.log(scale))
        self.log_temperature.fill_(math.log(scale))
        self.bias.fill_(-scale * threshold)


class AdapterHead(CosineHead):
    """MLPs from each tower into one common width, then scale · cosine + bias. Where the widths are
    equal they are residual, so that it begins with zero-shot's ranking.

    Its members are pairs of MLPs that are taught apart and vote. Their cosines are averaged, as
    those of an ensemble; that is the cosine of their outputs side by side.
    """

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__(spec)
        self.residual = spec.image_dim == spec.text_dim == spec.common_dim
        self.image_norm, self.text_norm = (
            Standardise(width) if spec.normalisation == "standard" else None
            for width in (spec.image_width, spec.text_width)
        )
        self.image_adapter = _adapters(spec.image_width, spec, self.residual)
        self.text_adapter = _adapters(spec.text_width, spec, self.residual)

    def embed_image(self, image_row: Tensor) -> Tensor:
        """Map (B, image_width) → (B, members · common_dim), length 1."""
        return self._embed(self.image_adapter, self.image_norm, image_row, self.spec.image_dim)

    def embed_text(self, text_row: Tensor) -> Tensor:
        """Map (B, text_width) → (B, members · common_dim), length 1."""
        return self._embed(self.text_adapter, self.text_norm, text_row, self.spec.text_dim)

    def fit(self, images: Tensor, texts: Tensor) -> None:
        for norm, rows in ((self.image_norm, images), (self.text_norm, texts)):
            if norm is not None:
                norm.fit(rows)

    def members(self, embedded: Tensor) -> Tensor:
        parts = torch.stack(embedded.chunk(self.spec.members, dim=1))  # (members, B, common_dim)
        return parts * math.sqrt(self.spec.members)

    def _embed(self, adapters: nn.Module, norm: nn.Module | None, row: Tensor, dim: int) -> Tensor:
        inputs = row if norm is None else norm(row)
        base = normalise(row[:, :dim]) if self.residual else 0.0
        # (B, common_dim) each
        members = [
            normalise(base + adapter(inputs))
            for adapter in (adapters if isinstance(adapters, nn.ModuleList) else [adapters])
        ]
        return (
            torch.cat(members, dim=1) / math.sqrt(len(members)) if len(members) > 1 else members[0]
        )


class Standardise(nn.Module):
    """Each column to mean 0 and spread 1 over the rows it was fitted on; beyond `LIMIT` spreads it
    is cut off.
    """

    LIMIT = 8.0
    # shares of a column's own size and of all columns' that are added to its spread, so that
    # rounding is not blown up
    OWN = 0.05
    ALL = 1e-3
    mean: Tensor
    spread: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    @torch.no_grad()
    def fit(self, rows: Tensor) -> None:
        """Standardise by (N, width), N ≥ 1; a column that hardly varies keeps a spread that its
        noise doesn't fill.
        """
        variance, mean = torch.var_mean(rows.float(), 0, correction=0)
        self.mean.copy_(mean)
        size = rows.float().abs().mean(0)  # (width,)
        self.spread.copy_(variance.sqrt() + self.OWN * size + self.ALL * size.mean() + 1e-6)

    def forward(self, rows: Tensor) -> Tensor:
        """Map (B, width) → (B, width)."""
        return ((rows - self.mean) / self.spread).clamp(-self.LIMIT, self.LIMIT)


class ByteDropout(nn.Dropout):
    """Dropout whose chances are in 256ths: on a CPU six times as fast as torch's, which draws each
    one by itself.
    """

    def forward(self, rows: Tensor) -> Tensor:
        """Map (B, width) → (B, width)."""
        dropped = min(round(self.p * 256), 255)
        if not self.training or dropped == 0 or rows.device.type != "cpu":
            return super().forward(rows)
        words = torch.empty(-(-rows.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        drawn = words.view(torch.uint8)[: rows.numel()].view(rows.shape)  # 0..255 each
        return rows * (drawn >= dropped).to(rows.dtype).mul_(256 / (256 - dropped))


def _adapters(width: int, spec: HeadSpec, residual: bool) -> nn.Module:
    members = [_adapter(width, spec, residual) for _ in range(spec.members)]
    return members[0] if len(members) == 1 else nn.ModuleList(members)


def _adapter(width: int, spec: HeadSpec, residual: bool) -> nn.Sequential:
    last = nn.Linear(spec.hidden_dim, spec.common_dim)
    if residual:
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    norm = nn.LayerNorm(width) if spec.normalisation == "layer" else nn.Identity()
    return nn.Sequential(
        norm, ByteDropout(spec.dropout), nn.Linear(width, spec.hidden_dim), nn.GELU(), last
    )


KINDS: dict[str, type[Head]] = {
    "adapter": AdapterHead,
    "cosine": CosineHead,
    "zero-shot": ZeroShotHead,
}


def build_head(spec: HeadSpec, backbone: Backbone | None = None) -> Head:
    """Build a fresh head. One that is a plain cosine starts from the scale and threshold of a
    backbone whose towers share a space.
    """
    head = KINDS[spec.kind](spec)
    if isinstance(head, CosineHead) and backbone is not None and backbone.shared_space:
        head.start(backbone.logit_scale or SCALE, cosine_threshold(backbone))
    return head


def cosine_threshold(backbone: Backbone) -> float:
    """Return the cosine from which an untrained pair counts as a match, and at which a head's logit
    starts as 0. It is stated, else implied by the bias, else CLIP's.
    """
    if backbone.zero_shot_threshold is not None:
        return backbone.zero_shot_threshold
    if backbone.logit_bias is not None:
        return -backbone.logit_bias / (backbone.logit_scale or SCALE)
    return CLIP_THRESHOLD


def head_options(spec: HeadSpec) -> dict[str, Any]:
    """Return a head as the options that make it."""
    features = ",".join(feature_names(spec)) or "none"
    options = {
        "head": spec.kind,
        "head_dim": spec.common_dim,
        "head_hidden": spec.hidden_dim,
        "head_members": spec.members,
    }
    return options | {"features": features, "dropout": spec.dropout}


def head_spec_for(
    backbone: Backbone,
    kind: str,
    *,
    common_dim: int | None = None,
    hidden_dim: int = 512,
    dropout: float = 0.1,
    members: int = 1,
    features: tuple[str, ...] = (),
) -> HeadSpec:
    """Return the spec that fits a backbone's widths. Equal widths are compared in that width unless
    another is asked for. `features`: of specs.FEATURES. InputError for an unknown kind.
    """
    equal = backbone.image_dim == backbone.text_dim
    if kind not in KINDS:
        raise InputError(f"head {kind!r} is unknown; one of {', '.join(KINDS)} is needed")
    common = common_dim or (backbone.image_dim if equal else COMMON_DIM)
    return HeadSpec(
        kind=kind,  # type: ignore[arg-type]
        image_dim=backbone.image_dim,
        text_dim=backbone.text_dim,
        common_dim=common,
        hidden_dim=hidden_dim,
        dropout=dropout,
        normalisation="standard" if kind == "adapter" else "layer",
        members=members if kind == "adapter" else 1,
        **feature_fields(backbone, features),
    )
