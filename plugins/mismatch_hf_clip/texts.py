"""From transformers' tokenizer and text tower to a TextSpec: ids proved against the tokenizer's
own, padding and mask found by trying.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from tokenizers import Tokenizer as FastTokenizer
from torch import Tensor

from mismatch.errors import BackboneError
from mismatch.runtime.tokenize import Tokenizer
from mismatch.specs import TextSpec
from mismatch_hf_clip.spiece import backends

__all__ = ["context_length", "settle_padding", "text_spec", "upstream_ids"]

EncodeText = Callable[[Tensor, Tensor | None], Tensor]  # (B, L), and a mask (B, L) or None → (B, D)

# of an embedding's length: what rounding alone may change, where large activations cancel
SAME = 1e-4
LONGEST = 8192  # tokens, beyond which a limit means that there is none
USUAL = 512  # tokens, where neither the model nor its tokenizer names a limit
PADDED = 6  # tokens, that the longest text is padded by to see what padding changes
TEXTS = ("dog", "A red leather handbag, with gold hardware")
ODD_TEXTS = (
    *TEXTS,
    "SIZE 42: 3.14 (a_b) [c]  &amp; d's!",
    "café\u0301 naïve\nStraße İΣΑΣ",
    "红色皮革手提包，金色五金",
    "👍 a 👩‍👩‍👧 b",
    "  ",
    # no period, so that each way to truncate shows
    " ".join(f"word{number}" for number in range(400)),
)


def text_spec(tokenizer: Any, length: int, model_id: str) -> TextSpec:
    """Return the tokenizer as data, with `padding="context"` until the tower has been tried.
    BackboneError where our ids differ from its own.
    """
    for setting, does in (("padding_side", "pads"), ("truncation_side", "truncates")):
        if (side := getattr(tokenizer, setting)) != "right":
            wrong = f"a tokenizer that {does} on the {side}, which is not supported"
            raise BackboneError(
                f"hf-clip: '{model_id}' has {wrong}; set {setting} to right and save it again"
            )
    theirs = upstream_ids(tokenizer, list(ODD_TEXTS), length)["input_ids"]
    wrong = ""
    for backend in backends(tokenizer):
        spec = TextSpec(
            context_length=length,
            pad_id=int(tokenizer.pad_token_id),
            padding="context",
            tokenizer_json=_plain(backend),
        )
        unlike = (
            (torch.from_numpy(Tokenizer(spec)(ODD_TEXTS).input_ids) != theirs).any(dim=1).tolist()
        )
        if not any(unlike):
            return spec
        wrong = repr(ODD_TEXTS[unlike.index(True)][:30])
    if not wrong:
        raise BackboneError(
            f"hf-clip: '{model_id}' has a tokenizer without tokenizer.json, which is not supported"
        )
    name = f"a {type(tokenizer).__name__} whose ids no tokenizer.json gives"
    raise BackboneError(
        f"hf-clip: '{model_id}' has {name}, first for {wrong}; save a tokenizer.json of its own"
        " next to it"
    )


def upstream_ids(tokenizer: Any, texts: list[str], length: int) -> dict[str, Tensor]:
    """Return what the tokenizer itself gives the tower: `input_ids` and whatever goes with them,
    each (B, L).
    """
    encoded = tokenizer(
        texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
    )
    return dict(encoded)


def _plain(backend: FastTokenizer) -> str:
    """Return it as JSON, without the truncation and padding of the last call; transformers sets
    both again at each call.
    """
    backend.no_truncation()
    backend.no_padding()
    return str(backend.to_str())


def context_length(config: Any, tokenizer: Any, encode: EncodeText, model_id: str) -> int:
    """Return how many tokens the tower takes: the smaller of its own limit and the tokenizer's,
    less what RoBERTa's positions keep for padding.
    """
    limits = [getattr(config, "max_position_embeddings", None), tokenizer.model_max_length]
    length = min((int(limit) for limit in limits if limit and 2 < limit <= LONGEST), default=USUAL)
    for tried in (length, length - int(getattr(config, "pad_token_id", None) or 0) - 1):
        if _takes(encode, tried, tokenizer):
            return tried
    raise BackboneError(
        f"hf-clip: the text tower of '{model_id}' takes no text of {length} tokens, which its"
        " configuration names as its limit"
    )


def _takes(encode: EncodeText, length: int, tokenizer: Any) -> bool:
    token = next(
        number for number in range(len(tokenizer)) if number not in tokenizer.all_special_ids
    )
    try:
        encode(torch.full((1, length), token), None)
    except (IndexError, RuntimeError, ValueError):
        return False
    return True


def settle_padding(
    spec: TextSpec, encode: EncodeText, *, masks: bool
) -> tuple[TextSpec, bool, int]:
    """Return (spec, mask, width): whether a shorter text has the same embedding, whether the tower
    needs a mask, and the embedding's width.

    `masks`: upstream hands one over. A causal tower that reads its end token needs none; SigLIP's
    reads the last position, so that each text has to have every one. Tried at the texts' own
    lengths and a few tokens more, as a real tower's time grows with them.
    """
    tokenizer = Tokenizer(spec)  # parsed once for all that is tried
    ids, _ = tokenizer.encode(TEXTS)
    length = min(spec.context_length, max(map(len, ids)) + PADDED)
    padded = _encode(encode, ids, length, spec.pad_id, mask=False)
    mask = False
    if masks:
        masked = _encode(encode, ids, length, spec.pad_id, mask=True)
        mask = not _same(masked, padded)
        padded = masked if mask else padded
    alone = torch.cat([_encode(encode, [row], len(row), spec.pad_id, mask=mask) for row in ids])
    return (
        replace(spec, padding="longest" if _same(alone, padded) else "context"),
        mask,
        padded.shape[1],
    )


def _encode(
    encode: EncodeText, ids: list[list[int]], length: int, pad_id: int, *, mask: bool
) -> Tensor:
    """Embed texts of any lengths ≤ `length`, padded to it → (B, D)."""
    batch = torch.tensor([row + [pad_id] * (length - len(row)) for row in ids])  # (B, L)
    lengths = torch.tensor([len(row) for row in ids])
    return encode(batch, (torch.arange(length) < lengths[:, None]).long() if mask else None)


def _same(ours: Tensor, theirs: Tensor) -> bool:
    return bool(((ours - theirs).norm(dim=1) <= SAME * theirs.norm(dim=1)).all())
