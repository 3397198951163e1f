"""What is installed of what mismatch and its extras need, read from the packages' metadata: nothing
is imported.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, version

__all__ = ["DISTRIBUTION", "Requirement", "pip_line", "requirements", "version_of"]

DISTRIBUTION = "mismatch-clip"
NOT_FOR_USERS = "dev"  # the extra of those who work on mismatch itself
# a package in whose place others may be installed
IN_PLACE_OF = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu")}
# name, [extras], versions, and the extra that needs it
LINE = re.compile(r"(?P<name>[\w.-]+)\s*(?:\[(?P<extras>[^]]*)])?(?P<versions>[^;]*)(?P<marker>.*)")
EXTRA = re.compile(r"extra\s*==\s*['\"]([\w.-]+)['\"]")
CLAUSE = re.compile(r"(>=|<=|==|!=|~=|>|<)\s*([\w.+-]+)")
RELEASE = re.compile(r"\d+(\.\d+)*")
COMPARISONS = {
    ">=": operator.ge,
    "~=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Requirement:
    """A package that is needed, and the version that is there."""

    name: str
    versions: str  # those that will do: >=2.10,!=2.13.0; "": any
    installed: str | None

    @property
    def is_met(self) -> bool:
        """Return whether the package is there in a version that will do."""
        if self.installed is None:
            return False
        release = _release(self.installed)
        return all(
            COMPARISONS[sign](release, _release(wanted))
            for sign, wanted in CLAUSE.findall(self.versions)
        )

    def __str__(self) -> str:
        state = "" if self.installed is None else f" ({self.installed} is installed)"
        return f"{self.name}{self.versions}{state}"


def requirements() -> dict[str, list[Requirement]]:
    """Return what each extra needs, by its name; "": what mismatch itself needs. Empty where
    mismatch runs without being installed.
    """
    try:
        about = metadata(DISTRIBUTION)
    except PackageNotFoundError:
        return {}
    lines = about.get_all("Requires-Dist") or []
    extras = about.get_all("Provides-Extra") or []
    return {extra: list(_needs(lines, extra)) for extra in ("", *extras) if extra != NOT_FOR_USERS}


def pip_line(extra: str) -> str:
    """Return the command that installs an extra; "": mismatch itself."""
    name = f'"{DISTRIBUTION}[{extra}]"' if extra else DISTRIBUTION
    return f"pip install {'' if extra else '--upgrade '}{name}"


def version_of(package: str) -> str | None:
    """Return the version of an installed package; None where there is none."""
    for name in IN_PLACE_OF.get(package, (package,)):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def _needs(lines: list[str], extra: str) -> Iterator[Requirement]:
    """Yield what one extra needs, including what other extras of ours bring that it names."""
    for line in lines:
        match = LINE.match(line)
        if match is None or _extra_of(match) != extra:
            continue
        if match["name"] == DISTRIBUTION:
            for other in (match["extras"] or "").split(","):
                yield from _needs(lines, other.strip())
        else:
            versions = match["versions"].strip(" ()")
            yield Requirement(match["name"], versions, version_of(match["name"]))


def _extra_of(line: re.Match[str]) -> str:
    """Return the extra for which a line of the metadata holds; "": for all."""
    extra = EXTRA.search(line["marker"])
    return "" if extra is None else extra[1]


def _release(text: str) -> tuple[int, ...]:
    """Return the numbers of a version without zeros at its end: 2.10.0+cpu is (2, 10)."""
    match = RELEASE.match(text)
    numbers = [int(number) for number in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
