"""SentencePiece tokenizers of transformers, which run in Python, as a tokenizer.json: SigLIP's, the
only two-tower kind that has one.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import Any

import transformers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers
from tokenizers.processors import TemplateProcessing

__all__ = ["backends"]

SPACE = "▁"
# Python's \s; the regular expressions of tokenizers leave the separators out
_WHITE = r"[\s\x1c-\x1f]+"


def backends(tokenizer: Any) -> Iterator[Tokenizer]:
    """Yield what may give the tokenizer's ids, the likeliest first: its own backend, the
    tokenizer.json next to a slow one, its SentencePiece model converted.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        yield backend
        return
    fast = _fast_backend(tokenizer)
    if fast is not None:
        yield fast
    if hasattr(tokenizer, "canonicalize_text"):
        yield _siglip(tokenizer)


def _fast_backend(tokenizer: Any) -> Tokenizer | None:
    """Return the tokenizer.json's next to a slow tokenizer."""
    try:
        fast = transformers.PreTrainedTokenizerFast.from_pretrained(tokenizer.name_or_path)
    except Exception:  # noqa: BLE001 - none there, or one that can't be read
        return None
    return fast.backend_tokenizer  # type: ignore[no-any-return]


def _siglip(tokenizer: Any) -> Tokenizer:
    """Return what does to a text what SiglipTokenizer does, in its order. Two corners differ: an
    empty text, which is never embedded, and what follows a literal </s>.
    """
    from transformers.convert_slow_tokenizer import import_protobuf

    proto = import_protobuf().ModelProto.FromString(tokenizer.sp_model.serialized_model_proto())
    converted = Tokenizer(
        models.Unigram(
            [(piece.piece, piece.score) for piece in proto.pieces], unk_id=proto.trainer_spec.unk_id
        )
    )
    converted.normalizer = normalizers.Sequence(
        list(_canonicalize(tokenizer.do_lower_case))
        + list(_normalize(proto.normalizer_spec.precompiled_charsmap))
    )
    specials = [
        AddedToken(token, lstrip=True, rstrip=True, normalized=False, special=True)
        for token in tokenizer.all_special_tokens
    ]
    converted.add_special_tokens(specials)
    end = tokenizer.eos_token
    converted.post_processor = TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    return converted


def _canonicalize(lower: bool) -> Iterator[Any]:
    yield from (normalizers.Replace(SPACE, " "), normalizers.Prepend(SPACE))
    if lower:
        # Python's lower() knows the end of a word
        yield normalizers.Replace(Regex(r"(?<=\p{L})Σ(?!\p{L})"), "ς")
        yield normalizers.Lowercase()
    yield from (
        normalizers.Replace(Regex(f"[{re.escape(string.punctuation)}]"), ""),
        normalizers.Replace(Regex(_WHITE), " "),
    )
    yield normalizers.Strip(left=True, right=True)


def _normalize(charsmap: bytes) -> Iterator[Any]:
    if charsmap:
        yield normalizers.Precompiled(charsmap)
    yield from (
        normalizers.Replace(Regex(r" +\z"), ""),
        normalizers.Replace(Regex(" {2,}"), " "),
        normalizers.Replace(" ", SPACE),
    )
