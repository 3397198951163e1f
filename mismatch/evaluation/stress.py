"""Stress: matched pairs under controlled changes, and whether the decision follows those that
matter and withstands those that don't.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mismatch.data.text_edits import ATTRIBUTES, TEXT_EDITS, without_brand
from mismatch.errors import ImageError, InputError
from mismatch.evaluation.bootstrap import RESAMPLES, percentiles, resamples_of
from mismatch.evaluation.intervals import wilson_interval
from mismatch.runtime.preprocess import open_image

if TYPE_CHECKING:
    from mismatch.runtime.pipeline import EmbeddingMemo
    from mismatch.runtime.predictor import Predictor

__all__ = ["CEILING", "CHANGES", "IMAGE_EDITS", "Change", "StressRow", "stress"]

JPEG_QUALITY = 15
KEPT_SIDE = 0.8  # of each side, by the crop
DEGREES = 10.0
Z = 1.959964  # standard deviations, of a 95 % interval
TOGETHER = 64  # changed images that are held at a time
CEILING = (
    (
        "Negation: towers trained on captions, which say what is there, hardly represent what is"
        " not; no threshold helps where the score hardly moves."
    ),
    (
        "Word order: a model that sees little more than a bag of words is untouched by it. That is"
        " right for titles, and says nothing of texts whose order matters: a red shirt and blue"
        " shoes are no blue shirt and red shoes."
    ),
    (
        "Mirror: left and right are beyond what most backbones tell apart; to stay a match says"
        " nothing of texts that name a side."
    ),
    (
        "Replaced words: another word of the same kind may still fit by chance, as the second"
        " colour of a thing does, so 100 % is not to be reached; materials and counts can often not"
        " be seen at all."
    ),
    (
        "Printed titles: a backbone that reads may believe what is written on a picture more than"
        " what it shows; another pair's title tells how far."
    ),
)


class StressRow(NamedTuple):
    """A matched pair."""

    image: Any  # a path, or whatever else `open_image` takes
    text: str
    threshold: float  # of its decision
    brand: str = ""
    group: str = ""  # rows of one image are drawn together in intervals


class Change(NamedTuple):
    """One controlled change."""

    name: str
    part: str  # text or image
    expected: str  # mismatch or match: what the changed pair is
    words: str  # what is done


def _changes() -> Iterator[Change]:
    for kind in ATTRIBUTES:
        yield Change(
            kind,
            "text",
            "mismatch",
            f"a word for {'a kind of article' if kind == 'article' else kind} is replaced by"
            " another",
        )
    yield Change("negation", "text", "mismatch", '"not a" stands before the text')
    yield Change("word order", "text", "match", "the words are shuffled")
    yield Change(
        "brand removed",
        "text",
        "match",
        "the brand is left out: the value of the brand column, or a capitalised first word",
    )
    yield Change("typo", "text", "match", "two neighbouring letters of one word change places")
    yield Change("upper case", "text", "match", "all letters are capitals")
    yield Change("own title printed", "image", "match", "the pair's text is printed onto the image")
    yield Change(
        "other title printed", "image", "match", "another pair's text is printed onto the image"
    )
    yield Change("JPEG", "image", "match", f"saved as JPEG of quality {JPEG_QUALITY}")
    yield Change("crop", "image", "match", f"the middle {KEPT_SIDE:.0%} of each side")
    yield Change("mirror", "image", "match", "left and right change places")
    yield Change("rotate", "image", "match", f"turned by {DEGREES:g} degrees, on white")


CHANGES = tuple(_changes())


def jpeg(image: Image.Image, _text: str) -> Image.Image:
    """Save the image with low quality and open it again."""
    held = io.BytesIO()
    image.save(held, "JPEG", quality=JPEG_QUALITY)
    return Image.open(io.BytesIO(held.getvalue())).convert("RGB")


def crop(image: Image.Image, _text: str) -> Image.Image:
    """Keep its middle."""
    width, height = image.size
    x = round(width * (1 - KEPT_SIDE) / 2)
    y = round(height * (1 - KEPT_SIDE) / 2)
    return image.crop((x, y, max(x + 1, width - x), max(y + 1, height - y)))


def mirror(image: Image.Image, _text: str) -> Image.Image:
    """Exchange left and right."""
    return ImageOps.mirror(image)


def rotate(image: Image.Image, _text: str) -> Image.Image:
    """Turn the image on a white ground."""
    return image.rotate(DEGREES, Image.Resampling.BICUBIC, fillcolor=(255, 255, 255))


def printed(image: Image.Image, text: str) -> Image.Image | None:
    """Print the text in black on a white band across the lower part; None for letters that Pillow's
    own font lacks.
    """
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return None
    changed = image.copy()
    draw = ImageDraw.Draw(changed)
    width, height = changed.size
    line = " ".join(text.split())
    size = max(8.0, height / 10)
    font = ImageFont.load_default(size)
    size = max(6.0, min(size, size * 0.94 * width / max(1.0, draw.textlength(line, font=font))))
    font = ImageFont.load_default(size)
    top = round(height * 0.85 - size)
    draw.rectangle((0, top, width, round(top + 1.6 * size)), fill=(255, 255, 255))
    draw.text((width / 2, top + 0.8 * size), line, fill=(0, 0, 0), font=font, anchor="mm")
    return changed


IMAGE_EDITS: dict[str, Callable[[Image.Image, str], Image.Image | None]] = {
    "own title printed": printed,
    "other title printed": printed,
    "JPEG": jpeg,
    "crop": crop,
    "mirror": mirror,
    "rotate": rotate,
}


@dataclass(frozen=True)
class _Scored:
    """Scores of rows, nan where they could not be scored or changed."""

    before: NDArray[np.float64]  # (N,)
    after: NDArray[np.float64]  # (N,)


def stress(
    predictor: Predictor,
    rows: Sequence[StressRow],
    *,
    seed: int = 0,
    memo: EmbeddingMemo | None = None,
    resamples: int = RESAMPLES,
    advance: Callable[[int], object] = lambda done: None,
) -> list[dict[str, Any]]:
    """Map each change of `CHANGES` → what became of the rows that it applies to: `rows`. Of those
    that were called matches before (`decided`) it has the share with the decision that the changed
    pair should have (`right`). It has the mean `change` of the score over all rows. It has both
    intervals: Wilson's with as many trials as images, and a bootstrap over images.

    Every choice depends on `seed`, the change and the row's number alone. `advance` is called for
    each change that is done. InputError without rows.
    """
    if not rows:
        raise InputError("there are no matched rows to stress")
    before = _scores(
        predictor, ({"image": row.image, "text": row.text} for row in rows), len(rows), memo
    )
    summaries = []
    for number, change in enumerate(CHANGES):
        made = (
            _texts(change, rows, [seed, number])
            if change.part == "text"
            else [row.text for row in rows]
        )
        some = [index for index, text in enumerate(made) if text is not None]
        after = np.full(len(rows), np.nan)
        if change.part == "text":
            after[some] = _scores(
                predictor,
                ({"image": rows[index].image, "text": made[index]} for index in some),
                len(some),
                memo,
            )
        else:
            after = _of_images(predictor, change, rows, [seed, number])
        summaries.append(_summary(change, rows, _Scored(before, after), resamples, seed))
        advance(1)
    return summaries


def _texts(change: Change, rows: Sequence[StressRow], seed: list[int]) -> list[str | None]:
    made = []
    for index, row in enumerate(rows):
        edit = (
            partial(without_brand, brand=row.brand)
            if change.name == "brand removed"
            else TEXT_EDITS[change.name]
        )
        made.append(edit(row.text, np.random.default_rng([*seed, index])))
    return made


def _of_images(
    predictor: Predictor, change: Change, rows: Sequence[StressRow], seed: list[int]
) -> NDArray[np.float64]:
    after = np.full(len(rows), np.nan)
    order = np.random.default_rng(seed).permutation(len(rows))
    texts = {
        int(index): rows[int(other)].text
        for index, other in zip(order, np.roll(order, 1), strict=True)
    }
    numbers = iter(range(len(rows)))
    while chunk := list(islice(numbers, TOGETHER)):
        images = [(index, _changed(change, rows[index], texts[index])) for index in chunk]
        usable = [(index, image) for index, image in images if image is not None]
        after[[index for index, _ in usable]] = _scores(
            predictor,
            ({"image": image, "text": rows[index].text} for index, image in usable),
            len(usable),
            None,
        )
    return after


def _changed(change: Change, row: StressRow, other: str) -> Image.Image | None:
    if change.name == "other title printed" and other == row.text:
        return None
    try:
        image = open_image(row.image).convert("RGB")
    except ImageError:  # gone since it was scored
        return None
    return IMAGE_EDITS[change.name](
        image, other if change.name == "other title printed" else row.text
    )


def _scores(
    predictor: Predictor, pairs: Iterator[dict[str, Any]], count: int, memo: EmbeddingMemo | None
) -> NDArray[np.float64]:
    scores = (
        prediction.similarity_score
        for prediction in predictor.predict_pairs(pairs, known=memo, live=False)
    )
    return np.fromiter((np.nan if score is None else score for score in scores), np.float64, count)


def _summary(
    change: Change, rows: Sequence[StressRow], scored: _Scored, resamples: int, seed: int
) -> dict[str, Any]:
    used = np.flatnonzero(np.isfinite(scored.before) & np.isfinite(scored.after)).tolist()
    facts = {
        "change": change.name,
        "part": change.part,
        "expected": change.expected,
        "what": change.words,
        "rows": len(used),
    }
    nothing = dict.fromkeys(("right", "mean_change"), float("nan")) | dict.fromkeys(
        ("right_interval", "mean_change_interval"), [float("nan")] * 2
    )
    if not len(used):
        return {**facts, "decided": 0, **nothing}
    cuts = np.array([rows[index].threshold for index in used])
    before = scored.before[used]
    after = scored.after[used]
    decided = before >= cuts
    right = (after >= cuts) == (change.expected == "match")
    groups = [rows[index].group or str(index) for index in used]
    moved = [
        float((after - before)[pick].mean())
        for pick in resamples_of(len(used), resamples=resamples, seed=seed, groups=groups)
    ]
    images = len(
        {group for group, was_match in zip(groups, decided.tolist(), strict=True) if was_match}
    )
    share = _share(right, decided)
    change_of_all = float((after - before).mean())
    return {
        **facts,
        "decided": int(decided.sum()),
        "right": share,
        "right_interval": list(wilson_interval(share, images, Z)),
        "mean_change": change_of_all,
        "mean_change_interval": list(percentiles(np.array(moved), value=change_of_all)),
    }


def _share(right: NDArray[np.bool_], decided: NDArray[np.bool_]) -> float:
    return float(right[decided].mean()) if decided.any() else float("nan")
