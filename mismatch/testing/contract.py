"""The contract of a backbone, as checks that its author runs: under pytest by subclassing
`BackboneContract`, or as `mismatch backbones check NAME`.

    @pytest.fixture(scope="module")
    def backbone():
        return mismatch.load_backbone("lit")

    class TestLit(BackboneContract):
        reference = "lit"

A check passes, is skipped with the reason, or raises ContractError, whose message says what to
change. pytest is not imported here.
"""

from __future__ import annotations

import traceback
import unittest
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal

from mismatch.backbones.base import Backbone
from mismatch.errors import InputError
from mismatch.io.text import did_you_mean
from mismatch.testing.declarations import DeclarationChecks
from mismatch.testing.devices import DeviceChecks
from mismatch.testing.disk import DiskChecks
from mismatch.testing.onnx import OnnxChecks
from mismatch.testing.outcomes import one_line
from mismatch.testing.packaging import PackagingChecks
from mismatch.testing.side_effects import SideEffectChecks
from mismatch.testing.towers import TowerChecks
from mismatch.testing.training import TrainingChecks
from mismatch.testing.upstream import UpstreamChecks

__all__ = [
    "BackboneContract",
    "Check",
    "check_names",
    "check_selection",
    "iter_checks",
    "run_checks",
]

Outcome = Literal["passed", "failed", "skipped"]

BASIC = (
    "declarations",
    "specs round trip",
    "widths",
    "inputs are kept",
)  # without which the others say nothing

# checks that need none of them
APART = ("transform is upstreams", "tokenizer is upstreams", "hook is light", "entry point")


@dataclass(frozen=True)
class Check:
    """What came of one check."""

    name: str  # "rows are independent"
    outcome: Outcome
    message: str  # what to change; why it was skipped; empty where it passed
    seconds: float
    trace: str = field(default="", repr=False)  # the traceback of what failed


class BackboneContract(
    PackagingChecks,
    OnnxChecks,
    DiskChecks,
    UpstreamChecks,
    SideEffectChecks,
    DeviceChecks,
    TrainingChecks,
    TowerChecks,
    DeclarationChecks,
):
    """What every backbone keeps. Subclass it as `Test…` where there is a fixture `backbone`, of a
    wide scope, as loading and exporting take time.
    """


def check_names() -> list[str]:
    """Return the checks in their order: "declarations", …, "entry point"."""
    concerns = reversed(BackboneContract.__mro__)  # as pytest orders them
    return [
        name.removeprefix("test_").replace("_", " ")
        for concern in concerns
        for name in vars(concern)
        if name.startswith("test_")
    ]


def check_selection(only: Collection[str]) -> None:
    """Refuse with InputError a name that is none of `check_names`, and name the nearest that is."""
    if unknown := sorted(set(only) - set(check_names())):
        raise InputError(
            f"there is no check {unknown[0]!r}{did_you_mean(unknown[0], check_names())}; the"
            f" checks: {', '.join(check_names())}"
        )


def run_checks(
    backbone: Backbone,
    *,
    reference: str = "",
    load: Callable[[str], Backbone] | None = None,
    only: Collection[str] | None = None,
) -> list[Check]:
    """Return all checks of `iter_checks`."""
    return list(iter_checks(backbone, reference=reference, load=load, only=only))


def iter_checks(
    backbone: Backbone,
    *,
    reference: str = "",
    load: Callable[[str], Backbone] | None = None,
    only: Collection[str] | None = None,
) -> Iterator[Check]:
    """Run the contract against a loaded backbone, one check at a time, each whatever came of the
    others; without pytest.

    `reference`: the FAMILY or FAMILY:MODEL that it was loaded by. `load` (directory → backbone):
    instead of the family's own. `only`: names of `check_names` to run, default all of them.
    InputError for another name.
    """
    only = {only} if isinstance(only, str) else only
    check_selection(only or ())
    members: dict[str, Any] = {
        "reference": reference,
        "load": None if load is None else staticmethod(load),
    }
    contract = type("Contract", (BackboneContract,), members)()
    amiss = ""  # the basic check that failed: others would only repeat its fault in other words
    for name in check_names():
        if only is not None and name not in only:
            continue
        began = perf_counter()
        if amiss and name not in APART:
            yield Check(name, "skipped", f"{amiss} failed; mend that first", 0.0)
            continue
        outcome, message, trace = _outcome(
            getattr(contract, "test_" + name.replace(" ", "_")), backbone
        )
        amiss = amiss or (name if outcome == "failed" and name in BASIC else "")
        yield Check(name, outcome, message, perf_counter() - began, trace)


def _outcome(check: Callable[[Backbone], object], backbone: Backbone) -> tuple[Outcome, str, str]:
    try:
        check(backbone)
    except unittest.SkipTest as reason:
        return "skipped", str(reason), ""
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the others go on
        return "failed", one_line(error), "".join(traceback.format_exception(error))
    return "passed", "", ""
