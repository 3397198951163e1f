"""The registry of backbone families, with plugins installed as real distributions in a temporary
folder.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import mismatch
from mismatch.backbones import registry
from mismatch.backbones.families import BackboneFamily
from mismatch.backbones.hookspecs import API_VERSION, register_backbones
from mismatch.errors import (
    BackboneError,
    CheckpointError,
    DeviceError,
    MismatchWarning,
    MissingExtraError,
)
from mismatch.training.engine import open_checkpoint

Install = Callable[..., None]
BUILT_IN = {"hf-clip", "openclip"}

PLUGIN = """
from mismatch import hookimpl

def load(model_id):
    {load}

@hookimpl
def register_backbones(register):
    {hook}
"""


def plugin(hook: str, load: str = "return model_id") -> str:
    return PLUGIN.format(hook=hook, load=load)


LIT = plugin(
    'register("lit", load, models=["base", "tiny"], default_model="tiny", description="a third party",'
    " api_version=1)"
)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a plugin as `pip` would: a module, and a .dist-info with an entry point
    of the group.
    """
    monkeypatch.delenv(registry.DISABLE, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    modules: list[str] = []

    def add(
        source: str,
        distribution: str = "mismatch-lit",
        entry: str = "lit",
        module: str = "mismatch_lit_test",
        version: str = "2.5",
        attribute: str = "",
    ) -> None:
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        (info / "entry_points.txt").write_text(f"[mismatch]\n{entry} = {module}{attribute}\n")
        modules.append(module)
        importlib.invalidate_caches()
        registry.refresh()

    yield add
    for module in modules:
        sys.modules.pop(module, None)
    registry.refresh()


def quietly() -> dict[str, BackboneFamily]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MismatchWarning)
        return registry.families()


def test_the_built_in_families_come_in_by_their_entry_points() -> None:
    found = registry.families()
    assert set(found) >= BUILT_IN
    for name in BUILT_IN:
        assert (found[name].distribution, found[name].version, found[name].api_version) == (
            "mismatch-clip",
            mismatch.__version__,
            API_VERSION,
        )
        assert "tiny" in found[name].models
        assert found[name].description
    assert found["hf-clip"].default_model == "openai/clip-vit-base-patch32"


def test_listing_loads_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "open_clip", "onnxruntime", "numpy"}
    code = (
        "import sys; from mismatch.backbones import families; assert families();"
        f" print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_stranger_is_registered_with_its_origin(install: Install) -> None:
    install(LIT)
    lit = registry.families()["lit"]
    assert (lit.models, lit.default_model, lit.description) == (
        ("base", "tiny"),
        "tiny",
        "a third party",
    )
    assert (lit.distribution, lit.version, lit.entry_point, lit.module) == (
        "mismatch-lit",
        "2.5",
        "lit",
        "mismatch_lit_test",
    )
    assert registry.parse_reference("lit") == ("lit", "tiny")
    assert set(registry.families()) == BUILT_IN | {"lit"}
    assert list(registry.families()) == sorted(registry.families())


def test_the_first_model_is_the_default_and_the_api_version_is_1_unless_said(
    install: Install,
) -> None:
    install(plugin('register("lit", load, models=("base", "tiny"))'))
    lit = registry.families()["lit"]
    assert (lit.default_model, lit.api_version, lit.description) == ("base", 1, "")


BROKEN = {
    "import": ("import there_is_no_such_module", "there_is_no_such_module"),
    "syntax": ("def (", "SyntaxError"),
    "exit": ("raise SystemExit(3)", "SystemExit: 3"),
    "hook raises": (
        plugin("raise RuntimeError('the\\nhook is ill')"),
        "RuntimeError: the hook is ill",
    ),
    "late": (plugin('register("lit", load, models=["a"]); 1 / 0'), "ZeroDivisionError"),
    "no hook": ("x = 1", "implements no hook"),
    "misspelt hook": (
        "from mismatch import hookimpl\n@hookimpl\ndef register_backbone(register): pass",
        "register_backbone",
    ),
    "wrong argument": (
        "from mismatch import hookimpl\n@hookimpl\ndef register_backbones(registrar): pass",
        "registrar",
    ),
    "newer API": (
        plugin(f'register("lit", load, models=["a"], api_version={API_VERSION + 1})'),
        "upgrade mismatch-clip",
    ),
    "older API": (
        plugin('register("lit", load, models=["a"], api_version=0)'),
        "upgrade the plugin",
    ),
    "no API": (plugin('register("lit", load, models=["a"], api_version="1")'), "api_version '1'"),
    "load": (plugin('register("lit", "load", models=["a"])'), "can't be called"),
    "no models": (plugin('register("lit", load, models=[])'), "needs models"),
    "one string": (plugin('register("lit", load, models="tiny")'), "needs models"),
    "default": (plugin('register("lit", load, models=["a"], default_model="b")'), "'b'"),
    "name": (plugin('register("Lit:1", load, models=["a"])'), "'Lit:1' is not usable"),
    "twice": (
        plugin('register("lit", load, models=["a"]); register("lit", load, models=["a"])'),
        "twice",
    ),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_one_warning_and_takes_no_other_down(
    install: Install, source: str, reason: str
) -> None:
    install(source)
    install(
        plugin('register("well", load, models=["a"])'),
        distribution="mismatch-well",
        entry="well",
        module="mismatch_well_test",
    )
    with pytest.warns(MismatchWarning) as caught:
        found = registry.families()
    assert len(caught) == 1
    message = str(caught[0].message)
    assert reason in message
    assert "'lit' (mismatch_lit_test of mismatch-lit 2.5)" in message
    assert "\n" not in message
    assert set(found) == BUILT_IN | {"well"}
    assert [(p.entry_point, p.distribution, p.message) for p in registry.problems()] == [
        ("lit", "mismatch-lit", message)
    ]
    assert "Traceback" in registry.problems()[0].trace
    # a second question warns no more: warnings are errors here
    assert set(registry.families()) == set(found)


def test_an_entry_point_that_names_nothing_is_broken(install: Install) -> None:
    install(LIT, attribute=":absent")
    with pytest.warns(MismatchWarning, match="absent"):
        assert set(registry.families()) == BUILT_IN


def test_a_name_clash_is_reported_and_the_first_distribution_wins(install: Install) -> None:
    install(
        plugin('register("lit", load, models=["b"])'),
        distribution="b-dist",
        module="mismatch_b_test",
        version="2.0",
    )
    install(
        plugin('register("lit", load, models=["a"])'),
        distribution="a-dist",
        module="mismatch_a_test",
        version="1.0",
    )
    with pytest.warns(MismatchWarning) as caught:
        assert registry.families()["lit"].distribution == "a-dist"
    assert len(caught) == 1
    assert (
        "'lit' is offered by a-dist 1.0 (mismatch_a_test) and by b-dist 2.0 (mismatch_b_test); the"
        " first is used" in str(caught[0].message)
    )
    assert "MISMATCH_DISABLE_PLUGINS=mismatch_a_test" in str(caught[0].message)


def test_the_advice_on_a_clash_works(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        plugin('register("lit", load, models=["b"])'),
        distribution="b-dist",
        module="mismatch_b_test",
    )
    install(
        plugin('register("lit", load, models=["a"])'),
        distribution="a-dist",
        module="mismatch_a_test",
    )
    monkeypatch.setenv(registry.DISABLE, "mismatch_a_test")
    assert registry.families()["lit"].distribution == "b-dist"


def test_a_stranger_can_not_take_a_built_in_name_but_keeps_its_own(install: Install) -> None:
    install(
        plugin('register("openclip", load, models=["a"]); register("own", load, models=["a"])'),
        distribution="aaa",
        entry="aaa",
        module="mismatch_aaa_test",
    )
    with pytest.warns(MismatchWarning, match=r"mismatch-clip .* and by aaa 2\.5"):
        found = registry.families()
    assert found["openclip"].distribution == "mismatch-clip"
    assert found["own"].distribution == "aaa"


@pytest.mark.parametrize(
    "value",
    ["lit", "LIT", "mismatch-lit", "mismatch_lit", "mismatch_lit_test", " lit , nothing", "lit,"],
)
def test_plugins_can_be_switched_off(
    install: Install, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    install("raise RuntimeError('must not even be imported')")
    monkeypatch.setenv(registry.DISABLE, value)
    assert set(registry.families()) == BUILT_IN
    assert registry.problems() == []


def test_a_switched_off_family_says_so(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(LIT)
    monkeypatch.setenv(registry.DISABLE, "lit,openclip,hf_clip")
    assert registry.families() == {}
    with pytest.raises(
        BackboneError,
        match=r"'lit' is unknown \(switched off by MISMATCH_DISABLE_PLUGINS\); installed: none",
    ):
        registry.family("lit")


def test_a_broken_family_says_why(install: Install) -> None:
    install(BROKEN["hook raises"][0])
    with (
        pytest.warns(MismatchWarning),
        pytest.raises(BackboneError, match=r"'lit' is unknown .*the hook is ill"),
    ):
        registry.family("lit")


@pytest.mark.parametrize(
    ("reference", "model_name", "expected"),
    [
        ("openclip", None, ("openclip", "ViT-B-32/laion2b_s34b_b79k")),
        ("openclip", "", ("openclip", "ViT-B-32/laion2b_s34b_b79k")),
        ("openclip", "tiny", ("openclip", "tiny")),
        ("openclip:tiny", None, ("openclip", "tiny")),
        ("openclip:tiny", "tiny", ("openclip", "tiny")),
        ("openclip:ViT-B-32/openai", None, ("openclip", "ViT-B-32/openai")),
        ("hf-clip", None, ("hf-clip", "openai/clip-vit-base-patch32")),
        ("hf-clip:C:\\models\\mine", None, ("hf-clip", "C:\\models\\mine")),
        (
            "hf-clip",
            "./fine_tuned_clip/checkpoint_epoch_5",
            ("hf-clip", "./fine_tuned_clip/checkpoint_epoch_5"),
        ),
    ],
)
def test_references(reference: str, model_name: str | None, expected: tuple[str, str]) -> None:
    assert registry.parse_reference(reference, model_name) == expected


@pytest.mark.parametrize(
    ("reference", "model_name", "reason"),
    [
        (
            "opneclip",
            None,
            "'opneclip' is unknown; did you mean 'openclip'?; installed: hf-clip, openclip",
        ),
        ("hfclip:tiny", None, "did you mean 'hf-clip'?"),
        ("OpenCLIP", None, "did you mean 'openclip'?"),
        ("zzz", None, "'zzz' is unknown; installed: hf-clip, openclip"),
        ("", None, "'' is unknown"),
        ("openclip:", None, "no model after the colon"),
        ("openclip:tiny", "ViT-B-32/openai", "name two models"),
        (
            "openai/clip-vit-base-patch32",
            None,
            "looks like a model's name, not a family (hf-clip, openclip)",
        ),
        ("openai/clip-vit-base-patch32", None, "`model_name=openai/clip-vit-base-patch32`"),
        ("{folder}", None, "looks like a folder, not a family"),
    ],
)
def test_references_that_are_refused(
    tmp_path: Path, reference: str, model_name: str | None, reason: str
) -> None:
    with pytest.raises(BackboneError) as caught:
        registry.parse_reference(reference.format(folder=tmp_path), model_name)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_tiny_is_loaded_without_a_network(name: str) -> None:
    backbone = registry.load_backbone(name, "tiny")
    pixel_values = torch.zeros(2, 3, backbone.image_spec.size, backbone.image_spec.size)
    assert backbone.model_id == "tiny"
    assert backbone.encode_image(pixel_values).shape == (2, backbone.image_dim)


@pytest.mark.parametrize(
    ("load", "kind", "reason"),
    [
        (
            "raise RuntimeError('two\\nlines')",
            BackboneError,
            "backbone lit:tiny could not be loaded: RuntimeError: two lines",
        ),
        ("raise BackboneError('no such weights')", BackboneError, "no such weights"),
        ("raise DeviceError('no CUDA here')", DeviceError, "no CUDA here"),
        (
            "import there_is_no_such_module",
            BackboneError,
            "'lit' of mismatch-lit 2.5 can't import what it needs: ModuleNotFoundError",
        ),
        ("return object()", BackboneError, "loads a object, not a mismatch Backbone"),
    ],
)
def test_a_load_that_fails_is_one_line(
    install: Install, load: str, kind: type[Exception], reason: str
) -> None:
    install(
        "from mismatch.errors import BackboneError, DeviceError\n"
        + plugin('register("lit", load, models=["tiny"])', load)
    )
    with pytest.raises(kind) as caught:
        registry.load_backbone("lit")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_model_gets_the_nearest_known_name(install: Install) -> None:
    install(
        "from mismatch.errors import BackboneError\n"
        + plugin(
            'register("lit", load, models=["ViT-B-32", "tiny"])',
            "raise BackboneError(f'{model_id!r} is unknown')",
        )
    )
    with pytest.raises(BackboneError, match=r"^'vit-b32' is unknown; did you mean 'ViT-B-32'\?$"):
        registry.load_backbone("lit:vit-b32")
    with pytest.raises(BackboneError, match=r"^'ViT-B-32' is unknown$"):
        registry.load_backbone("lit:ViT-B-32")


def test_a_hook_that_registers_nothing_is_a_problem(install: Install) -> None:
    install(plugin("pass"))
    assert set(quietly()) == BUILT_IN
    [problem] = registry.problems_of("mismatch_lit_test")
    assert (
        "registers no family; call register(NAME, load, models=[…]) in its hook" in problem.message
    )


def test_a_wrong_argument_of_register_is_named(install: Install) -> None:
    install(plugin('register("lit", load, ["tiny"])'))
    quietly()
    [problem] = registry.problems()
    assert "TypeError: register() takes 2 positional arguments but 3 were given" in problem.message


@pytest.mark.parametrize("name", ["lit", "mismatch-lit", "Mismatch_Lit", "mismatch_lit_test"])
def test_a_family_is_found_by_any_of_its_names(install: Install, name: str) -> None:
    install(LIT)
    found = registry.family_of(name)
    assert found is not None
    assert found.name == "lit"
    assert registry.family_of("nothing") is None


def test_a_built_in_family_without_its_extra_gives_the_pip_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mismatch_openclip.loading", None)
    with pytest.raises(MissingExtraError, match=r'pip install "mismatch-clip\[train\]"'):
        registry.load_backbone("openclip:tiny")


def test_the_hook_is_what_the_documentation_says() -> None:
    assert register_backbones.__doc__
    assert register_backbones.__code__.co_varnames == ("register",)


@pytest.mark.parametrize(
    ("pattern", "models"),
    [
        ("*", ["hf-clip:tiny", "openclip:ViT-B-32/laion2b_s34b_b79k", "openclip:tiny"]),
        ("openclip", ["openclip:ViT-B-32/laion2b_s34b_b79k", "openclip:tiny"]),
        ("*vit-b*", ["openclip:ViT-B-32/laion2b_s34b_b79k"]),
        ("hf-clip:*", ["hf-clip:tiny"]),
        ("*siglip*", []),
    ],
)
def test_models_are_listed_by_pattern(
    pattern: str, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def family(name: str, *models: str) -> BackboneFamily:
        origin = ("d", "1", "e", "m")
        load: Any = str
        return BackboneFamily(name, load, models, models[0], "", 1, *origin)

    openclip = family("openclip", "ViT-B-32/laion2b_s34b_b79k", "tiny")
    found = registry.Registry({"hf-clip": family("hf-clip", "tiny"), "openclip": openclip}, ())
    monkeypatch.setattr(registry, "_installed", lambda: found)
    assert mismatch.list_models(pattern) == models


def test_list_models_imports_no_torch() -> None:
    code = (
        "import sys, mismatch; assert 'hf-clip:tiny' in mismatch.list_models();"
        " print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("value", ["lit", "Mismatch_LIT", "mismatch_lit_test"])
def test_a_family_is_switched_off_by_any_name_of_its_plugin(
    install: Install, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    install(LIT)
    monkeypatch.setenv(registry.DISABLE, value)
    registry.refresh()
    for refused in (
        lambda: registry.family("lit"),
        lambda: registry.require_family("lit", "mismatch-lit", "2.5"),
        lambda: registry.require_family("other", "mismatch-lit", "2.5"),
    ):
        with pytest.raises(BackboneError, match=r"switched off by MISMATCH_DISABLE_PLUGINS"):
            refused()
    with pytest.raises(CheckpointError, match=r"called that \(switched off by MISMATCH_DISABLE"):
        open_checkpoint("lit:tiny")


@pytest.mark.parametrize(
    ("distribution", "version", "line"),
    [
        ("mismatch-ngram", "0.1.0", "pip install mismatch-ngram==0.1.0"),
        ("--index-url=http://x", "0.1.0", ""),
        ("mismatch-ngram", "1; rm -rf", ""),
        ("mismatch-clip", "0.1.0", ""),
    ],
)
def test_a_model_whose_plugin_is_missing_says_how_to_get_it(
    distribution: str, version: str, line: str
) -> None:
    with pytest.raises(BackboneError, match="'ngram', which is not installed") as caught:
        registry.require_family("ngram", distribution, version)
    assert line in str(caught.value)
    assert ("pip install" in str(caught.value)) == bool(line)
    registry.require_family("hf-clip", "anything", "0")
