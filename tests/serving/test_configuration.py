"""The service's settings: from a file, from the environment, and what is refused."""

from __future__ import annotations

import inspect
import json
import os
import re
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mismatch.errors import InputError
from mismatch.serving.configuration import HOSTS_ENV, MODEL_ENV, SETTINGS_ENV, TOKENS_ENV, Settings


def test_a_file_and_what_is_given_beside_it(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"model": "m", "batch": 8, "tokens": ["a" * 16]}))
    found = Settings.read(tmp_path / "s.json", batch=16)
    assert (found.model, found.batch, found.queue, found.tokens) == ("m", 16, 512, ("a" * 16,))


def test_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MODEL_ENV, raising=False)
    monkeypatch.delenv(SETTINGS_ENV, raising=False)
    with pytest.raises(InputError, match=f"names no model; set {MODEL_ENV}"):
        Settings.from_environment()
    monkeypatch.setenv(MODEL_ENV, "bundle")
    assert Settings.from_environment() == Settings("bundle")
    (tmp_path / "s.json").write_text(json.dumps({"model": "other", "queue": 900}))
    monkeypatch.setenv(SETTINGS_ENV, str(tmp_path / "s.json"))
    assert Settings.from_environment() == Settings("bundle", queue=900)
    monkeypatch.setenv(TOKENS_ENV, f"{'a' * 16}, {'b' * 16},")
    assert Settings.from_environment().tokens == (
        "a" * 16,
        "b" * 16,
    ), "whichever way the service is started"
    monkeypatch.setenv(HOSTS_ENV, "match.example.com, *.shop.test")
    assert Settings.from_environment().hosts == ("match.example.com", "*.shop.test")
    monkeypatch.setenv(TOKENS_ENV, "short")
    with pytest.raises(InputError, match="fewer than 16 characters"):
        Settings.from_environment()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"deadline": 0}, "deadline is 0"),
        ({"max_pairs": 1000}, "may have 1000 pairs, but only 512 may wait"),
        ({"tokens": ("short",)}, "fewer than 16 characters"),
        ({"models": {"a/b": "m"}}, "'a/b' can't be a model's name"),
        ({"models": {"default": "m"}}, "'default' can't be a model's name"),
        ({"fetch_networks": ("10.0.0.1/8",)}, "has host bits set; write it as"),
        ({"max_wait": float("nan")}, "max_wait is nan"),
        ({"remember": -1}, "remember is -1"),
        ({"tokens": ("a" * 16 + " ",)}, "holds a blank"),
        ({"tokens": ("a" * 16 + " " + "b" * 16,)}, "holds a blank"),
        ({"max_bodies": 1000}, "all together only 1,000"),
        ({"hosts": ("match.example.com:443",)}, "is no name"),
        ({"hosts": ("https://match.example.com",)}, "is no name"),
        ({"hosts": ("",)}, "is no name"),
        ({"batch": "32"}, "batch is '32'; a whole number from 1"),
        ({"batch": 32.5}, "batch is 32.5; a whole number"),
        ({"batch": True}, "batch is True; a whole number"),
        ({"batch": None}, "batch is None; a whole number"),
        ({"threads": 0}, "threads is 0; a whole number from 1 to 1,024"),
        ({"max_pixels": 10**30}, "max_pixels is 1000.*; a whole number"),
        ({"deadline": "30"}, "deadline is '30'; a number of seconds, more than 0"),
        ({"deadline": float("inf")}, "deadline is inf; a number of seconds"),
        ({"drift_warning": float("nan")}, "drift_warning is nan; a number, more than 0"),
        ({"wait": 5000}, "wait is 5000; a number of seconds, from 0, 1 at most"),
        ({"wait": 1e308}, "wait is 1e.308; a number of seconds, from 0, 1 at most"),
        ({"reload": "yes"}, "reload is 'yes'; true or false"),
        ({"provider": "tpu"}, "provider is 'tpu'; one of auto, cpu, cuda, tensorrt"),
        ({"models": {1: "m"}}, "models is .*; an object of names and strings"),
        ({"models": ["m"]}, "models is .*; an object of names and strings"),
        ({"models": {"a": None}}, "models: a is None; a string"),
        ({"hosts": "match.example.com"}, "hosts is 'match.example.com'; a list of strings"),
        ({"hosts": (1,)}, "hosts is .*; a list of strings"),
        ({"tokens": "a" * 16}, "tokens is no list of strings"),
        ({"tokens": ("\udcff\udcfe0123456789abcdef",)}, "can't be encoded"),
        ({"tokens": ("\x000123456789abcdef",)}, "can't be encoded"),
        ({"fetch": ("http://x",)}, "'http://x' is no host; write it as images.example.com"),
        ({"fetch": ("*",)}, "'[*]' is no host"),
        ({"fetch": ("x/y",)}, "'x/y' is no host"),
        ({"fetch": ("x:",)}, "'x:' is no host"),
        ({"fetch": ("",)}, "'' is no host"),
        ({"origins": ("evil",)}, "'evil' is no origin; write it as browsers do"),
        ({"origins": ("https://shop.test/",)}, "is no origin"),
        ({"origins": ("https://shop.test:443",)}, "is no origin"),
        ({"origins": ("https://Shop.test",)}, "is no origin"),
        ({"origins": ("null",)}, "is no origin"),
        (
            {"open_routes": ("/v1/predict",)},
            "'/v1/predict' can't be opened; /metrics and /openapi.json can",
        ),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Settings("m", **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, f"what is given names no model; set {MODEL_ENV}"),
        ({"model": "m", "bach": 8}, "no setting 'bach'; did you mean 'batch'"),
        ({"model": "m", "bach": 8, "batch": "8"}, "no setting 'bach'"),
    ],
)
def test_names_are_checked_as_values_are(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Settings(**options)


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        ([3], {}, "model is 3; a string is needed"),
        (["m", "n"], {}, "models is 'n'; an object of names and strings is needed"),
        (["m"], {"model": "n"}, "settings are given each once, and best by name"),
        (["m", *range(50)], {}, "the service's models is 0; an object"),
    ],
)
def test_values_without_names(values: list[Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Settings(*values, **options)


def test_a_changed_copy_is_checked() -> None:
    settings = Settings("m", tokens=("a" * 16,))
    assert replace(settings, batch=8) == Settings("m", batch=8, tokens=("a" * 16,))
    with pytest.raises(InputError, match="batch is 0; a whole number from 1 to 65,536"):
        replace(settings, batch=0)
    with pytest.raises(FrozenInstanceError):
        settings.batch = 8  # type: ignore[misc]


def test_no_secret_is_in_what_is_printed_of_the_settings() -> None:
    text = repr(Settings("m", tokens=("secret0123456789",)))
    assert text.startswith("Settings(model='m'")
    assert "secret" not in text


@pytest.mark.parametrize("name", [item.name for item in fields(Settings)])
def test_the_help_has_every_setting_and_its_bounds(name: str) -> None:
    lines = (inspect.getdoc(Settings) or "").splitlines()
    (line,) = [line for line in lines if line.startswith(f"`{name}`: ")]
    assert re.fullmatch(r"`\w+`: \S.*\. It is .+[^,]\.( Default: .+\.)?", line), line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "can't be read"),
        ("[" * 100_000, "can't be read"),
        ("[]", "no JSON object"),
        ('{"modell": 1}', "no setting 'modell'"),
        ('{"model": "m", "\\ud800": 1}', r"no setting '\\ud800'"),
        ("{}", "names no model"),
        ('{"model": 1}', "model is 1; a string is needed"),
        ('{"model": "m", "batch": "8"}', "batch is '8'; a whole number from 1"),
        ('{"model": "m", "batch": true}', "batch is True; a whole number from 1"),
        ('{"model": "m", "reload": 1}', "reload is 1; true or false"),
        ('{"model": "m", "tokens": "aaaaaaaaaaaaaaaaaaaaa"}', "tokens is no list of strings"),
        ('{"model": "m", "models": {"a": 1}}', "models: a is 1; a string is needed"),
        ('{"model": "m", "provider": "tpu"}', "provider is 'tpu'"),
        ('{"model": "m", "wait": null}', "wait is None"),
        ('{"model": null}', "model is None; a string is needed"),
        ('{"model": ""}', "model is ''; a string is needed"),
    ],
)
def test_wrong_files(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(InputError, match=words):
        Settings.read(tmp_path / "s.json")


def test_a_wrong_value_of_a_file_is_told_also_where_another_one_wins(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"model": null}')
    with pytest.raises(InputError, match=r"s.json: model is None"):
        Settings.read(tmp_path / "s.json", model="m")


def test_no_message_holds_a_token() -> None:
    for tokens in ("secret0123456789", ("secret012345678 9",), ("secret",), (["secret"],)):
        with pytest.raises(InputError) as error:
            Settings("m", tokens=tokens)  # type: ignore[arg-type]
        assert "secret" not in str(error.value)


@pytest.mark.parametrize("value", ["", " , ", ","])
def test_a_variable_of_tokens_without_one_is_refused(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a secret that is missing: the service would be open."""
    monkeypatch.setenv(MODEL_ENV, "m")
    monkeypatch.setenv(TOKENS_ENV, value)
    with pytest.raises(InputError, match=f"{TOKENS_ENV} is set, and holds no token"):
        Settings.from_environment()


def test_what_python_has_is_taken_as_it_is_kept() -> None:
    found = Settings(
        Path("bundle"),  # type: ignore[arg-type]
        models={"a": Path("other")},  # type: ignore[dict-item]
        batch=np.int64(8),  # type: ignore[arg-type]
        deadline=5,
        hosts=["a.example"],  # type: ignore[arg-type]
    )
    assert found == Settings(
        "bundle", models={"a": "other"}, batch=8, hosts=("a.example",), deadline=5.0
    )
    assert type(found.batch) is int


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fetch", "images.example.com"),
        ("fetch", "Images.example.com:8080"),
        ("fetch", "*.cdn.example.com"),
        ("fetch", "10.0.0.1:9000"),
        ("fetch", "::1"),
        ("fetch", "localhost"),
        ("origins", "https://shop.test"),
        ("origins", "http://localhost:3000"),
        ("origins", "http://[::1]:3000"),
        ("origins", "chrome-extension://abcdef"),
        ("origins", "*"),
        ("wait", 0),
        ("remember", 0),
        ("threads", None),
    ],
)
def test_what_is_taken(name: str, value: Any) -> None:
    kept = (value,) if isinstance(value, str) else value
    options: dict[str, Any] = {name: kept}
    assert getattr(Settings("m", **options), name) == kept


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "huge", "nan"])
def test_what_is_no_file_of_settings_is_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "settings.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        path.touch()
        os.truncate(path, 10 * 2**30)
    else:
        path.write_text('{"model": "m", "wait": NaN}')
    with pytest.raises(InputError, match="can't be read as the service's settings"):
        Settings.read(path)
