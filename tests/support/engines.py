"""An engine in numpy whose scores a test can compute in its head, and its words and colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, Whitespace
from tokenizers.processors import TemplateProcessing

from mismatch.specs import ImageSpec, ScoreSpec, TextSpec

__all__ = ["COLOURS", "WORDS", "ColourEngine", "bytes_spec", "draw_colours", "word_tokenizer"]

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "red", "green", "blue", "grey", "shirt", "shoe", "bag"]
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def word_tokenizer() -> str:
    """Return the text of a tokenizer.json that knows `WORDS`."""
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return str(tokenizer.to_str())


def bytes_spec(context_length: int) -> TextSpec:
    """Return the spec of a tokenizer whose tokens are bytes, white space included."""
    tokenizer = Tokenizer(BPE({char: i for i, char in enumerate(sorted(ByteLevel.alphabet()))}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return TextSpec(context_length, pad_id=0, padding="longest", tokenizer_json=tokenizer.to_str())


class ColourEngine:
    """A real, exact engine in numpy: an image is its mean colour, a text the colours that it names,
    the logit their negative distance.
    """

    independent = False

    def __init__(self, padding: Any = "longest", score: ScoreSpec | None = None) -> None:
        self.name = "numpy cpu"
        self.image_spec = ImageSpec(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self.text_spec = TextSpec(
            context_length=6, pad_id=0, padding=padding, tokenizer_json=word_tokenizer()
        )
        self.score = score or ScoreSpec("probability", 0.5)
        self.image_dim = self.text_dim = self.image_width = self.text_width = 3
        self.length_step = 1
        self.fingerprint = "c0ffee" * 8
        self.image_batches: list[int] = []  # sizes, in order of the calls
        self.text_shapes: list[tuple[int, int]] = []

    def encode_images(self, pixel_values: Any) -> Any:
        self.image_batches.append(len(pixel_values))
        return pixel_values.mean(axis=(2, 3))  # (B, 3)

    def encode_texts(self, input_ids: Any, attention_mask: Any) -> Any:
        self.text_shapes.append(input_ids.shape)
        return np.stack(
            [(input_ids == WORDS.index(word)).any(axis=1) for word in ("red", "green", "blue")],
            axis=1,
        ).astype(np.float32)

    def logits(self, image_embeddings: Any, text_embeddings: Any) -> Any:
        return 1.0 - 2.0 * np.abs(image_embeddings - text_embeddings).sum(axis=1)

    def describe(self) -> dict[str, Any]:
        return {"engine": self.name}


def draw_colours(folder: Path) -> Path:
    """Write red.png, green.png, blue.png, a whole.jpg, a truncated cut.jpg, and lie.jpg, which is
    text; return the folder.
    """
    for name, colour in COLOURS.items():
        Image.new("RGB", (20, 12), colour).save(folder / f"{name}.png")
    Image.effect_noise((64, 64), 80).convert("RGB").save(folder / "whole.jpg", quality=95)
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:900])
    (folder / "lie.jpg").write_text("not an image")
    return folder
