"""Two-tower models of transformers as a Backbone: what a model can do decides, not a list of its
kinds.
"""

from __future__ import annotations

import gzip
import inspect
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
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer

from mismatch.backbones.base import Backbone
from mismatch.backbones.hub import fetch_backbone, transformers_weights
from mismatch.backbones.model_folders import OWN_CODE, check_self_contained, no_code_of_models
from mismatch.errors import BackboneError, MismatchError, MissingExtraError
from mismatch.runtime.hub import Snapshot
from mismatch.specs import TextSpec
from mismatch_hf_clip.images import image_spec, pixels
from mismatch_hf_clip.texts import context_length, settle_padding, text_spec, upstream_ids

__all__ = ["HfClipBackbone", "load"]

TINY = "tiny"
CLIP_THRESHOLD = 0.25  # cosine, from which trained CLIP models call a pair a match
CLIP_VOCABULARY = 49408  # tokens
QUOTED = 200  # characters of an error of another library
_PARTS = {
    "AutoConfig": "config.json",
    "AutoModel": "the weights",
    "AutoImageProcessor": "preprocessor_config.json",
}
_TOKENIZERS = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("tokenizer.model",),
)
_OLD_END = 2
# kinds whose configurations may say _OLD_END and mean the highest id
_OLD_ENDS = ("clip", "clipseg", "groupvit")
_REFUSED = {  # kinds with both towers' methods that are no two towers, or take no square image
    "siglip2": (
        "a NaFlex model, which takes patches of any aspect ratio; take a checkpoint of fixed"
        " resolution, such as google/siglip2-base-patch16-224"
    ),
    "blip-2": "a language model that looks at images, not two towers",
}
# kinds whose features are projections of every token; their contrastive loss reads the first
_EVERY_TOKEN = ("flava",)


class HfClipBackbone(Backbone):
    """A two-tower model of transformers with its image processor and its tokenizer; raises
    BackboneError where they can't be told as specs.
    """

    def __init__(
        self,
        model: Any,
        image_processor: Any,
        tokenizer: Any,
        model_id: str,
        *,
        trained: bool = True,
    ) -> None:
        super().__init__()
        self.model = model
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self.model_id = model_id
        self._text_inputs = set(inspect.signature(model.get_text_features).parameters)
        self.eval()
        with _in_one_line("preprocessor_config.json", model_id):
            self.image_spec = image_spec(image_processor, model_id)
        with _in_one_line("the image tower", model_id):
            self.image_dim = self._try_image()
        with _in_one_line("the tokenizer or the text tower", model_id):
            self._try_text()
        self.shared_space = self.image_dim == self.text_dim
        self.logit_scale = _scale(model)
        self.logit_bias = _number(getattr(model, "logit_bias", None))
        self.zero_shot_threshold = self._threshold() if trained else None

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """Embed images: (B, 3, S, S) → (B, image_dim), not normalised."""
        return self._one(self.model.get_image_features(pixel_values), "image")

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed texts: (B, L), twice → (B, text_dim), not normalised; L ≤ context_length. The mask
        is left out where it changes nothing, or upstream passes none.
        """
        return self._text(input_ids, attention_mask if self._mask else None)

    def save_pretrained(self, directory: Path) -> None:
        """Write config.json, model.safetensors, preprocessor_config.json and the tokenizer's files,
        as transformers' Auto classes read them.
        """
        with _quiet():
            self.model.save_pretrained(directory)
            self.image_processor.save_pretrained(directory)
            self.tokenizer.save_pretrained(directory)

    def checkpoint_gradients(self) -> None:
        """Checkpoint layer by layer, as far as transformers offers it for this model."""
        # its newer name
        enable = getattr(
            self.model, "activation_checkpointing_enable", self.model.gradient_checkpointing_enable
        )
        try:
            enable({"use_reentrant": False})
        except ValueError:  # of models that can't
            super().checkpoint_gradients()

    def upstream_transform(self, image: Image.Image) -> Tensor:
        """Preprocess an RGB image as transformers itself does → (3, S, S)."""
        return torch.from_numpy(pixels(self.image_processor, image))

    def upstream_tokenizer(self, texts: list[str]) -> Tensor:
        """Return transformers' own ids, (B, context_length)."""
        return upstream_ids(self.tokenizer, texts, self.text_spec.context_length)["input_ids"]

    def upstream_encode_image(self, images: list[Image.Image]) -> Tensor:
        """Embed images by transformers' own processor and tower → (N, image_dim)."""
        inputs = self.image_processor(images, return_tensors="pt")["pixel_values"].to(self.device)
        return self._one(self.model.get_image_features(pixel_values=inputs), "image")

    def upstream_encode_text(self, texts: list[str]) -> Tensor:
        """Embed texts by transformers' own tokenizer and tower, given all that the tokenizer gives
        → (N, text_dim).
        """
        inputs = upstream_ids(self.tokenizer, texts, self.text_spec.context_length)
        known = {
            name: value.to(self.device)
            for name, value in inputs.items()
            if name in self._text_inputs
        }
        return self._one(self.model.get_text_features(**known), "text")

    def _text(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        if attention_mask is None:
            return self._one(self.model.get_text_features(input_ids), "text")
        return self._one(
            self.model.get_text_features(input_ids, attention_mask=attention_mask), "text"
        )

    def _one(self, features: Any, tower: str) -> Tensor:
        """Return the one vector, which is projected already, since transformers 5: as a tensor, or
        as what an output calls its pooler's.
        """
        vector = (
            features if isinstance(features, Tensor) else getattr(features, "pooler_output", None)
        )
        if (
            isinstance(vector, Tensor)
            and vector.ndim == 3
            and self.model.config.model_type in _EVERY_TOKEN
        ):
            vector = vector[:, 0]  # (B, D)
        if not isinstance(vector, Tensor) or vector.ndim != 2:
            shape = "none" if vector is None else f"an embedding of shape {tuple(vector.shape)}"
            raise BackboneError(
                f"hf-clip: '{self.model_id}' gives {shape} where one vector per {tower} belongs; it"
                " is no two-tower model"
            )
        return vector

    def _try_image(self) -> int:
        """Return the width of an image embedding; BackboneError for a tower of another size."""
        size = self.image_spec.size
        try:
            with torch.no_grad():
                return self.encode_image(torch.zeros(1, 3, size, size)).shape[1]
        except (ValueError, RuntimeError) as error:  # the towers' own words for another size
            takes = getattr(getattr(self.model.config, "vision_config", None), "image_size", None)
            tower = (
                f"its image tower takes {takes}" if takes else "its image tower takes another size"
            )
            reason = (
                f"'{self.model_id}' crops to {size} pixels, but {tower} ({_first_line(error)});"
                " edit its preprocessor_config.json"
            )
            raise BackboneError(f"hf-clip: {reason}") from error

    def _try_text(self) -> None:
        masks = (
            "attention_mask" in self.tokenizer.model_input_names
            and "attention_mask" in self._text_inputs
        )
        with torch.no_grad():
            length = context_length(
                self.model.config.text_config, self.tokenizer, self._text, self.model_id
            )
            spec = text_spec(self.tokenizer, length, self.model_id)
            self.text_spec, self._mask, self.text_dim = settle_padding(
                spec, self._text, masks=masks
            )
            if self._mask and self.text_spec.padding == "context":
                self._settle_eagerly(spec)

    def _settle_eagerly(self, spec: TextSpec) -> None:
        """Settle padding by eager attention too. AIMv2's text tower is causal by its mask alone,
        and sdpa skips a mask of ones, as a text at its own length has; eager attention doesn't.
        """
        before = self.model.config.text_config._attn_implementation
        self.model.set_attn_implementation({"text_config": "eager"})
        eager, _, _ = settle_padding(spec, self._text, masks=True)
        if eager.padding == "longest":
            self.text_spec = eager
        else:
            self.model.set_attn_implementation({"text_config": before})

    def _threshold(self) -> float | None:
        """Return the cosine from which a pair is a match: where a sigmoid of scale and bias says
        0.5; by experience for CLIP; else unknown.
        """
        if self.logit_bias is not None and self.logit_scale:
            return 0.0 - self.logit_bias / self.logit_scale
        return CLIP_THRESHOLD if self.model.config.model_type == "clip" else None


def _scale(model: Any) -> float | None:
    """Return what the model multiplies its cosine with: exp(logit_scale), or 1 / temperature; None
    where it has neither.
    """
    scale = _number(getattr(model, "logit_scale", None))
    temperature = _number(getattr(model, "temperature", None))
    if scale is not None:
        limit = float(getattr(model, "max_log_logit_scale", scale))  # AIMv2 clamps
        return float(torch.tensor(min(scale, limit)).exp())
    return 1 / temperature if temperature else None


def _number(parameter: Any) -> float | None:
    return (
        float(parameter.detach())
        if isinstance(parameter, Tensor) and parameter.numel() == 1
        else None
    )


def load(model_id: str) -> HfClipBackbone:
    """Load a hub id, `NAME` or `NAME@REVISION`, a local directory, or `tiny`; BackboneError in one
    line.
    """
    with _quiet(), no_code_of_models():
        return _tiny() if model_id == TINY else _pretrained(model_id)


def _pretrained(model_id: str) -> HfClipBackbone:
    directory = Path(model_id).expanduser()
    if model_id.startswith((".", "/", "~")) and not directory.is_dir():  # no hub id looks so
        raise BackboneError(
            f"hf-clip: there is no directory '{model_id}'; give one that a model and its processor"
            " were saved to, a hub id, or 'tiny'"
        )
    if directory.is_dir():
        check_self_contained(directory, "hf-clip")
        return _from_folder(str(directory), model_id)
    snapshot = _on_hub(model_id)
    backbone = _from_folder(str(snapshot.folder), model_id)
    backbone.commit = snapshot.commit
    return backbone


def _from_folder(source: str, model_id: str) -> HfClipBackbone:
    """Load a folder, of the user's or of the hub's cache; `model_id`: what the user asked for."""
    config = _from(transformers.AutoConfig, source, model_id)
    _check_kind(config, model_id)
    model, report = _from(
        transformers.AutoModel, source, model_id, dtype=torch.float32, output_loading_info=True
    )
    if missing := sorted(report["missing_keys"]):
        kind = type(model).__name__
        raise BackboneError(
            f"hf-clip: the weights in '{model_id}' lack {len(missing)} tensors ({missing[0]}, …);"
            f" it is not a whole {kind}"
        )
    processor = _from(transformers.AutoImageProcessor, source, model_id)
    with _in_one_line("config.json or the tokenizer", model_id):
        vocabulary = int(config.text_config.vocab_size)
        tokenizer = _tokenizer(source, config, vocabulary, model_id)
        _check_tokenizer(tokenizer, vocabulary, model_id)
        _check_end(tokenizer, model, model_id)
    return HfClipBackbone(model, processor, tokenizer, model_id)


def _on_hub(model_id: str) -> Snapshot:
    """Download what transformers would read, where the hub's cache lacks it."""
    try:
        return fetch_backbone(model_id, model_id, "hf-clip", transformers_weights)
    except BackboneError as error:
        raise BackboneError(
            f"{error}; or give a local directory that a model and its processor were saved to, or"
            " 'tiny', which needs no network"
        ) from error


def _from(kind: Any, source: str, model_id: str, **options: Any) -> Any:
    """Call `kind.from_pretrained`, its many ways to fail in one line."""
    try:
        return kind.from_pretrained(source, trust_remote_code=False, **options)
    except Exception as error:
        raise BackboneError(_explain(model_id, kind.__name__, error)) from error


def _explain(model_id: str, part: str, error: Exception) -> str:
    name = _PARTS.get(part, "the tokenizer")
    return (
        f"hf-clip: '{model_id}' is not a whole directory of a transformers model: {name} can't"
        f" be read from it ({_first_line(error)})"
    )


@contextmanager
def _in_one_line(part: str, model_id: str) -> Iterator[None]:
    """Raise in one line whatever a part of the wrong type or value makes transformers, numpy or
    torch raise: files hold anything.
    """
    try:
        yield
    except MismatchError:
        raise
    except Exception as error:
        reason = (
            f"{part} of '{model_id}' can't be used ({type(error).__name__}: {_first_line(error)})"
        )
        raise BackboneError(
            f"hf-clip: {reason}; take those of the model it was made from"
        ) from error


def _first_line(error: BaseException) -> str:
    if "ignore_mismatched_sizes" in str(error):  # transformers tells the shapes to its log only
        return "its tensors have other shapes than config.json says"
    if "trust_remote_code" in str(error):
        return OWN_CODE
    # torch's own words say how to run what a file holds
    if "weights_only" in str(error) or isinstance(error, EOFError):
        return "it is damaged or holds more than tensors, so nothing of it was run"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[0].rstrip(".:") if lines else type(error).__name__
    return line if len(line) <= QUOTED else line[:QUOTED] + "…"


def _check_kind(config: Any, model_id: str) -> None:
    """Refuse, before the weights are read, a class without both towers: BackboneError."""
    try:
        kind = transformers.MODEL_MAPPING.get(type(config), None)
        towers = all(
            hasattr(kind, name) for name in ("get_image_features", "get_text_features")
        ) and hasattr(config, "text_config")
    # a class of transformers whose package is missing raises when it is touched
    except ImportError as error:
        reason = (
            f"a '{config.model_type}' model, which needs another package ({_first_line(error)})"
        )
        raise BackboneError(f"hf-clip: '{model_id}' holds {reason}; install it") from error
    if config.model_type in _REFUSED or not towers:
        reason = _REFUSED.get(
            config.model_type,
            "which has no image tower and text tower that transformers' AutoModel loads together",
        )
        raise BackboneError(f"hf-clip: '{model_id}' holds a '{config.model_type}' model, {reason}")


def _tokenizer(source: str, config: Any, vocabulary: int, model_id: str) -> Any:
    """Return the model's own tokenizer; CLIP's where a directory has weights of CLIP's vocabulary
    and no tokenizer, as older pipelines saved it.
    """
    if not any(all((Path(source) / name).is_file() for name in names) for names in _TOKENIZERS):
        if config.model_type == "clip" and vocabulary == CLIP_VOCABULARY:
            return _clip_tokenizer()
        raise BackboneError(
            f"hf-clip: '{model_id}' has no tokenizer.json, and its {vocabulary:,} tokens are not"
            " CLIP's; save its tokenizer there too"
        )
    try:
        tokenizer = _from(transformers.AutoTokenizer, source, model_id)
        return (
            _siglip2_tokenizer(tokenizer, source, model_id)
            if config.model_type == "siglip"
            else tokenizer
        )
    except BackboneError as error:
        if not isinstance(error.__cause__, ImportError):
            raise
        return _fast_tokenizer(source, model_id, error)


def _siglip2_tokenizer(tokenizer: Any, source: str, model_id: str) -> Any:
    """Return SigLIP 2's own tokenizer where one of fixed resolution names Gemma's, which keeps
    capitals. It was trained on lower case, padded on the right.
    """
    if not type(tokenizer).__name__.startswith("Gemma"):
        return tokenizer
    side = tokenizer.init_kwargs.get("padding_side", "right")  # the class alone says left
    return _from(Siglip2Tokenizer, source, model_id, padding_side=side)


def _fast_tokenizer(source: str, model_id: str, reason: BackboneError) -> Any:
    """Return the tokenizer of the directory's tokenizer.json, where its own class (SiglipTokenizer)
    needs a package that is not installed.
    """
    try:
        return transformers.PreTrainedTokenizerFast.from_pretrained(source)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the package is what is missing
        name = f"a tokenizer that needs another package ({_first_line(reason.__cause__ or reason)})"
        raise BackboneError(
            f"hf-clip: '{model_id}' has {name}; pip install sentencepiece protobuf"
        ) from reason


def _check_tokenizer(tokenizer: Any, vocabulary: int, model_id: str) -> None:
    if tokenizer.pad_token_id is None:
        raise BackboneError(
            f"hf-clip: '{model_id}' has a tokenizer without a padding token, which is not"
            " supported; set its pad_token and save it again"
        )
    # transformers makes an empty one up where files are missing
    if not vocabulary / 2 < len(tokenizer) <= vocabulary:
        sizes = f"a tokenizer of {len(tokenizer):,} tokens, but its text tower knows {vocabulary:,}"
        raise BackboneError(
            f"hf-clip: '{model_id}' has {sizes}; save the tokenizer that it was trained with there"
        )


def _check_end(tokenizer: Any, model: Any, model_id: str) -> None:
    """Check the end token, at which CLIP's text tower and similar ones read the embedding.
    Configurations of the old kinds that say 2 mean the highest id.
    """
    end = getattr(getattr(model, "text_model", None), "eos_token_id", None)
    if end is None:
        return
    expected = (
        len(tokenizer) - 1 if end == _OLD_END and model.config.model_type in _OLD_ENDS else end
    )
    if tokenizer.eos_token_id != expected:
        ends = (
            f"a tokenizer with end token {tokenizer.eos_token_id}, but its text tower reads"
            f" {expected}"
        )
        raise BackboneError(
            f"hf-clip: '{model_id}' has {ends}; save the tokenizer that it was trained with there"
        )


def _tiny() -> HfClipBackbone:
    """Make a 4-layer image and a 2-layer text tower, 128 wide, on 64 pixels; the same random
    weights every time.
    """
    shape = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_attention_heads": 4,
        "projection_dim": 128,
    }
    config = transformers.CLIPConfig(
        text_config=shape | {"num_hidden_layers": 2},
        vision_config=shape | {"num_hidden_layers": 4, "image_size": 64, "patch_size": 16},
        projection_dim=128,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torch.manual_seed would reseed the GPUs too
        model = transformers.CLIPModel(config)
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
    )
    return HfClipBackbone(model, processor, _clip_tokenizer(), TINY, trained=False)


def _clip_tokenizer() -> Any:
    """Return CLIP's tokenizer from the vocabulary file that open_clip ships (installed with
    [train]; not imported).
    """
    package = find_spec("open_clip")
    if package is None or package.origin is None:
        raise MissingExtraError("hf-clip:tiny, for CLIP's vocabulary,", "train")
    lines = (
        gzip.decompress(Path(package.origin).with_name("bpe_simple_vocab_16e6.txt.gz").read_bytes())
        .decode()
        .split("\n")
    )
    merges = [(left, right) for left, right in (line.split() for line in lines[1:48895])]
    letters = sorted(ByteLevel.alphabet())
    tokens = [
        *letters,
        *(letter + "</w>" for letter in letters),
        *map("".join, merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return transformers.CLIPTokenizer(
        {token: number for number, token in enumerate(tokens)}, merges, model_max_length=77
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers until the block ends: it says in many lines what one line of ours says.
    Its settings are put back after.
    """
    log = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    hub = huggingface_hub.logging.get_verbosity()
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
