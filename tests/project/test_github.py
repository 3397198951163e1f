"""Workflows and forms in .github: they fit GitHub's schemas, and call what checks the project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.paths import ROOT

GITHUB = ROOT / ".github"
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
SCHEMAS = {
    **dict.fromkeys(sorted((GITHUB / "workflows").glob("*.yml")), "vendor.github-workflows"),
    **dict.fromkeys([path for path in FORMS if path.stem != "config"], "vendor.github-issue-forms"),
    GITHUB / "ISSUE_TEMPLATE" / "config.yml": "vendor.github-issue-config",
}


@pytest.mark.parametrize(("path", "schema"), SCHEMAS.items(), ids=[path.name for path in SCHEMAS])
def test_a_file_fits_its_schema(path: Path, schema: str) -> None:
    pytest.importorskip("check_jsonschema", reason="pip install check-jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_runs_what_runs_here_and_the_light_part_elsewhere() -> None:
    jobs = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())["jobs"]
    everything = [step.get("run") for step in jobs["everything"]["steps"]]
    assert ".ci/run" in everything
    assert {"macos-latest", "windows-latest"} <= set(jobs["light"]["strategy"]["matrix"]["os"])
    assert "python .ci/matrix here" in [step.get("run") for step in jobs["light"]["steps"]]
    releases = yaml.safe_load((GITHUB / "workflows" / "release.yml").read_text())["jobs"]
    assert ".ci/release" in [step.get("run") for step in releases["build"]["steps"]]


def test_a_bug_report_asks_for_the_doctor() -> None:
    form = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / "bug.yml").read_text())
    [doctor] = [part for part in form["body"] if part.get("id") == "doctor"]
    assert "mismatch doctor" in doctor["attributes"]["label"]
    assert doctor["validations"]["required"]


def test_only_systems_on_which_tests_have_run_are_called_tested() -> None:
    assert "Tests have run on Linux" in (ROOT / "README.md").read_text()
    assert "Tests have run on Linux" in (ROOT / "docs" / "install.md").read_text()
