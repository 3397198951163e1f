"""mismatch.runtime.bisection: who fails alone gets a reason, and an error that is nobody's own is
raised.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest
from PIL import Image

from mismatch.errors import CheckpointError, DeviceError, ImageError, InputError, MachineError
from mismatch.runtime.bisection import prepare_alone, run_bisected


def halves(
    items: Sequence[int], bad: dict[int, BaseException], calls: list[int]
) -> list[InputError | float]:
    def work(chosen: Sequence[int]) -> list[float]:
        calls.append(len(chosen))
        for item in chosen:
            if item in bad:
                raise bad[item]
        return [item / 2 for item in chosen]

    return run_bisected(
        work, items, sample=lambda: 0, problem=lambda: InputError("can't be halved")
    )


@pytest.mark.parametrize("guilty", [[1], [16], [7, 8], [1, 2, 3, 15, 16], list(range(1, 17))])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError(3),
        RuntimeError("x"),
        RecursionError(),
        ZeroDivisionError(),
        OSError(errno.EIO, "x"),
        InputError("x"),
    ],
)
def test_the_guilty_get_a_reason_and_the_others_their_results(
    guilty: list[int], error: Exception
) -> None:
    calls: list[int] = []
    found = halves(range(1, 17), dict.fromkeys(guilty, error), calls)
    assert [
        number for number, value in enumerate(found, start=1) if isinstance(value, InputError)
    ] == guilty
    assert all(
        value == number / 2 for number, value in enumerate(found, start=1) if number not in guilty
    )
    assert all(str(value) == "can't be halved" for value in found if isinstance(value, InputError))


def test_without_a_failure_the_work_is_done_once_and_of_nothing_never() -> None:
    calls: list[int] = []
    assert halves([2, 4], {}, calls) == [1, 2]
    assert halves([], {0: ValueError()}, calls) == []
    assert calls == [2]


def test_one_of_many_costs_no_more_than_four_times_the_work() -> None:
    calls: list[int] = []
    halves(range(1, 1025), {700: ValueError()}, calls)
    assert sum(calls) <= 4 * 1024


def test_an_error_that_the_sample_has_too_is_raised_as_it_is() -> None:
    calls: list[int] = []
    with pytest.raises(ValueError, match="everywhere"):
        halves(range(1, 65), dict.fromkeys(range(65), ValueError("everywhere")), calls)
    assert len(calls) < 12


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MachineError("no handles"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        RuntimeError("CUDA out of memory"),
        RuntimeError("std::bad_alloc"),
        CheckpointError("damaged"),
        DeviceError("gone"),
        KeyboardInterrupt(),
    ],
)
def test_what_the_machine_lacks_is_nobodys_own_fault(error: BaseException) -> None:
    calls: list[int] = []
    with pytest.raises(type(error)):
        halves(range(1, 9), {5: error}, calls)
    assert calls == [8]


def test_too_few_results_are_an_error_of_the_work() -> None:
    with pytest.raises(ValueError, match="0 results for 1 items"):
        run_bisected(lambda items: [], [1, 2], sample=lambda: 0, problem=lambda: InputError("x"))


def test_an_image_that_a_library_fails_on() -> None:
    def prepare(source: str | Image.Image) -> str:
        if source == "bad":
            raise KeyError("a bug")
        if source == "damaged":
            raise ImageError("cut short")
        return "pixels"

    assert prepare_alone(prepare, "good") == "pixels"
    damaged, bad = prepare_alone(prepare, "damaged"), prepare_alone(prepare, "bad")
    assert isinstance(damaged, ImageError)
    assert isinstance(bad, ImageError)
    assert (str(damaged), "KeyError" in str(bad), "a bug" in str(bad)) == (
        "cut short",
        False,
        False,
    )
    assert (damaged.__traceback__, bad.__traceback__) == (None, None)

    def broken(source: str | Image.Image) -> str:
        raise KeyError("always")

    with pytest.raises(KeyError):
        prepare_alone(broken, "good")
