"""Everything that a command can do, its function can, under the same names and with the same
defaults.
"""

from __future__ import annotations

import inspect
import typing
from typing import Any

import click
import pytest

import mismatch
from mismatch import cli
from mismatch.jobs.options import MODEL_DEFAULTS, ROW_DEFAULTS

# command → the public function
FUNCTIONS = {
    "benchmark": "benchmark",
    "calibrate": "calibrate",
    "explain": "explain_rows",
    "export-onnx": "export_onnx",
    "predict": "predict_file",
}
# options of a command that another function has: `Predictor.predict`, `mismatch.explain`
OF_OTHERS = {
    "explain": {"image", "text", "slice_value"},
    "predict": {"image", "text", "slice_value"},
}
# defaults that the command line writes otherwise
WRITTEN = {("benchmark", "batch_sizes"): "1,4,16,64"}
# parameters that a function has no default for, where the command has one
NEEDED = {("explain", "rows"), ("predict", "rows"), ("predict", "output")}
# options of a command that are about its lines, and parameters that only Python has
ONLY_COMMANDS = {"as_json", "debug"}
ONLY_PYTHON = {"before_storing"}


def parameters(function: Any) -> dict[str, Any]:
    """Name → default of each parameter, those of a TypedDict of options among them."""
    found = {}
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            found[name] = parameter.default
            continue
        [options] = typing.get_args(hints[name])
        defaults = ROW_DEFAULTS | MODEL_DEFAULTS
        found |= {option: defaults[option] for option in typing.get_type_hints(options)}
    return found


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_a_function_has_the_options_of_its_command(verb: str) -> None:
    command = cli.main.get_command(click.Context(cli.main), verb)
    assert command is not None
    others = ONLY_COMMANDS | OF_OTHERS.get(verb, set())
    options = {param.name: param for param in command.params if param.name not in others}
    given = parameters(getattr(mismatch, FUNCTIONS[verb]))
    assert set(options) == set(given) - ONLY_PYTHON
    for name, param in options.items():
        if given[name] is inspect.Parameter.empty:
            assert param.required or (verb, name) in NEEDED, name
            continue
        default = param.to_info_dict()["default"]
        wanted = WRITTEN.get((verb, name), given[name])
        assert (tuple(default) if isinstance(default, list) else default) == wanted, name
