"""Every error that mismatch raises for its users; the command line prints each as one line.

MismatchError
├── InputError                a file, a row or an option that can't be used
│   ├── LabelError            a label that is neither 0 nor 1          (also ValueError)
│   └── ImageError            an image that can't be used
│       ├── ImageNotFoundError                                         (also FileNotFoundError)
│       └── ImageRefusedError  by its kind, size or structure, before it is decoded
├── BackboneError             an unknown, broken or unreachable backbone
│   └── ContractError         a backbone that breaks the contract      (also AssertionError)
├── CheckpointError           a model folder (checkpoint or bundle) that can't be read or written
├── MachineError              a disk, memory or file handles failed, and not what was given
├── DeviceError               a device or provider was asked for and is not there
├── ParityError               an export whose scores differ from torch's
├── MisuseError               a value of ours is used as what it isn't     (also TypeError)
└── MissingExtraError         an optional part is not installed        (also ImportError)

MismatchWarning               worth knowing, and the work goes on        (a UserWarning)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = [
    "BackboneError",
    "CheckpointError",
    "ContractError",
    "DeviceError",
    "ImageError",
    "ImageNotFoundError",
    "ImageRefusedError",
    "InputError",
    "LabelError",
    "MachineError",
    "MismatchError",
    "MismatchWarning",
    "MissingExtraError",
    "MisuseError",
    "ParityError",
    "is_panic",
    "named",
    "without_traceback",
]

Failure = TypeVar("Failure", bound=Exception)


class MismatchError(Exception):
    """What was asked, what is wrong, what to do: one line.

    `option`: the keyword argument that is at fault, if it is one. A message writes names of options
    in backquotes; the command line turns them into its flags.
    """

    def __init__(self, message: str = "", *, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class InputError(MismatchError):
    """A file, a row or an option that can't be used."""


class LabelError(InputError, ValueError):
    """A label that is neither 0 nor 1."""


class ImageError(InputError):
    """An image that can't be used: corrupt, too large, not an image."""


class ImageNotFoundError(ImageError, FileNotFoundError):
    """An image that isn't where the row says."""

    def __str__(self) -> str:  # FileNotFoundError would print its errno pair
        return str(self.args[0])


class ImageRefusedError(ImageError):
    """An image that is not decoded at all: empty, of an unknown kind, too large, or too costly for
    its size.
    """


class BackboneError(MismatchError):
    """An unknown, broken or unreachable backbone."""


class ContractError(BackboneError, AssertionError):
    """A backbone that breaks what `mismatch.testing.contract` checks; the message tells its
    author what to change.
    """


class CheckpointError(MismatchError):
    """A model folder that can't be read or written."""


class MachineError(MismatchError):
    """The machine failed, and not what it was given: a disk that can't be read, memory or file
    handles that ran out. Later the same may succeed.
    """


class DeviceError(MismatchError):
    """A device or an execution provider was asked for and is not there."""


class ParityError(MismatchError):
    """An exported graph whose scores differ from torch's beyond the tolerance."""


class MisuseError(MismatchError, TypeError):
    """A value of ours is used as something that it is not; the message says what to do."""


class MissingExtraError(MismatchError, ImportError):
    """An optional part is not installed; the message carries the pip line. It is an extra of ours
    or, where `package` is given, somebody else's.
    """

    def __init__(self, what: str, extra: str = "", *, package: str = "") -> None:
        ours = f'the extra [{extra}]: pip install "mismatch-clip[{extra}]"'
        super().__init__(
            f"{what} needs "
            + (f"the package {package}: pip install {package}" if package else ours)
        )
        self._made_of = what, extra, package

    def __reduce__(self) -> tuple[Callable[..., MissingExtraError], tuple[str, str, str]]:
        return _missing_extra, self._made_of


def _missing_extra(what: str, extra: str, package: str) -> MissingExtraError:
    return MissingExtraError(what, extra, package=package)


class MismatchWarning(UserWarning):
    """Worth knowing, and the work goes on; the command line prints it as one line."""


def named(kind: str, message: str) -> MismatchError:
    """Return an error of another process, by the name of its class and what it says. One of a class
    that is not known here is a plain MismatchError.
    """
    error_class = globals().get(kind)
    # MissingExtraError makes its message itself
    if (
        isinstance(error_class, type)
        and issubclass(error_class, MismatchError)
        and error_class is not MissingExtraError
    ):
        return error_class(message)
    return MismatchError(message)


def without_traceback(error: Failure) -> Failure:
    """Return the same error to keep for later, without the frames of its traceback and causes. They
    would keep half-decoded images alive, 24 MB and more each.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def is_panic(error: BaseException) -> bool:
    """Return whether a library in Rust met what its authors took for impossible. pyo3 derives that
    from BaseException, so that `except Exception` lets it pass.
    """
    return type(error).__name__ == "PanicException"
