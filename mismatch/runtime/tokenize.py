"""Texts become input_ids: the only place where that happens, in training and in production."""

from __future__ import annotations

import html
import re
import string
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import NamedTuple, TypeVar

import ftfy
import numpy as np
import tokenizers
from numpy.typing import NDArray

from mismatch.data.audit.writing_systems import letters_to_read
from mismatch.errors import CheckpointError, InputError, is_panic
from mismatch.runtime.bisection import run_bisected
from mismatch.runtime.languages import ENGLISH, UNKNOWN, Fertility, fertility, reads
from mismatch.runtime.tokenizer_file import check_tokenizer_file, unknown_token
from mismatch.specs import TextSpec

__all__ = [
    "EMPTY",
    "Encoded",
    "TokenBatch",
    "Tokenizer",
    "clean_canonicalize",
    "clean_clip",
    "clean_whitespace",
    "shown",
]

LOOKED_AT = 200  # characters, which tell a text's language
SAMPLE = "a"  # a text that every tokenizer can encode
SHOWN = 60  # characters of a text that an error quotes
EMPTY = "the text is empty"
T = TypeVar("T")
LONG = 4096  # characters, up to which the square of their number costs nothing
MAX_MARKS = 256  # accents on one letter
CHARACTERS = 0x110000  # code points of Unicode
# &#65; with more digits than a code point has
DECIMAL_REFERENCE = re.compile(r"&#(?=[0-9]{8})0*([0-9]*)")


class Encoded(NamedTuple):
    """A text as tokens."""

    ids: list[int]  # special ones included, cut at context_length
    cut: bool  # whether the text was longer than that
    is_empty: bool = False  # whether cleaning left nothing of the text


@dataclass(frozen=True)
class TokenBatch:
    """What a text tower takes, and what was cut off."""

    input_ids: NDArray[np.int64]  # (B, L), L ≤ context_length
    attention_mask: NDArray[np.int64]  # (B, L), 1 for tokens and 0 for padding
    truncated: NDArray[np.bool_]  # (B,), True where the text was longer than context_length


class Tokenizer:
    """TextSpec → a function from texts to a TokenBatch. Never changed after it is made, so safe on
    any number of threads.
    """

    def __init__(self, spec: TextSpec) -> None:
        self.spec = spec
        self._clean = _CLEANERS[spec.cleaning]
        self._tokenizer, self._special = _parse(spec.tokenizer_json, spec.context_length)

    def __call__(self, texts: Sequence[str]) -> TokenBatch:
        """Encode B texts → (B, L); L is the longest text's length, or context_length, as the spec's
        padding says.
        """
        return self.pad(*self.encode(texts))

    def encode(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        """Encode B texts → B lists of ids, special ones included and cut at context_length, and
        whether something was cut; for sorting by length. An empty text has the special ones alone.

        InputError, which quotes it, for the first text that can't be encoded.
        """
        ids = list[list[int]]()
        cut = list[bool]()
        for text, encoded in zip(texts, self._encode_all(texts), strict=True):
            if isinstance(encoded, InputError):
                raise InputError(f"text {shown(text)!r}: {encoded}")
            ids.append(encoded.ids)
            cut.append(encoded.cut)
        return ids, cut

    def encode_each(self, texts: Sequence[str]) -> list[Encoded | InputError]:
        """Encode B texts → the tokens of each, or why it has none: a special token that is spelt
        out in it would hide what follows from the model, and of an empty text it would score
        nothing.

        InputError where no text at all can be encoded: then the model is to blame.
        """
        return [
            InputError(EMPTY) if isinstance(encoded, Encoded) and encoded.is_empty else encoded
            for encoded in self._encode_all(texts)
        ]

    def is_empty(self, text: str) -> bool:
        """Return whether nothing is left of a text after cleaning, so that its score would say
        nothing: white space, HTML entities of it (`&nbsp;`), control and zero-width characters.
        """
        [encoded] = self._encode_all([text])
        return isinstance(encoded, Encoded) and encoded.is_empty

    def _encode_all(self, texts: Sequence[str]) -> list[Encoded | InputError]:
        return run_bisected(self._encode, texts, sample=lambda: SAMPLE, problem=_not_encoded)

    def _encode(self, texts: Sequence[str]) -> list[Encoded | InputError]:
        cleaned = [_whole(self._clean(text)) for text in texts]
        with _encoding():
            encodings = self._tokenizer.encode_batch_fast(cleaned)
        return [
            self._encoded(text, encoding) for text, encoding in zip(cleaned, encodings, strict=True)
        ]

    def _encoded(self, cleaned: str, encoding: tokenizers.Encoding) -> Encoded | InputError:
        # 1 for those that every text has
        ids = encoding.ids
        is_added = encoding.special_tokens_mask
        special = self._special.union(
            token for token, added in zip(ids, is_added, strict=True) if added
        )
        for token, added in zip(ids, is_added, strict=True):
            if not added and token in special:
                return InputError(
                    f"the text holds {self._tokenizer.id_to_token(token)!r}, a special token of the"
                    " model; take it out, or drop the row"
                )
        # a tokenizer may drop what cleaning has left, as BERT's does with control characters
        is_empty = all(is_added) or not any(map(_is_seen, cleaned))
        return Encoded(ids, bool(encoding.overflowing), is_empty)

    def beyond(self, text: str) -> tuple[int, str]:
        """Return how many tokens a text has, special ones included, and its part that is cut off,
        as it is after cleaning; "" where it fits.

        InputError for a text that can't be encoded.
        """
        return _alone(self._beyond, text)

    def _beyond(self, text: str) -> tuple[int, str]:
        cleaned = _whole(self._clean(text))
        with _encoding():
            kept = self._tokenizer.encode(cleaned)
        rest = [
            offsets
            for part in kept.overflowing
            for offsets, special in zip(part.offsets, part.special_tokens_mask, strict=True)
            if not special
        ]
        return len(kept.ids) + len(rest), cleaned[rest[0][0] :].strip() if rest else ""

    def pieces(self, text: str) -> list[tuple[int, int]]:
        """Return the places of a text's tokens in it, from left to right; those of one letter's
        bytes and of unknown tokens too. None where cleaning changes the text.

        InputError for a text that can't be encoded.
        """
        return _alone(self._pieces, text)

    def _pieces(self, text: str) -> list[tuple[int, int]]:
        if _whole(self._clean(text)) != text:
            return []
        with _encoding():
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return [place for part in (encoding, *encoding.overflowing) for place in part.offsets]

    @property
    def context_length(self) -> int:
        """Return how many tokens a text may have, special ones included."""
        return self.spec.context_length

    def knows(self, text: str) -> bool:
        """Return whether a text is in a language that the tokenizer was made for, and falls neither
        into single letters or bytes nor into unknown tokens; True of few letters. InputError for a
        text that can't be encoded.
        """
        return _alone(self._knows, text)

    def _knows(self, text: str) -> bool:
        letters = letters_to_read(_whole(self._clean(text)[:LOOKED_AT]))
        return not letters or reads(self._fertility(letters), self._of_english)

    @cached_property
    def _of_english(self) -> Fertility:
        return self._fertility(letters_to_read(self._clean(ENGLISH)))

    def _fertility(self, letters: str) -> Fertility:
        with _encoding():
            encoding = self._tokenizer.encode(letters, add_special_tokens=False)
        unknown = [self._tokenizer.token_to_id(token) for token in UNKNOWN]
        return fertility(letters, [encoding, *encoding.overflowing], unknown)

    def pad(
        self,
        ids: Sequence[Sequence[int]],
        truncated: Sequence[bool] | None = None,
        *,
        step: int = 1,
    ) -> TokenBatch:
        """Pad B lists of ids → (B, L); where L is the longest's length, it is rounded up to a
        multiple of `step`, or to context_length if that is less.
        """
        lengths = np.array([len(row) for row in ids], np.int64)  # (B,)
        length = (
            self.spec.context_length
            if self.spec.padding == "context"
            else self.padded(int(lengths.max(initial=1)), step)
        )
        mask = np.arange(length) < lengths[:, None]  # (B, L)
        input_ids = np.full(mask.shape, self.spec.pad_id, np.int64)
        input_ids[mask] = [token for row in ids for token in row]
        cut = np.zeros(len(ids), np.bool_) if truncated is None else np.array(truncated, np.bool_)
        return TokenBatch(input_ids, mask.astype(np.int64), cut)

    def padded(self, length: int, step: int) -> int:
        """Return a text's length, tokens, rounded up to a multiple of `step`, but never beyond the
        context.
        """
        return min(-(-length // step) * step, max(length, self.spec.context_length))


def _is_seen(sign: str) -> bool:
    """Return whether a character is to be seen: no blank, no zero-width or control character."""
    return sign.isprintable() and not sign.isspace()


def clean_whitespace(text: str) -> str:
    """Clean as CLIP's authors do, without changing the case: mended encoding, HTML entities
    resolved twice, white space folded.
    """
    # else neither ftfy nor html finds anything to do
    if not (text.isascii() and text.isprintable() and "&" not in text):
        text = _unescape(_unescape(_mended(text)))
    return " ".join(text.split())


def _mended(text: str) -> str:
    """Mend as `ftfy.fix_text`, in linear time. The accents on one letter of a
    long text beyond `MAX_MARKS` are left out before it is composed, since Python sorts them in the
    square of their number.
    """
    if len(text) <= LONG:
        return ftfy.fix_text(text)
    fixed = ftfy.fix_text(text, normalization=None)
    return unicodedata.normalize(
        "NFC", _many_marks().sub(lambda match: match[0][:MAX_MARKS], fixed)
    )


@cache
def _many_marks() -> re.Pattern[str]:
    marks = "".join(char for char in map(chr, range(CHARACTERS)) if unicodedata.combining(char))
    return re.compile(f"[{marks}]{{{MAX_MARKS + 1},}}")


def _unescape(text: str) -> str:
    """Unescape as `html.unescape`, which raises for a decimal reference of more digits than Python
    makes an int of (4,300, or what the user has set).
    """
    return html.unescape(DECIMAL_REFERENCE.sub(_short_reference, text))


def _short_reference(match: re.Match[str]) -> str:
    """Return `&#` and at most seven digits that stand for the same. Any number beyond the last code
    point does for another one, as both become U+FFFD.
    """
    digits = match[1] or "0"
    return f"&#{digits}" if len(digits) < 8 else f"&#{CHARACTERS}"


def clean_clip(text: str) -> str:
    """Clean as CLIP's authors do: `clean_whitespace`, then lower case."""
    return clean_whitespace(text).lower()


def clean_canonicalize(text: str) -> str:
    """Clean as SigLIP's authors do: `clean_whitespace`, underscores to spaces, no ASCII
    punctuation, lower case, white space folded.
    """
    return " ".join(
        clean_whitespace(text).replace("_", " ").translate(_NO_PUNCTUATION).lower().split()
    )


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _as_it_is(text: str) -> str:
    return text


def _whole(text: str) -> str:
    """Leave out halves of surrogate pairs, which are no characters and which the tokenizer would
    refuse.
    """
    return (
        text
        if text.isascii()
        else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


_CLEANERS: dict[str, Callable[[str], str]] = {
    "none": _as_it_is,
    "clip": clean_clip,
    "whitespace": clean_whitespace,
    "canonicalize": clean_canonicalize,
}


@contextmanager
def _encoding() -> Iterator[None]:
    """Raise InputError where a tokenizer can't encode a text: its tokenizer.json could be read, and
    contradicts itself.
    """
    try:
        yield
    except BaseException as error:  # the library raises Exception itself, and panics
        if not _is_librarys(error):
            raise
        raise InputError(
            f"the model's tokenizer.json can't encode texts ({error}); save the model again"
        ) from None


def _is_librarys(error: BaseException) -> bool:
    """Return whether it says something of the tokenizer, and not of the machine or of who ends the
    program.
    """
    return is_panic(error) or (isinstance(error, Exception) and not isinstance(error, MemoryError))


def _alone(work: Callable[[str], T], text: str) -> T:
    """Return `work` of one text; InputError where it fails on that and not on others."""
    [result] = run_bisected(
        lambda texts: [work(item) for item in texts],
        [text],
        sample=lambda: SAMPLE,
        problem=_not_encoded,
    )
    if isinstance(result, InputError):
        raise result
    return result


def _not_encoded() -> InputError:
    return InputError("the text can't be tokenized; change it, or drop the row")


def shown(text: str) -> str:
    """Return the beginning of a text, for an error that quotes it."""
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


@lru_cache(maxsize=4)  # CLIP's takes 0.3 s; nothing changes one that is made, so all may share it
def _parse(tokenizer_json: str, context_length: int) -> tuple[tokenizers.Tokenizer, frozenset[int]]:
    """Return the tokenizer, and the ids of its special tokens, but for the unknown one, which
    belongs into texts.
    """
    data = check_tokenizer_file(tokenizer_json)
    try:
        tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json)
    except BaseException as error:
        if not _is_librarys(error):
            raise
        raise CheckpointError(
            f"the model's tokenizer.json can't be read ({error}); save the model again"
        ) from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(context_length)
    if getattr(tokenizer.model, "dropout", None) is not None:
        tokenizer.model.dropout = None  # of BPE, for training: a text's pieces would be drawn
    unknown = unknown_token(data)
    special = {
        number: token.content
        for number, token in tokenizer.get_added_tokens_decoder().items()
        if token.special
    }
    # Spelt out in a text they are letters: "red <|endoftext|> and blue" must not end at red. Not
    # where a letter is one, as OWL-ViT's padding "!".
    tokenizer.encode_special_tokens = all(len(content) > 1 for content in special.values())
    marks = {
        number for number, content in special.items() if content != unknown and len(content) > 1
    }
    return tokenizer, frozenset(marks)
