"""Pages of commands and tables of options, settings and errors, from the code itself."""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import click

from mismatch import cli, errors
from mismatch.cli.sections import SECTIONS, SectionedCommand
from mismatch.io.endings import ENDINGS
from mismatch.runtime.libraries import SWITCHES
from mismatch.training.config import TrainConfig, default_text, help_text
from mismatch.training.option_groups import GROUPS

__all__ = ["COMMANDS", "TABLES", "openapi", "verb_page"]

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = "reference/commands"
# verb → the page that shows it at work
GUIDES = {
    "quickstart": "quickstart.md",
    "validate": "how-to/audit.md",
    "split": "tutorials/matching-pairs.md",
    "make-negatives": "tutorials/matching-pairs.md",
    "audit-labels": "how-to/wrong-labels.md",
    "train": "tutorials/train-on-your-csv.md",
    "evaluate": "how-to/evaluate.md",
    "calibrate": "how-to/calibrate-and-threshold.md",
    "tune-threshold": "how-to/calibrate-and-threshold.md",
    "predict": "how-to/catalogue.md",
    "explain": "how-to/explain.md",
    "export-onnx": "tutorials/model-to-production.md",
    "serve": "how-to/serve.md",
    "benchmark": "benchmarks.md",
    "backbones": "plugins/tutorial.md",
    "doctor": "how-to/troubleshooting.md",
}
STATED_DEFAULT = re.compile(r"\s*\[(?:default: |(?=required))(.*?)\]$")
CODE = re.compile(r"(`[^`]*`|(?<![\w-])--[a-z][a-z-]*)")
OPTION_HEAD = ("option", "what it does", "default")
METAVARS = {"INTEGER RANGE": "N", "INTEGER": "N", "FLOAT RANGE": "X", "FLOAT": "X"}
MEBIBYTE = 2**20


# --- commands


def verb_page(verb: str) -> str:
    """Return the page of a verb, and of its subcommands."""
    group = cli.main.get_command(click.Context(cli.main), verb)
    if group is None:
        raise ValueError(f"there is no verb {verb}")
    paths = [path for path in cli.command_paths() if path[:1] == (verb,)]
    parts = [_command_section(path) for path in paths]
    guide = posixpath.relpath(GUIDES[verb], COMMANDS) if verb in GUIDES else ""
    if guide:
        parts[0] += f"\n[This command at work]({guide})\n"
    return "\n".join(parts)


def _command_section(path: tuple[str, ...]) -> str:
    """Return the help of one command as Markdown."""
    context = click.Context(cli.main, info_name="mismatch")
    command: click.Command = cli.main
    for name in path:
        command = _child(command, context, name)
        context = click.Context(command, info_name=name, parent=context)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    return "\n".join(
        [
            f"{'#' * len(path)} `{context.command_path}`\n",
            *[f"{_prose(part)}\n" for part in (command.help or "").split("\n\n")],
            f"```text\n{usage}\n```\n",
            *_option_tables(command, context, "#" * (len(path) + 1)),
        ]
    )


def _option_tables(command: click.Command, context: click.Context, level: str) -> list[str]:
    """Return a table of the options, or one with a heading for each section of them."""
    options = {param.name: param for param in command.params if isinstance(param, click.Option)}
    rows = {name: _option_row(option, context) for name, option in options.items()}
    sections = command.sections if isinstance(command, SectionedCommand) else {}
    parts = []
    for title, names in sections.items():
        part = _table(OPTION_HEAD, [rows.pop(name) for name in names])
        parts.append(f"{level} {title}\n\n{part}")
    if rows:
        heading = f"{level} Others\n\n" if sections else ""
        parts.append(heading + _table(OPTION_HEAD, list(rows.values())))
    return parts


def _child(command: click.Command, context: click.Context, name: str) -> click.Command:
    child = command.get_command(context, name) if isinstance(command, click.Group) else None
    if child is None:
        raise ValueError(f"there is no command {name}")
    return child


def _option_row(option: click.Option, context: click.Context) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    if not option.is_flag:
        metavar = option.make_metavar(context)
        names += f" `{METAVARS.get(metavar, metavar).strip('[]')}`"
    extra = option.get_help_extra(context)
    text = option.help or ""
    stated = STATED_DEFAULT.search(text)
    default = stated[1] if stated else extra.get("default") or extra.get("required", "")
    meaning = _prose(STATED_DEFAULT.sub("", text))
    if "range" in extra:
        meaning += f" Range: `{extra['range']}`."
    if extra.get("envvars"):
        meaning += f" Environment: `{extra['envvars'][0]}`."
    return names, meaning, _prose(str(default))


def _prose(text: str) -> str:
    """Return plain text as Markdown: flags as code, and no letter that would mean something."""
    parts = CODE.split(" ".join(text.split()))
    return "".join(
        f"`{part.strip('`')}`" if number % 2 else re.sub(r"([\\*|<>\[\]_])", r"\\\1", part)
        for number, part in enumerate(parts)
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


# --- tables


def _commands() -> str:
    """Return a table of commands for each section of them."""
    parts = []
    for title, verbs in SECTIONS.items():
        paths = [path for path in cli.command_paths() if path[:1] and path[0] in verbs]
        table = _table(("command", "what it does"), [_command_row(path) for path in paths])
        parts.append(f"## {title}\n\n{table}")
    return "\n".join(parts)


def _command_row(path: tuple[str, ...]) -> tuple[str, str]:
    context = click.Context(cli.main)
    command: click.Command = cli.main
    for name in path:
        command = _child(command, context, name)
    anchor = "" if len(path) == 1 else f"#mismatch-{'-'.join(path)}"
    link = f"[`mismatch {' '.join(path)}`](commands/{path[0]}.md{anchor})"
    return link, _prose(command.get_short_help_str(200))


def _train_config() -> str:
    """Return a table of fields for each group of them."""
    by_name = {field.name: field for field in fields(TrainConfig)}
    parts = []
    for title, names in GROUPS.items():
        rows = [_field_row(by_name[name]) for name in names]
        parts.append(f"## {title}\n\n{_table(('field', 'type', 'meaning', 'default'), rows)}")
    return "\n".join(parts)


def _field_row(field: Field[Any]) -> tuple[str, str, str, str]:
    meaning = _prose(help_text(field.name))
    if "range" in field.metadata:
        meaning += f" It is {field.metadata['range']}."
    if "modes" in field.metadata:
        meaning += f" With `tune` {', '.join(field.metadata['modes'])}."
    default = default_text(field.name)
    if default is None:
        default = "required" if field.metadata.get("required") else str(field.default)
    return f"`{field.name}`", f"`{field.type}`", meaning, _prose(default)


def _settings() -> str:
    from pydantic import TypeAdapter

    from mismatch.serving.configuration import Settings
    from mismatch.serving.setting_rules import allowed

    schemas = TypeAdapter(Settings).json_schema()["properties"]
    rows = [
        (f"`{name}`", _prose(schema["description"]), _prose(allowed(schema)), _default(schema))
        for name, schema in schemas.items()
    ]
    return _table(("setting", "meaning", "what it may be", "default"), rows)


def _default(schema: Mapping[str, Any]) -> str:
    if "default" not in schema:
        return "required"
    value = schema["default"]
    if isinstance(value, int) and not isinstance(value, bool) and value and value % MEBIBYTE == 0:
        return f"{value // MEBIBYTE} MiB, `{value}`"
    return "none" if value in (None, [], {}) else f"`{value}`"


def openapi() -> dict[str, Any]:
    """Return the document of the service's routes and messages."""
    from mismatch.serving.app import create_app
    from mismatch.serving.configuration import Settings

    return create_app(Settings(model="bundle")).openapi()


def _messages() -> str:
    """Return a table for each message that the service takes or gives."""
    parts = []
    for name, schema in openapi()["components"]["schemas"].items():
        if name == "Problem" or "properties" not in schema:
            continue
        needed = schema.get("required", [])
        rows = [
            (f"`{field}`", _json_type(part), "yes" if field in needed else "", _described(part))
            for field, part in schema["properties"].items()
        ]
        table = _table(("field", "type", "needed", "meaning"), rows)
        parts.append(f"### {name}\n\n{_prose(schema.get('description', ''))}\n\n{table}")
    return "\n".join(parts)


def _json_type(schema: Mapping[str, Any]) -> str:
    """Return a JSON Schema's type in a word or two: `string or null`, `list of Answer`."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(_json_type(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_json_type(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _described(schema: Mapping[str, Any]) -> str:
    return _prose(schema.get("description", ""))


def _problems() -> str:
    from mismatch.serving.problems import TITLES

    return _table(("status", "title"), [(str(code), title) for code, title in TITLES.items()])


def _errors() -> str:
    rows = [_error_row(kind) for kind in _subclasses(errors.MismatchError)]
    return _table(("class", "a kind of", "meaning", "exit code"), rows)


def _subclasses(kind: type[Exception]) -> list[type[Exception]]:
    public = [child for child in kind.__subclasses__() if child.__name__ in errors.__all__]
    return [kind, *[each for child in public for each in _subclasses(child)]]


def _error_row(kind: type[Exception]) -> tuple[str, str, str, str]:
    parents = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
    meaning = (kind.__doc__ or "").partition("\n\n")[0]
    return f"`{kind.__name__}`", parents, _prose(meaning), str(cli.INPUT_EXIT)


def _exit_codes() -> str:
    rows = [
        ("0", "Done."),
        ("1", "The command ran, and its answer is no: bad rows in `validate`, a failed check."),
        (
            str(cli.INPUT_EXIT),
            "Wrong options, files or rows; a device, extra or backbone is absent.",
        ),
        (str(cli.BUG_EXIT), "A bug. `mismatch --debug …` shows where."),
        (str(cli.INTERRUPT_EXIT), "Interrupted by Ctrl-C."),
    ]
    rows += [
        (str(code), f"{word.capitalize()}, by {sign.name}.")
        for sign, (word, code) in ENDINGS.items()
    ]
    return _table(("code", "meaning"), rows)


def _switches() -> str:
    rows = [
        (f"`{name}={value}`", library)
        for library, switches in SWITCHES.items()
        for name, value in switches.items()
    ]
    return _table(("set unless you set it", "library"), rows)


def _floors() -> str:
    """Return the floors of the import contract, the highest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["id"] == "floors"]
    rows = [
        (str(len(layers) - number), _prose(", ".join(f"`{name}`" for name in layer.split(" : "))))
        for number, layer in enumerate(layers)
    ]
    return _table(("floor", "what stands on it"), rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "commands": _commands,
    "errors": _errors,
    "exit-codes": _exit_codes,
    "floors": _floors,
    "messages": _messages,
    "problems": _problems,
    "settings": _settings,
    "switches": _switches,
    "train-config": _train_config,
}
