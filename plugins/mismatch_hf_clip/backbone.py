"""CLIPModel of transformers as a Backbone."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor

from mismatch.backbones.base import Backbone
from mismatch.errors import BackboneError, MissingExtraError
from mismatch.specs import ImageSpec, Interpolation, ResizeMode, TextSpec

__all__ = ["HfClipBackbone", "load"]

TINY = "tiny"
CLIP_THRESHOLD = 0.25  # cosine, from which trained CLIP models call a pair a match
CLIP_VOCABULARY = 49408  # tokens
HUB_TIMEOUT = 10  # seconds until a silent hub counts as unreachable
_PARTS = {"AutoConfig": "config.json", "CLIPModel": "the weights", "CLIPImageProcessor": "preprocessor_config.json", "AutoTokenizer": "the tokenizer"}
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))  # either is enough
_OLD_END = 2
_INTERPOLATIONS: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # by Pillow's number


class HfClipBackbone(Backbone):
    """A transformers CLIPModel with its image processor and its tokenizer."""

    shared_space = True
    logit_bias = None

    def __init__(self, model: Any, image_processor: Any, tokenizer: Any, model_id: str, *, trained: bool = True) -> None:
        super().__init__()
        self.model = model
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self.model_id = model_id
        self.image_dim = self.text_dim = int(model.config.projection_dim)
        self.logit_scale = float(model.logit_scale.detach().exp())
        self.zero_shot_threshold = CLIP_THRESHOLD if trained else None
        self.image_spec = _image_spec(image_processor, int(model.config.vision_config.image_size), model_id)
        self.text_spec = _text_spec(tokenizer, int(model.config.text_config.max_position_embeddings))
        self.eval()

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) → (B, image_dim), not normalised."""
        features: Tensor = self.model.get_image_features(pixel_values).pooler_output  # projected already, since transformers 5
        return features

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L), twice → (B, text_dim), not normalised; L ≤ context_length. Padding follows the end token, which a causal tower reads first: no mask."""
        features: Tensor = self.model.get_text_features(input_ids).pooler_output
        return features

    def save_pretrained(self, directory: Path) -> None:
        """config.json, model.safetensors, preprocessor_config.json and the tokenizer's files, as CLIPModel and CLIPProcessor read them."""
        with _quiet():
            self.model.save_pretrained(directory)
            self.image_processor.save_pretrained(directory)
            self.tokenizer.save_pretrained(directory)

    def upstream_transform(self, image: Image.Image) -> Tensor:
        """Transformers' own preprocessing of an RGB image → (3, S, S)."""
        pixels: Tensor = self.image_processor(image, return_tensors="pt")["pixel_values"][0]
        return pixels

    def upstream_tokenizer(self, texts: list[str]) -> Tensor:
        """Transformers' own ids, (B, context_length)."""
        length = self.text_spec.context_length
        ids: Tensor = self.tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")["input_ids"]
        return ids


def load(model_id: str) -> HfClipBackbone:
    """A hub id, a local directory, or `tiny`; raises BackboneError in one line."""
    with _quiet():
        return _tiny() if model_id == TINY else _pretrained(model_id)


def _pretrained(model_id: str) -> HfClipBackbone:
    directory = Path(model_id).expanduser()
    if model_id.startswith((".", "/", "~")) and not directory.is_dir():  # no hub id looks so
        raise BackboneError(f"hf-clip: there is no directory '{model_id}'; give one that CLIPModel and CLIPProcessor were saved to, a hub id, or 'tiny'")
    source = str(directory) if directory.is_dir() else _on_hub(model_id)
    _check_config(_from(transformers.AutoConfig, source, model_id), model_id)
    model, report = _from(transformers.CLIPModel, source, model_id, dtype=torch.float32, output_loading_info=True)
    if missing := sorted(report["missing_keys"]):
        raise BackboneError(f"hf-clip: the weights in '{model_id}' lack {len(missing)} tensors ({missing[0]}, …); it is not a whole CLIPModel")
    processor = _from(transformers.CLIPImageProcessor, source, model_id)
    vocabulary = int(model.config.text_config.vocab_size)
    tokenizer = _tokenizer(source, vocabulary, model_id)
    _check_tokenizer(tokenizer, vocabulary, model_id)
    _check_end(tokenizer, int(model.config.text_config.eos_token_id), model_id)
    return HfClipBackbone(model, processor, tokenizer, model_id)


def _on_hub(model_id: str) -> str:
    """Raise at once where the hub can't be reached; transformers would try six times, for 23 seconds."""
    try:
        if not isinstance(huggingface_hub.try_to_load_from_cache(model_id, "config.json"), str):
            huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(model_id, "config.json"), timeout=HUB_TIMEOUT)
    except Exception as error:
        raise BackboneError(_explain(model_id, model_id, "AutoConfig", error)) from error
    return model_id


def _from(kind: Any, source: str, model_id: str, **options: Any) -> Any:
    """`kind.from_pretrained`, its many ways to fail in one line."""
    try:
        return kind.from_pretrained(source, trust_remote_code=False, **options)
    except Exception as error:
        raise BackboneError(_explain(source, model_id, kind.__name__, error)) from error


def _explain(source: str, model_id: str, part: str, error: Exception) -> str:
    if Path(source).is_dir():
        return f"hf-clip: '{model_id}' is not a whole transformers CLIPModel directory: {_PARTS[part]} can't be read from it ({_first_line(error)})"
    return (
        f"hf-clip: '{model_id}' is neither a local directory nor to be had from the model hub ({_first_line(error)}); "
        "give a directory that CLIPModel and CLIPProcessor were saved to, or 'tiny', which needs no network"
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__


def _check_config(config: Any, model_id: str) -> None:
    if not isinstance(config, transformers.CLIPConfig):
        raise BackboneError(f"hf-clip: '{model_id}' holds a '{config.model_type}' model; this family takes CLIPModel ('clip') only")


def _tokenizer(source: str, vocabulary: int, model_id: str) -> Any:
    """The model's own tokenizer; CLIP's where a directory has weights of CLIP's vocabulary and no tokenizer, as older pipelines saved it."""
    if Path(source).is_dir() and not any(all((Path(source) / name).is_file() for name in names) for names in _TOKENIZERS):
        if vocabulary == CLIP_VOCABULARY:
            return _clip_tokenizer()
        raise BackboneError(f"hf-clip: '{model_id}' has no tokenizer.json, and its {vocabulary:,} tokens are not CLIP's; save its tokenizer there too")
    return _from(transformers.AutoTokenizer, source, model_id)


def _check_tokenizer(tokenizer: Any, vocabulary: int, model_id: str) -> None:
    if getattr(tokenizer, "backend_tokenizer", None) is None or tokenizer.pad_token_id is None:
        raise BackboneError(f"hf-clip: '{model_id}' has a tokenizer without tokenizer.json or without a padding token, which is not supported")
    if not vocabulary / 2 < len(tokenizer) <= vocabulary:  # transformers makes an empty one up where files are missing
        sizes = f"a tokenizer of {len(tokenizer):,} tokens, but its text tower knows {vocabulary:,}"
        raise BackboneError(f"hf-clip: '{model_id}' has {sizes}; save the tokenizer that it was trained with there")


def _check_end(tokenizer: Any, end: int, model_id: str) -> None:
    """The text tower reads the embedding at its end token; configurations that say 2 are old, and mean the highest id."""
    expected = len(tokenizer) - 1 if end == _OLD_END else end
    if tokenizer.eos_token_id != expected:
        ends = f"a tokenizer with end token {tokenizer.eos_token_id}, but its text tower reads {expected}"
        raise BackboneError(f"hf-clip: '{model_id}' has {ends}; save the tokenizer that it was trained with there")


def _image_spec(processor: Any, tower_size: int, model_id: str) -> ImageSpec:
    """What the model's own preprocessor_config.json says."""
    for switch in ("do_resize", "do_rescale", "do_normalize"):
        if not getattr(processor, switch):
            raise BackboneError(f"hf-clip: '{model_id}' is preprocessed with {switch}=false, which is not supported; edit its preprocessor_config.json")
    if abs(processor.rescale_factor * 255 - 1) > 1e-6 or int(processor.resample) not in _INTERPOLATIONS:
        factor = f"rescale_factor={processor.rescale_factor}, resample={processor.resample}"
        raise BackboneError(f"hf-clip: '{model_id}' is preprocessed with {factor}; 1/255 and nearest, bilinear, bicubic or lanczos are supported")
    size, resize, mode = _sizes(processor, model_id)
    if size != tower_size:
        raise BackboneError(f"hf-clip: '{model_id}' crops to {size} pixels, but its image tower takes {tower_size}; edit its preprocessor_config.json")
    return ImageSpec(
        size=size,
        resize=resize,
        mode=mode,
        mean=_three(processor.image_mean),
        std=_three(processor.image_std),
        crop_rounding="floor",
        interpolation=_INTERPOLATIONS[int(processor.resample)],
    )


def _sizes(processor: Any, model_id: str) -> tuple[int, int, ResizeMode]:
    """(size, resize, mode): a square crop of the resized shorter side, or both sides squashed."""
    size, crop = dict(processor.size), dict(processor.crop_size or {}) if processor.do_center_crop else {}
    shortest, height, width = size.get("shortest_edge"), size.get("height"), size.get("width")
    if height and height == width and (not crop or crop.get("height") == crop.get("width") == height):
        return int(height), int(height), "squash"
    if shortest and not size.get("longest_edge") and crop and crop["height"] == crop["width"] <= shortest:
        return int(crop["height"]), int(shortest), "shortest"
    raise BackboneError(f"hf-clip: '{model_id}' resizes to {size} and crops to {crop or 'nothing'}; only a square that the resized image covers is supported")


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in ([values] * 3 if isinstance(values, int | float) else values))
    return red, green, blue


def _text_spec(tokenizer: Any, context_length: int) -> TextSpec:
    """CLIP's text tower is causal and reads the first end token, so what stands after it changes nothing."""
    return TextSpec(
        context_length=context_length,
        pad_id=int(tokenizer.pad_token_id),
        padding="longest",
        tokenizer_json=_plain(tokenizer).to_str(),
    )


def _plain(tokenizer: Any) -> Tokenizer:
    """A copy without the truncation and padding of the last call."""
    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.no_truncation()
    plain.no_padding()
    return plain


def _tiny() -> HfClipBackbone:
    """4-layer image and 2-layer text tower, 128 wide, on 64 pixels; the same random weights every time."""
    shape = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "projection_dim": 128}
    config = transformers.CLIPConfig(
        text_config=shape | {"num_hidden_layers": 2},
        vision_config=shape | {"num_hidden_layers": 4, "image_size": 64, "patch_size": 16},
        projection_dim=128,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torch.manual_seed would reseed the GPUs too
        model = transformers.CLIPModel(config)
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    return HfClipBackbone(model, processor, _clip_tokenizer(), TINY, trained=False)


def _clip_tokenizer() -> Any:
    """CLIP's tokenizer from the vocabulary file that open_clip ships (installed with [train]; not imported)."""
    package = find_spec("open_clip")
    if package is None or package.origin is None:
        raise MissingExtraError("hf-clip:tiny, for CLIP's vocabulary,", "train")
    lines = gzip.decompress(Path(package.origin).with_name("bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode().split("\n")
    merges = [(left, right) for left, right in (line.split() for line in lines[1:48895])]
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer({token: number for number, token in enumerate(tokens)}, merges, model_max_length=77)


@contextmanager
def _quiet() -> Iterator[None]:
    """Transformers says in many lines what one line of ours says; its settings are put back after."""
    log, bars, hub = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled(), huggingface_hub.logging.get_verbosity()
    transformers.logging.set_verbosity(logging.CRITICAL)
    huggingface_hub.logging.set_verbosity(logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(log)
        huggingface_hub.logging.set_verbosity(hub)
        if bars:
            transformers.logging.enable_progress_bar()
