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
from mismatch.jobs.options import ModelRowSettings
from mismatch.jobs.train import TRAIN_DEFAULTS, TrainOptions

# command → the public function
FUNCTIONS = {
    "audit-labels": "audit_labels",
    "benchmark": "benchmark",
    "calibrate": "calibrate",
    "evaluate": "evaluate",
    "explain": "explain_rows",
    "export-onnx": "export_onnx",
    "make-negatives": "make_negatives",
    "predict": "predict_file",
    "quickstart": "quickstart",
    "serve": "serve",
    "split": "split",
    "train": "train",
    "tune-threshold": "tune_threshold",
    "validate": "audit",
}
# options of a command that another function has: `Predictor.predict`, `mismatch.explain`
OF_OTHERS = {
    "explain": {"image", "text", "slice_value"},
    "predict": {"image", "text", "slice_value"},
}
# defaults that the command line writes otherwise
WRITTEN = {("benchmark", "batch_sizes"): "1,4,16,64", ("serve", "also"): ()}
# parameters that a function has no default for, where the command has one
NEEDED = {
    ("explain", "rows"),
    ("predict", "rows"),
    ("predict", "output"),
    ("quickstart", "dir"),
}
# options of a command that are about its lines, and parameters that only Python has
ONLY_COMMANDS = {"as_json", "debug", "strict"}
ONLY_PYTHON = {"before_storing", "callbacks", "command"}
EMPTY = inspect.Parameter.empty


def parameters(function: Any) -> dict[str, Any]:
    """Name → default of each parameter, those of a TypedDict of options among them."""
    found = {}
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            found[name] = parameter.default
            continue
        [options] = typing.get_args(hints[name])
        is_training = options is TrainOptions
        defaults = dict(TRAIN_DEFAULTS) if is_training else vars(ModelRowSettings())
        found |= {option: defaults.get(option, EMPTY) for option in typing.get_type_hints(options)}
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
        if given[name] is EMPTY:
            assert param.required or (verb, name) in NEEDED, name
            continue
        if param.required:  # a command writes files, a function may return rows in their place
            assert given[name] is None, name
            continue
        default = param.to_info_dict()["default"]
        if default is None and getattr(param, "multiple", False):
            default = ()
        wanted = WRITTEN.get((verb, name), given[name])
        assert (tuple(default) if isinstance(default, list) else default) == wanted, name


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_a_choice_is_a_literal_so_that_mypy_sees_a_wrong_one(verb: str) -> None:
    command = cli.main.get_command(click.Context(cli.main), verb)
    assert command is not None
    hints = typing.get_type_hints(getattr(mismatch, FUNCTIONS[verb]), include_extras=True)
    if "options" in hints:
        [options] = typing.get_args(hints["options"])
        hints |= typing.get_type_hints(options)
    for param in command.params:
        if isinstance(param.type, click.Choice):
            hint = hints[param.name or ""]
            union = [one for one in typing.get_args(hint) if typing.get_origin(one)]
            literal = union[0] if union else hint
            assert typing.get_args(literal) == tuple(param.type.choices), param.name


def test_mypy_sees_a_choice_that_there_is_not() -> None:
    with pytest.raises(mismatch.InputError, match="`head` is 'heads'; one of adapter, cosine"):
        mismatch.TrainConfig(train_csv="a.csv", head="heads")  # type: ignore[arg-type]
    with pytest.raises(mismatch.InputError, match="`engine` is 'rays'; local or ray"):
        mismatch.predict_file("m", "a.csv", "-", engine="rays")  # type: ignore[arg-type]
    with pytest.raises(mismatch.InputError, match="no option 'threds'; did you mean 'threads'"):
        mismatch.calibrate("m", "a.csv", threds=1)  # type: ignore[call-arg]
