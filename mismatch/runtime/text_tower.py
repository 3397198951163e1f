"""Texts to embeddings: short padding, long texts in pieces, and what is counted on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mismatch.errors import InputError
from mismatch.runtime.bisection import run_bisected
from mismatch.runtime.cache import EmbeddingCache, text_key
from mismatch.runtime.engines import Engine
from mismatch.runtime.long_text import cutting_problem, split_each
from mismatch.runtime.memo import Embedded, EmbeddingMemo, Pieces
from mismatch.runtime.tokenize import Tokenizer
from mismatch.specs import LongText

__all__ = ["TextCounts", "TextTower", "store_embeddings"]

Array = NDArray[np.float32]
Progress = Callable[[int], object]  # is called with how many more texts are done


@dataclass
class TextCounts:
    """Different texts that a call has met; one that it has forgotten counts again."""

    long_texts: int = 0  # longer than the backbone's context
    truncated: int = 0  # that lost their end: long ones that were not scored in pieces
    total: TextCounts | None = field(default=None, repr=False, compare=False)  # has them too
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, *, long_texts: int = 0, truncated: int = 0) -> None:
        """Count more of them. Thread-safe."""
        with self._lock:
            self.long_texts += long_texts
            self.truncated += truncated
        if self.total is not None:
            self.total.add(long_texts=long_texts, truncated=truncated)


class TextTower:
    """An engine's text tower behind its tokenizer. Thread-safe."""

    def __init__(
        self,
        engine: Engine,
        *,
        batch_size: int,
        long_text: LongText,
        cache: EmbeddingCache | None = None,
    ) -> None:
        """Take the tower of an engine. `batch_size`: texts a tower call; `long_text`: what becomes
        of texts over the context; `cache`: what need not be encoded.
        """
        self._engine = engine
        self._batch_size = batch_size
        self._cache = cache
        self.long_text = long_text
        self.tokenizer = Tokenizer(engine.text_spec)

    def pieces(self, texts: Sequence[str], counts: TextCounts) -> list[Pieces | InputError]:
        """Return what of each text goes through the tower on its own: all of it, or the pieces of a
        long one where `long_text` asks for them; or why nothing of it can.
        """
        if self.long_text == "truncate":
            return [(text,) for text in texts]
        pieces: dict[str, Pieces | InputError] = {}
        usable = []
        for text in texts:
            problem = cutting_problem(text)
            if problem is None:
                usable.append(text)
            else:
                pieces[text] = InputError(problem)
        long = []
        for text, encoded in zip(usable, self.tokenizer.encode_each(usable), strict=True):
            if isinstance(encoded, InputError):
                pieces[text] = encoded
            elif not encoded.cut:
                pieces[text] = (text,)
            elif text not in pieces:
                pieces[text] = ()
                long.append(text)
        counts.add(long_texts=len(long))
        pieces |= zip(long, split_each(long, self.tokenizer), strict=True)
        return [pieces[text] for text in texts]

    def embed(
        self,
        texts: Sequence[str],
        counts: TextCounts,
        progress: Progress | None = None,
        *,
        are_pieces: bool = False,
    ) -> list[Embedded]:
        """Return each text's embedding (text_width,), of its beginning where it is long, or why
        there is none; in order.

        `are_pieces`: they are what `pieces` gave, which has counted the long texts.
        """
        return self._embed(texts, counts, self._run, progress, count_long=not are_pieces)

    def embed_new(self, texts: list[str], memo: EmbeddingMemo, counts: TextCounts) -> None:
        """Embed texts that are new, long ones in pieces; what they share runs once."""
        if self.long_text == "truncate":
            embeddings = self._embed(texts, counts, self._recall, None, count_long=True)
            for text, value in zip(texts, embeddings, strict=True):
                memo.texts.add(text, value)
            return
        unseen = [text for text in texts if text not in memo.pieces.values]
        fitting = self._split(unseen, memo, counts)
        parts = (part for text in texts for part in memo.pieces.values.get(text, ()))
        pieces = list(
            dict.fromkeys(
                part for part in parts if part not in memo.texts.values and part not in fitting
            )
        )
        for piece, encoded in zip(pieces, self.tokenizer.encode_each(pieces), strict=True):
            if isinstance(encoded, InputError):
                memo.texts.add(piece, encoded)
            else:
                fitting[piece] = encoded.ids
                counts.add(truncated=int(encoded.cut))  # a letter that is longer than the context
        embeddings = self._recall(list(fitting), list(fitting.values()))
        for text, embedding in zip(fitting, embeddings, strict=True):
            memo.texts.add(text, embedding)

    def _split(
        self, texts: list[str], memo: EmbeddingMemo, counts: TextCounts
    ) -> dict[str, list[int]]:
        """Return the ids of the texts that fit; for the others, their pieces are noted."""
        usable = []
        for text in dict.fromkeys(texts):
            problem = cutting_problem(text)
            if problem is None:
                usable.append(text)
            else:
                memo.texts.add(text, InputError(problem))
        fitting: dict[str, list[int]] = {}
        too_long = []
        for text, encoded in zip(usable, self.tokenizer.encode_each(usable), strict=True):
            if isinstance(encoded, InputError):
                memo.texts.add(text, encoded)
            elif encoded.cut:
                too_long.append(text)
            else:
                fitting[text] = encoded.ids
        counts.add(long_texts=len(too_long))
        for text, pieces in zip(too_long, split_each(too_long, self.tokenizer), strict=True):
            if isinstance(pieces, InputError):
                memo.texts.add(text, pieces)
            else:
                memo.pieces.add(text, pieces)
        return fitting

    def _embed(
        self,
        texts: Sequence[str],
        counts: TextCounts,
        tower: Callable[..., list[Embedded]],
        progress: Progress | None,
        *,
        count_long: bool,
    ) -> list[Embedded]:
        """Embed texts; each one's embedding, or why it has none. `tower`: embeddings of texts and
        their ids. `count_long`: whether those over the context count as long texts. They lose their
        end in any case.
        """
        results: list[Any] = [None] * len(texts)
        usable = []
        ids = []
        cut = 0
        for i, encoded in enumerate(self.tokenizer.encode_each(texts)):
            if isinstance(encoded, InputError):
                results[i] = encoded
            else:
                usable.append(i)
                ids.append(encoded.ids)
                cut += encoded.cut
        counts.add(long_texts=cut if count_long else 0, truncated=cut)
        if progress is not None and len(usable) < len(texts):
            progress(len(texts) - len(usable))
        embeddings = tower([texts[i] for i in usable], ids, progress)
        for i, embedding in zip(usable, embeddings, strict=True):
            results[i] = embedding
        return results

    def _recall(
        self, texts: Sequence[str], ids: Sequence[list[int]], progress: Progress | None = None
    ) -> list[Embedded]:
        """Return each text's embedding, in order: the cache's, else the tower's."""
        if self._cache is None:
            return self._run(texts, ids, progress)
        keys = [text_key(text) for text in texts]
        cached = self._cache.get_many(keys, self._engine.text_width)
        unseen = [i for i, key in enumerate(keys) if key not in cached]
        encoded = self._run(texts, [ids[i] for i in unseen], progress)
        fresh = {keys[i]: value for i, value in zip(unseen, encoded, strict=True)}
        store_embeddings(self._cache, fresh)
        return [cached[key] if key in cached else fresh[key] for key in keys]

    def _run(
        self, _texts: Sequence[str], ids: Sequence[list[int]], progress: Progress | None = None
    ) -> list[Embedded]:
        """Return each text's embedding, in order, or why there is none; the tower sees texts of
        like length together.
        """
        results: list[Any] = [None] * len(ids)
        for chosen in self._of_like_length(ids):
            embeddings = run_bisected(
                self._encode,
                [ids[k] for k in chosen],
                sample=self._sample_ids,
                problem=_no_embedding,
            )
            for k, embedding in zip(chosen, embeddings, strict=True):
                results[k] = embedding
            if progress is not None:
                progress(len(chosen))
        return results

    def _encode(self, ids: Sequence[list[int]]) -> list[Array]:
        batch = self.tokenizer.pad(ids, step=self._engine.length_step)
        return list(self._engine.encode_texts(batch.input_ids, batch.attention_mask))

    def _sample_ids(self) -> list[int]:
        [ids], _ = self.tokenizer.encode(["a"])
        return ids

    def _of_like_length(self, ids: Sequence[list[int]]) -> Iterator[list[int]]:
        """Yield positions in batches; with a `length_step`, all of a batch become equally long, so
        that no text depends on its neighbours.
        """
        by_length = sorted(range(len(ids)), key=lambda k: len(ids[k]))
        step = self._engine.length_step
        if step == 1 or self.tokenizer.spec.padding == "context":
            yield from _batches(by_length, self._batch_size)
            return
        for _, group in groupby(by_length, key=lambda k: self.tokenizer.padded(len(ids[k]), step)):
            yield from _batches(list(group), self._batch_size)


def store_embeddings(cache: EmbeddingCache | None, fresh: Mapping[bytes, Embedded]) -> None:
    """Hand the cache what has been encoded, if there is one; failures are none of its."""
    if cache is not None:
        cache.put_many(
            {
                key: value
                for key, value in fresh.items()
                if isinstance(value, np.ndarray) and np.isfinite(value).all()
            }
        )


def _no_embedding() -> InputError:
    return InputError("the model's text tower fails on the text; change it, or drop the row")


def _batches(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
