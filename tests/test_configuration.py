"""The service's settings: from a file, from the environment, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

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
    ("content", "words"),
    [
        ("{", "can't be read"),
        ("[" * 100_000, "can't be read"),
        ("[]", "no JSON object"),
        ('{"modell": 1}', "no setting 'modell'"),
        ("{}", "names no model"),
        ('{"model": 1}', "model is 1, which is no str"),
        ('{"model": "m", "batch": "8"}', "batch is '8', which is no int"),
        ('{"model": "m", "batch": true}', "batch is True, which is no int"),
        ('{"model": "m", "reload": 1}', "reload is 1, which is no bool"),
        ('{"model": "m", "tokens": "aaaaaaaaaaaaaaaaaaaaa"}', "tokens is 'aaaaaaaaaaaaaaaaaaaaa'"),
        ('{"model": "m", "models": {"a": 1}}', "models is {'a': 1}"),
        ('{"model": "m", "provider": "tpu"}', "provider is 'tpu'"),
        ('{"model": "m", "wait": null}', "wait is None"),
    ],
)
def test_wrong_files(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(InputError, match=words):
        Settings.read(tmp_path / "s.json")


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
