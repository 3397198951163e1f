"""Rows to train, val and test by groups: what belongs together, an image with its near-duplicates
above all, stays on one side.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mismatch.data.near_duplicates import groups_of
from mismatch.errors import InputError

__all__ = ["NAMES", "SplitReport", "assign", "join", "report_of"]

NAMES = ("train", "val", "test")


def join(images: Sequence[int], others: Iterable[Sequence[Hashable]] = ()) -> list[int]:
    """Return a group's number for each row. `images`: the number of its image, or of the image's
    near-duplicates; `others`: further columns, as long, whose equal values join rows too.
    """
    first: dict[tuple[int, Hashable], int] = {}
    columns = [images, *others]
    pairs = (
        (first.setdefault((number, value), row), row)
        for number, column in enumerate(columns)
        for row, value in enumerate(column)
    )
    return groups_of(len(images), pairs)


def assign(
    groups: Sequence[int],
    strata: Sequence[Hashable],
    keys: Sequence[str],
    *,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> list[int]:
    """Return the split of each row: its number in `fractions`. Groups stay whole; large ones are
    placed first, each where its strata (labels, kinds) are missing most.

    `keys`: a name for each row, by whose smallest a group is drawn; so the result depends on the
    seed and on what the rows are, not on their order.
    """
    if not fractions or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise InputError(
            f"the fractions {', '.join(f'{share:g}' for share in fractions)} don't add up to 1"
        )
    sizes: dict[int, Counter[Hashable]] = defaultdict(Counter)
    names: dict[int, str] = {}
    for group, stratum, key in zip(groups, strata, keys, strict=True):
        sizes[group][stratum] += 1
        names[group] = min(names.get(group, key), key)
    totals = sum(sizes.values(), Counter[Hashable]())
    # rows, by split
    missing = [{stratum: share * count for stratum, count in totals.items()} for share in fractions]
    order = sorted(sizes, key=lambda group: (-sizes[group].total(), _draw(seed, names[group])))
    chosen: dict[int, int] = {}
    for group in order:
        chosen[group] = best = max(
            range(len(fractions)),
            key=lambda split: _need(missing[split], fractions[split], sizes[group], totals),
        )
        for stratum, count in sizes[group].items():
            missing[best][stratum] -= count
    return [chosen[group] for group in groups]


def _need(
    missing: dict[Hashable, float],
    share: float,
    group: Counter[Hashable],
    totals: Counter[Hashable],
) -> float:
    """Return by how much a group brings a split nearer to its shares: squares of what it lacks,
    before and after; rare strata count as much as common ones.
    """
    if not share:
        return float("-inf")
    return sum(
        count * (2 * missing[stratum] - count) / (share * totals[stratum] ** 2)
        for stratum, count in group.items()
    )


def _draw(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{name}".encode(errors="surrogatepass"), digest_size=8).digest()


@dataclass
class SplitReport:
    """What a split did."""

    rows: int
    groups: int
    largest: int  # rows of the largest group
    labels: list[Counter[Any]] = field(default_factory=list)  # by split
    images: list[int] = field(default_factory=list)  # distinct ones, by split
    near_duplicates: int = 0  # images that are another one's near-duplicate


def report_of(
    groups: Sequence[int],
    splits: Sequence[int],
    labels: Sequence[int | None],
    images: Sequence[int],
    count: int,
) -> SplitReport:
    """Return what `assign` did; `images`: the number of each row's image, `count`: of splits."""
    by_group = Counter(groups)
    report = SplitReport(len(groups), len(by_group), max(by_group.values(), default=0))
    for split in range(count):
        report.labels.append(
            Counter(
                label for label, assigned in zip(labels, splits, strict=True) if assigned == split
            )
        )
        report.images.append(
            len(
                {image for image, assigned in zip(images, splits, strict=True) if assigned == split}
            )
        )
    return report
