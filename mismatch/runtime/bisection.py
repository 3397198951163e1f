"""A batch that fails is halved until the items that fail on their own are found: each of these gets
a reason, and all others their results.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from PIL import Image

from mismatch.errors import ImageError, InputError, MachineError, MismatchError, without_traceback
from mismatch.io.retries import SHORTAGES, shortage_in

__all__ = ["prepare_alone", "run_bisected", "sample_image"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Problem = TypeVar("Problem", bound=InputError)
Source = TypeVar("Source")
Work = Callable[[Sequence[Item]], Sequence[Result]]

log = logging.getLogger("mismatch.runtime")


def run_bisected(
    work: Work[Item, Result],
    items: Sequence[Item],
    *,
    sample: Callable[[], Item],
    problem: Callable[[], Problem],
) -> list[Result | Problem]:
    """Return `work` of N items, in order; an item on which it fails gets a `problem` in place of
    its result.

    `work` takes any number of items and gives one result for each. `sample` makes an item that
    nothing is wrong with: where `work` fails on that too, the items are not to blame, and the error
    is raised as it is. So is one that says that memory, file handles or threads ran out, or that
    the model is broken.
    """
    if not items:
        return []
    try:
        return list(_checked(work, items))
    except Exception as error:
        if _is_of_the_machine(error):
            raise
        if len(items) == 1:
            if not _works(work, sample()):
                raise
            reason = problem()
            log.info("%s", reason, exc_info=error)
            return [reason]
    middle = len(items) // 2
    first = run_bisected(work, items[:middle], sample=sample, problem=problem)
    return first + run_bisected(work, items[middle:], sample=sample, problem=problem)


def _checked(work: Work[Item, Result], items: Sequence[Item]) -> Sequence[Result]:
    results = work(items)
    if len(results) != len(items):
        raise ValueError(f"{len(results)} results for {len(items)} items")
    return results


def _works(work: Work[Item, Result], sample: Item) -> bool:
    try:
        _checked(work, [sample])
    except Exception as error:
        if _is_of_the_machine(error):
            raise
        return False
    return True


def _is_of_the_machine(error: Exception) -> bool:
    """Return whether an error says nothing of the items: a shortage, or a model or device that is
    not usable.
    """
    if isinstance(error, MismatchError):
        return not isinstance(error, InputError) or isinstance(error, MachineError)
    if isinstance(error, OSError) and error.errno in SHORTAGES:
        return True
    return shortage_in(error) is not None


def sample_image() -> Image.Image:
    """Make an image that nothing is wrong with."""
    return Image.new("RGB", (8, 8), "white")


def prepare_alone(
    prepare: Callable[[Source | Image.Image], Result], source: Source
) -> Result | ImageError:
    """Return what `prepare` makes of one image, or why it makes nothing of it.

    An error that other images have too, and one of the machine, is raised as it is.
    """

    def work(sources: Sequence[Source | Image.Image]) -> list[Result | ImageError]:
        return [_prepared(prepare, item) for item in sources]

    sources: list[Source | Image.Image] = [source]
    [result] = run_bisected(work, sources, sample=sample_image, problem=_not_prepared)
    return result


def _prepared(
    prepare: Callable[[Source | Image.Image], Result], source: Source | Image.Image
) -> Result | ImageError:
    try:
        return prepare(source)
    except ImageError as error:
        return without_traceback(error)


def _not_prepared() -> ImageError:
    return ImageError(
        "the image can't be prepared for the model: a library fails on it; replace the file or drop"
        " the row"
    )
