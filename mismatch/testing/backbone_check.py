"""The contract against a backbone by its name: the plugin and its loading count too."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterator

from mismatch.backbones import registry
from mismatch.errors import MismatchError
from mismatch.testing.contract import Check, check_selection, iter_checks

__all__ = ["check_backbone"]


def check_backbone(
    name: str, model_name: str | None = None, *, only: Collection[str] = ()
) -> Iterator[Check]:
    """Yield all checks of the backbone `name`, FAMILY or FAMILY:MODEL. Where its plugin or its
    loading fails, that is the only one, as nothing else can run.

    `model_name`: a model of the family, or a local folder. `only`: names of checks, by default all.
    """
    family = name.partition(":")[0]
    broken = [] if family in registry.families() else registry.problems_of(family)
    if broken:
        yield from (_failed("hook", problem.message, problem.trace) for problem in broken)
        return
    reference = ":".join(registry.parse_reference(name, model_name))
    check_selection(only)
    try:
        backbone = registry.load_backbone(reference)
    except MismatchError as error:
        yield _failed("load", str(error), "".join(traceback.format_exception(error)))
        return
    yield from iter_checks(backbone, reference=reference, only=only or None)


def _failed(name: str, message: str, trace: str) -> Check:
    return Check(name, "failed", message, 0.0, trace)
