"""Two towers that never met, as one Backbone: how a pair is named, loaded, saved and asked."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from mismatch import BackboneError
from mismatch.backbones.base import Backbone
from mismatch_lit import image, text
from mismatch_lit.sources import is_path, quiet, read_json, seeded

__all__ = ["LitBackbone", "load", "split"]

TINY = "tiny"
ABOUT = "lit.json"  # says what the two folders next to it hold
FORMAT_VERSION = 1
IMAGE, TEXT = "image", "text"  # folders


class LitBackbone(Backbone):
    """An image tower and a text tower, trained apart: their widths differ and only the head joins
    them.
    """

    shared_space = False
    logit_scale = logit_bias = zero_shot_threshold = None

    def __init__(
        self, image_tower: image.ImageTower, text_tower: text.TextTower, model_id: str
    ) -> None:
        super().__init__()
        self.image, self.text, self.model_id = image_tower, text_tower, model_id
        self.image_dim, self.levels_dim, self.image_spec = (
            image_tower.dim,
            image_tower.levels_dim,
            image_tower.spec,
        )
        self.text_dim, self.text_levels_dim, self.text_spec = (
            text_tower.dim,
            text_tower.levels_dim,
            text_tower.spec,
        )
        self.eval()

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) → (B, image_dim), not normalised."""
        embeddings: Tensor = self.image(pixel_values)
        return embeddings

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L), twice → (B, text_dim), not normalised; L ≤ context_length."""
        embeddings: Tensor = self.text(input_ids, attention_mask)
        return embeddings

    def image_levels(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) → (B, levels_dim): mean and spread of three earlier blocks."""
        return self.image.levels(pixel_values)

    def encode_image_and_levels(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) → (B, image_dim), (B, levels_dim), in one pass."""
        return self.image.both(pixel_values)

    def text_levels(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L), twice → (B, text_levels_dim): means of two earlier layers."""
        return self.text.both(input_ids, attention_mask)[1]

    def encode_text_and_levels(
        self, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, L), twice → (B, text_dim), (B, text_levels_dim), in one pass."""
        return self.text.both(input_ids, attention_mask)

    def save_pretrained(self, directory: Path) -> None:
        """image/ and text/, each in its library's own format, and lit.json."""
        directory = Path(directory)
        for name, tower in ((IMAGE, self.image), (TEXT, self.text)):
            (directory / name).mkdir(parents=True, exist_ok=True)
            with quiet():
                tower.save(directory / name)
        about = {"format_version": FORMAT_VERSION, IMAGE: self.image.kind, TEXT: "transformers"}
        (directory / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    def upstream_transform(self, image: Image.Image) -> Tensor:
        """torchvision's or timm's own preprocessing of an RGB image → (3, S, S)."""
        return self.image.transform(image)

    def upstream_tokenizer(self, texts: list[str]) -> Tensor:
        """Transformers' own ids, (B, context_length)."""
        return self.text.tokenize(texts)

    def upstream_encode_image(self, images: list[Image.Image]) -> Tensor:
        """The image tower's library's own path, RGB images → (N, image_dim)."""
        return self.image.upstream(torch.stack([self.image.transform(image) for image in images]))

    def upstream_encode_text(self, texts: list[str]) -> Tensor:
        """Transformers' own path, one text at a time so that nothing is padded → (N, text_dim)."""
        return self.text.upstream(texts)


def load(model_id: str) -> LitBackbone:
    """`IMAGE+TEXT`, a directory that `save_pretrained` wrote, or `tiny`; raises BackboneError in
    one line.
    """
    with quiet():
        if model_id == TINY:
            return _tiny()
        if Path(model_id).expanduser().is_dir():
            return _saved(Path(model_id).expanduser(), model_id)
        image_name, text_name = split(model_id)
        return LitBackbone(image.load(image_name), text.load(text_name), model_id)


def split(model_id: str) -> tuple[str, str]:
    """`IMAGE+TEXT` → both. A name has no `+`, so a part with one must be a directory; that decides
    where several could be meant.
    """
    if "+" not in model_id:
        raise BackboneError(_no_pair(model_id))
    pieces = model_id.split("+")
    pairs = [("+".join(pieces[:cut]), "+".join(pieces[cut:])) for cut in range(1, len(pieces))]
    possible = [
        pair
        for pair in pairs
        if all(part and ("+" not in part or Path(part).expanduser().is_dir()) for part in pair)
    ]
    if len(possible) != 1:
        meanings = (
            f"can be read in {len(possible)} ways"
            if possible
            else "has an empty part, or a '+' in a part that is not a directory"
        )
        raise BackboneError(
            f"lit: '{model_id}' {meanings}; write IMAGE+TEXT, and give directories names"
            " without '+'"
        )
    return possible[0]


def _no_pair(model_id: str) -> str:
    if is_path(model_id):
        return f"lit: there is no directory '{model_id}'; give one that was saved, or IMAGE+TEXT"
    return (
        f"lit: '{model_id}' is no pair; write IMAGE+TEXT, as in efficientnet-lite0+minilm, or"
        " 'tiny', which needs no weights"
    )


def _saved(directory: Path, model_id: str) -> LitBackbone:
    about = read_json(directory / ABOUT)
    if about is None:
        raise BackboneError(
            f"lit: directory '{model_id}' has no {ABOUT}, so it holds no pair; write IMAGE+TEXT,"
            " each a name or a directory"
        )
    if about.get("format_version") != FORMAT_VERSION or about.get(IMAGE) not in image.KINDS:
        raise BackboneError(
            f"lit: {directory / ABOUT} is of another version or damaged; upgrade mismatch-lit, or"
            " save the pair again"
        )
    return LitBackbone(
        image.KINDS[about[IMAGE]](directory / IMAGE), text.load(str(directory / TEXT)), model_id
    )


def _tiny() -> LitBackbone:
    """A 99,000-weight image tower on 64 pixels and a 2-layer text tower that reads bytes; the same
    random weights every time.
    """
    with seeded():
        return LitBackbone(image.tiny(), text.tiny(), TINY)
