"""Which backbone families are installed: entry points in, families and problems out; and the way
from `openclip:MODEL` to a loaded backbone.
"""

from __future__ import annotations

import os
import re
import traceback
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from mismatch.backbones import hookspecs
from mismatch.backbones.families import BackboneFamily, Origin, Problem, check_offer
from mismatch.backbones.hookspecs import Load
from mismatch.errors import (
    BackboneError,
    MismatchError,
    MismatchWarning,
    MissingExtraError,
    is_panic,
)
from mismatch.io.reading import check_model_folder
from mismatch.io.text import did_you_mean
from mismatch.runtime.libraries import send_nothing

if TYPE_CHECKING:
    from mismatch.backbones.base import Backbone

__all__ = [
    "Registry",
    "discover",
    "families",
    "family",
    "family_of",
    "list_models",
    "load_backbone",
    "parse_reference",
    "problems",
    "problems_of",
    "refresh",
    "require_family",
    "switched_off",
]

GROUP = "mismatch"  # the entry-point group of backbone plugins
# environment variable: comma-separated entry points, modules or distributions
DISABLE = "MISMATCH_DISABLE_PLUGINS"
# it wins a name clash, so that no other installed plugin changes what a built-in name means
OWN_DISTRIBUTION = "mismatch-clip"
# what a stranger's file may have us print in a line of pip
DISTRIBUTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]{0,49}")


@dataclass(frozen=True)
class Registry:
    """What one look at the entry points found."""

    families: dict[str, BackboneFamily]
    problems: tuple[Problem, ...]
    switched_off: tuple[Origin, ...] = ()  # by the environment; not even imported


def families() -> dict[str, BackboneFamily]:
    """Return the installed families by name, in alphabetical order; warn once of a broken plugin
    and leave it out.
    """
    return dict(_installed().families)


def problems() -> list[Problem]:
    """Return the plugins that are broken or lost a name."""
    return list(_installed().problems)


def problems_of(name: str) -> list[Problem]:
    """Return the problems of the plugin `name`: its entry point, module or distribution, however it
    is spelt.
    """
    return [
        problem
        for problem in problems()
        if _fold(name) in map(_fold, (problem.entry_point, problem.module, problem.distribution))
    ]


def family_of(name: str) -> BackboneFamily | None:
    """Return the first family of that name, or with an entry point, module or distribution of that
    name, however it is spelt.
    """
    by_name = families()
    others = (
        item
        for item in by_name.values()
        if _fold(name) in map(_fold, (item.entry_point, item.module, item.distribution))
    )
    return by_name.get(name) or next(others, None)


def refresh() -> None:
    """Look at the entry points again at the next question, after an installation or a change of
    MISMATCH_DISABLE_PLUGINS.
    """
    _installed.cache_clear()


def family(name: str) -> BackboneFamily:
    """Return the family of that name; BackboneError, with the nearest known name, for another."""
    by_name = families()
    if name in by_name:
        return by_name[name]
    raise BackboneError(
        f"backbone {name!r} is unknown{_reason(name)}{did_you_mean(name, by_name)}; installed:"
        f" {', '.join(by_name) or 'none'}"
    )


def require_family(name: str, distribution: str, version: str) -> None:
    """Refuse a model of a family that isn't there: BackboneError with what its files say of the
    plugin.
    """
    if name in families():
        return
    off = _reason(name) or _reason(distribution)
    plain = DISTRIBUTION.fullmatch(distribution) and VERSION.fullmatch(version)
    if off or not plain or _fold(distribution) == OWN_DISTRIBUTION:
        raise BackboneError(f"the model is of the backbone {name!r}, which is not installed{off}")
    raise BackboneError(
        f"the model is of the backbone {name!r}, which is not installed; its files name the plugin"
        f" {distribution} {version}: if you trust that, pip install {distribution}=={version}"
    )


def switched_off(name: str) -> str:
    """Return ` (switched off by …)` where a plugin of that entry point, module or distribution is
    left out by the environment; else nothing.
    """
    names = (item for origin in _installed().switched_off for item in _names(origin))
    off = _fold(name) in {*map(_fold, _disabled()), *map(_fold, names)}
    return f" (switched off by {DISABLE})" if off else ""


def parse_reference(reference: str, model_name: str | Path | None = None) -> tuple[str, str]:
    """Return family and model id of `openclip`, `openclip:MODEL`, or `openclip` and a model."""
    model_name = None if model_name is None else os.fspath(model_name)
    name, colon, model_id = reference.partition(":")
    if name not in families():
        _refuse_model_as_family(reference)
    chosen = family(name)
    if colon and not model_id:
        raise BackboneError(
            f"backbone {reference!r} names no model after the colon; {name} alone means"
            f" {name}:{chosen.default_model}"
        )
    if model_id and model_name and model_id != model_name:
        raise BackboneError(
            f"`backbone` {reference} and `model_name` {model_name} name two models; leave one of"
            " them out"
        )
    return name, model_id or model_name or chosen.default_model


def list_models(pattern: str = "*") -> list[str]:
    """Return the models of all installed families as FAMILY:MODEL, in order, those that `pattern`
    matches: `*siglip*`, `openclip:*`. A pattern without wildcards and a colon is a family.

    They are the names that the families state; most load others too. Torch is not imported.
    """
    names = [f"{item.name}:{model}" for item in families().values() for model in item.models]
    if pattern in families():
        pattern += ":*"
    folded = pattern.casefold()
    return sorted(name for name in names if fnmatchcase(name.casefold(), folded))


def load_backbone(reference: str, model_name: str | Path | None = None) -> Backbone:
    """Return the backbone of a reference, `openclip:MODEL`, on the CPU. `model_name`: a model of
    the family, or a local folder. Here, and not before, torch is imported.
    """
    name, model_id = parse_reference(reference, model_name)
    chosen = family(name)
    if Path(model_id).expanduser().is_dir():
        check_model_folder(Path(model_id).expanduser())
    send_nothing("huggingface_hub", "onnxruntime", "transformers")
    try:
        backbone = chosen.load(model_id)
    except BackboneError as error:
        raise BackboneError(f"{error}{_nearest_model(model_id, chosen, str(error))}") from error
    except MismatchError:
        raise
    except ImportError as error:
        raise _import_failure(chosen, error) from error
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise BackboneError(
            f"backbone {name}:{model_id} could not be loaded: {_one_line(error)}"
        ) from error
    return _checked(backbone, chosen)


def discover(points: Iterable[EntryPoint], disabled: Iterable[str] = ()) -> Registry:
    """Load the plugins behind entry points one by one, so that a broken one takes no other down."""
    off = {_fold(name) for name in disabled}
    manager = pluggy.PluginManager("mismatch")
    manager.add_hookspecs(hookspecs)
    by_name: dict[str, BackboneFamily] = {}
    trouble: list[Problem] = []
    left_out: list[Origin] = []
    for point in sorted(points, key=_precedence):
        origin = Origin.of(point)
        if off & {*map(_fold, _names(origin))}:
            left_out.append(origin)
            continue
        offered, broken = _ask(manager, point, origin)
        trouble += broken
        trouble += _add(by_name, offered, origin)
    return Registry(dict(sorted(by_name.items())), tuple(trouble), tuple(left_out))


def _names(origin: Origin) -> tuple[str, str, str]:
    """Return the names by which a plugin can be switched off."""
    return origin.entry_point, origin.module, origin.distribution


@cache
def _installed() -> Registry:
    registry = discover(entry_points(group=GROUP), _disabled())
    for problem in registry.problems:
        warnings.warn(problem.message, MismatchWarning, stacklevel=3)
    return registry


def _disabled() -> list[str]:
    return [name for name in os.environ.get(DISABLE, "").split(",") if name.strip()]


def _precedence(point: EntryPoint) -> tuple[bool, str, str, str]:
    origin = Origin.of(point)
    return (
        _fold(origin.distribution) != OWN_DISTRIBUTION,
        origin.entry_point,
        origin.distribution,
        origin.module,
    )


def _ask(
    manager: pluggy.PluginManager, point: EntryPoint, origin: Origin
) -> tuple[list[BackboneFamily], list[Problem]]:
    offered: list[BackboneFamily] = []
    try:
        plugin = point.load()
        _call_hook(manager, plugin, origin, _collector(offered, origin))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the others go on
        message = f"plugin {origin} is broken and left out: {_one_line(error)}"
        return [], [_problem(origin, message, "".join(traceback.format_exception(error)))]
    if not offered:
        return [], [
            _problem(
                origin,
                f"plugin {origin} registers no family; call register(NAME, load, models=[…]) in its"
                " hook",
            )
        ]
    return offered, []


def _call_hook(
    manager: pluggy.PluginManager, plugin: object, origin: Origin, register: hookspecs.Register
) -> None:
    others = manager.get_plugins()
    if manager.register(plugin, name=str(origin)) is None:
        raise BackboneError("it is blocked")
    try:
        manager.check_pending()
        hook = manager.subset_hook_caller("register_backbones", others)
        if not hook.get_hookimpls():
            raise BackboneError(
                "it implements no hook; mark a function register_backbones(register) with"
                " @mismatch.hookimpl"
            )
        hook(register=register)
    except BaseException:
        manager.unregister(plugin)
        raise


def _collector(offered: list[BackboneFamily], origin: Origin) -> hookspecs.Register:
    def register(
        name: str,
        load: Load,
        *,
        models: Sequence[str],
        default_model: str = "",
        description: str = "",
        api_version: int = 1,
    ) -> None:
        check_offer(name, load, models, default_model, api_version)
        if name in {other.name for other in offered}:
            raise BackboneError(f"it registers {name!r} twice")
        default = default_model or models[0]
        where = (origin.distribution, origin.version, origin.entry_point, origin.module)
        offered.append(
            BackboneFamily(name, load, tuple(models), default, description, api_version, *where)
        )

    register.__qualname__ = "register"  # what python's own error of a wrong argument names
    return register


def _add(
    by_name: dict[str, BackboneFamily], offered: list[BackboneFamily], origin: Origin
) -> list[Problem]:
    trouble = []
    for item in offered:
        first = by_name.setdefault(item.name, item)
        if first is not item:
            owner = f"{first.distribution} {first.version} ({first.module})"
            message = (
                f"backbone {item.name!r} is offered by {owner} and by {item.distribution}"
                f" {item.version} ({item.module}); the first is used; "
            )
            message += f"{DISABLE}={first.module} would leave it to the second"
            trouble.append(_problem(origin, message))
    return trouble


def _problem(origin: Origin, message: str, trace: str = "") -> Problem:
    return Problem(
        origin.entry_point, origin.module, origin.distribution, origin.version, message, trace
    )


def _reason(name: str) -> str:
    if off := switched_off(name):
        return off
    broken = [problem for problem in problems() if problem.entry_point == name]
    return f" ({broken[0].message})" if broken else ""


def _refuse_model_as_family(reference: str) -> None:
    installed = ", ".join(families()) or "none is installed"
    if reference and ("/" in reference.partition(":")[0] or Path(reference).is_dir()):
        kind = "a folder" if Path(reference).is_dir() else "a model's name"
        raise BackboneError(
            f"backbone {reference!r} looks like {kind}, not a family ({installed}); pass"
            f" `backbone=FAMILY` and `model_name={reference}`"
        )


def _nearest_model(model_id: str, chosen: BackboneFamily, message: str) -> str:
    name = model_id.partition("@")[0]
    if "did you mean" in message or name in chosen.models or Path(model_id).exists():
        return ""
    return did_you_mean(model_id, chosen.models)


def _import_failure(chosen: BackboneFamily, error: ImportError) -> MismatchError:
    if chosen.distribution == OWN_DISTRIBUTION:
        return MissingExtraError(f"backbone {chosen.name!r} ({_one_line(error)})", "train")
    return BackboneError(
        f"backbone {chosen.name!r} of {chosen.distribution} {chosen.version} can't import what it"
        f" needs: {_one_line(error)}"
    )


def _checked(backbone: object, chosen: BackboneFamily) -> Backbone:
    from mismatch.backbones.base import Backbone

    if not isinstance(backbone, Backbone):
        raise BackboneError(
            f"backbone {chosen.name!r} of {chosen.distribution} {chosen.version} loads a"
            f" {type(backbone).__name__}, not a mismatch Backbone"
        )
    return backbone


def _fold(name: str) -> str:
    """Fold a distribution's, entry point's or module's name, so that names compare without case and
    with '-', '_' and '.' alike (PEP 503).
    """
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, MismatchError) else f"{type(error).__name__}: {text}"
