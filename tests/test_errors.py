"""The error tree: one root, the built-in kinds that callers expect, and its drawing."""

from __future__ import annotations

import pickle

import pytest

from mismatch import errors
from mismatch.errors import (
    BackboneError,
    ContractError,
    ImageError,
    ImageNotFoundError,
    InputError,
    LabelError,
    MismatchError,
    MismatchWarning,
    MissingExtraError,
    named,
)

KINDS = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_a_mismatch_error_and_stands_in_the_drawing(kind: type[Exception]) -> None:
    assert issubclass(kind, MismatchError)
    assert kind.__doc__
    assert kind.__name__ in str(errors.__doc__)


def test_all_is_all() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert set(errors.__all__) == defined | {"is_panic", "named", "without_traceback"}
    assert len(defined) == 15


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {MissingExtraError}, key=str))
def test_an_error_of_another_process_is_made_again(kind: type[Exception]) -> None:
    found = named(kind.__name__, "t.csv:3: it is wrong")
    assert (type(found), str(found)) == (kind, "t.csv:3: it is wrong")


@pytest.mark.parametrize(
    "kind", ["MissingExtraError", "MismatchWarning", "ValueError", "named", "Failure"]
)
def test_one_that_cant_be_made_again_says_the_same(kind: str) -> None:
    found = named(kind, "it is wrong")
    assert (type(found), str(found)) == (MismatchError, "it is wrong")


@pytest.mark.parametrize(
    ("error", "caught_as"),
    [
        (LabelError("train.csv:3: label 'yes'"), (ValueError, InputError)),
        (
            ImageNotFoundError("train.csv:3: image 'a.jpg' not found"),
            (FileNotFoundError, ImageError, InputError),
        ),
        (MissingExtraError("training", "train"), (ImportError, MismatchError)),
        (ImageError("not an image"), (InputError,)),
        (ContractError("image_dim is 40"), (AssertionError, BackboneError)),
    ],
)
def test_callers_may_catch_the_built_in_kind(
    error: Exception, caught_as: tuple[type[Exception], ...]
) -> None:
    for kind in caught_as:
        with pytest.raises(kind):
            raise error
    assert str(error) == error.args[0]


def test_a_missing_extra_gives_the_pip_line() -> None:
    assert (
        str(MissingExtraError("--track wandb", package="wandb"))
        == "--track wandb needs the package wandb: pip install wandb"
    )
    assert (
        str(MissingExtraError("training", "train"))
        == 'training needs the extra [train]: pip install "mismatch-clip[train]"'
    )


def test_an_untraced_error_holds_no_frames() -> None:
    try:
        try:
            raise OSError("half decoded")
        except OSError as cause:
            raise ImageError("a.jpg is damaged") from cause
    except ImageError as error:
        kept = errors.without_traceback(error)
    assert str(kept) == "a.jpg is damaged"
    assert (kept.__traceback__, kept.__cause__, kept.__context__) == (None, None, None)


def test_the_warning_is_a_user_warning() -> None:
    assert issubclass(MismatchWarning, UserWarning)
    assert not issubclass(MismatchWarning, MismatchError)


@pytest.mark.parametrize(
    "error",
    [
        MissingExtraError("reading x", "parquet"),
        MissingExtraError("reading x", package="moto"),
        InputError("no", option="rows"),
    ],
)
def test_an_error_says_the_same_in_another_process(error: MismatchError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(again), str(again)) == (type(error), str(error))
