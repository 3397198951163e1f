"""examples/deploy: what can be held without Docker or a cluster. The files are of one mind with
each other and with `mismatch serve`, and the commands run.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import yaml

import mismatch
from mismatch.cli.options import MODEL_ENV
from mismatch.cli.serve import command as serve
from mismatch.jobs.serve import GRACE
from mismatch.serving.app import create_app
from mismatch.serving.configuration import TOKENS_ENV, Settings
from mismatch.serving.setting_rules import SHORTEST_TOKEN
from tests.support.paths import ROOT
from tests.support.processes import PATIENCE, command_line, free_port, started

DEPLOY = ROOT / "examples" / "deploy"
TAGGED = re.compile(r"[\w./${}-]+:(?!latest$)[\w.${}-]+")


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile: (name, rest), continued lines joined."""
    lines = [
        line
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if not line.startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (name, rest)
        for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, rest))
    return found


def only(stage: list[tuple[str, str]], name: str) -> str:
    [rest] = [rest for said, rest in stage if said == name]
    return rest


BUILDER, RUNTIME = stages()
COMMAND: list[str] = json.loads(only(RUNTIME, "CMD"))
HEALTH: list[str] = json.loads(only(RUNTIME, "HEALTHCHECK").partition("CMD ")[2])
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"][
    "mismatch"
]
MANIFESTS: dict[str, dict[str, Any]] = {
    one["kind"]: one for one in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
}
POD: dict[str, Any] = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]
LABELS = {"app.kubernetes.io/name": "mismatch"}


def options_of(command: list[str]) -> dict[str, str]:
    """`mismatch serve --a b` → {--a: b}, each an option that the command has and a value that it
    takes.
    """
    assert command[:2] == ["mismatch", "serve"]
    known = {
        name: option
        for option in serve.params
        if isinstance(option, click.Option)
        for name in option.opts
    }
    given = dict(zip(command[2::2], command[3::2], strict=True))
    for name, value in given.items():
        known[name].type.convert(value, known[name], None)
    return given


def routes() -> set[str]:
    return {getattr(route, "path", "") for route in create_app(Settings("m")).routes}


def test_the_image_has_two_stages_of_one_base_that_names_its_version() -> None:
    bases = [only(stage, "FROM").split(" AS ") for stage in (BUILDER, RUNTIME)]
    assert bases[0][0] == bases[1][0]
    assert TAGGED.fullmatch(bases[0][0])
    assert [name for _, name in bases] == ["builder", "runtime"]
    assert instructions()[0] == ("ARG", "PYTHON_VERSION=3.11")
    assert not [
        rest for name, rest in RUNTIME if name == "RUN" and re.search(r"\b(pip|apt-get)\b", rest)
    ]


def test_what_runs_has_the_extra_serve_and_no_other() -> None:
    runs = " ".join(rest for name, rest in BUILDER if name == "RUN")
    assert set(re.findall(r"\[(\w+(?:,\w+)*)\]", runs)) == {"serve"}
    assert "--without-pip" in runs
    copies = [rest for name, rest in RUNTIME if name in ("COPY", "ADD")]
    assert copies == ["--from=builder /opt/mismatch /opt/mismatch"]


def test_it_runs_as_nobody_in_particular_and_ends_by_sigterm() -> None:
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", only(RUNTIME, "USER"))
    assert [name for name, _ in RUNTIME].index("USER") < [name for name, _ in RUNTIME].index("CMD")
    assert only(RUNTIME, "STOPSIGNAL") == "SIGTERM"
    assert f"{MODEL_ENV}=/model" in only(RUNTIME, "ENV")


def test_one_port_and_routes_that_exist() -> None:
    options = options_of(COMMAND)
    assert options == {"--host": "0.0.0.0", "--port": only(RUNTIME, "EXPOSE")}
    [path] = re.findall(rf"http://127\.0\.0\.1:{options['--port']}(/\w+)", HEALTH[-1])
    assert path in routes()


def test_the_build_sees_what_it_copies_and_no_more() -> None:
    patterns = [
        line
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert patterns[0] == "*"
    kept = {line.removeprefix("!") for line in patterns if line.startswith("!")}
    copied = {source for name, rest in BUILDER if name == "COPY" for source in rest.split()[:-1]}
    assert copied == kept
    assert [name for name in sorted(kept) if not (ROOT / name).exists()] == []
    assert any(fnmatch.fnmatch("mismatch/__pycache__", line) for line in patterns)
    build = (ROOT / "pyproject.toml").read_text()
    assert 'readme = "README.md"' in build
    assert 'license-files = ["LICENSE"]' in build


def test_the_images_command_and_its_health_check_work_together(
    tiny_bundles: dict[str, Path],
) -> None:
    """As the image runs them, but for the port, which may be taken here."""
    programs = {"mismatch": command_line(), "python": [sys.executable]}
    port = str(free_port())
    command, health = (
        [*programs[words[0]], *(word.replace("8000", port) for word in words[1:])]
        for words in (COMMAND, HEALTH)
    )
    environment = os.environ | {MODEL_ENV: str(tiny_bundles["openclip"]), "OMP_NUM_THREADS": "1"}

    def healthy() -> bool:
        return subprocess.run(health, capture_output=True).returncode == 0

    assert not healthy()
    with started(command, stderr=subprocess.DEVNULL, env=environment) as process:
        until = time.monotonic() + PATIENCE
        while not healthy():
            assert process.poll() is None
            assert time.monotonic() < until
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not healthy()


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def test_compose_runs_that_image_with_no_more_rights_than_it_needs() -> None:
    assert TAGGED.fullmatch(COMPOSE["image"])
    assert COMPOSE["image"].endswith(f":{mismatch.__version__}")
    assert (
        DEPLOY / COMPOSE["build"]["context"] / COMPOSE["build"]["dockerfile"]
    ).resolve() == DEPLOY / "Dockerfile"
    assert COMPOSE["user"] == only(RUNTIME, "USER")
    assert COMPOSE["read_only"] is True
    assert COMPOSE["tmpfs"][0].startswith("/tmp:")
    assert COMPOSE["cap_drop"] == ["ALL"]
    assert COMPOSE["security_opt"] == ["no-new-privileges:true"]
    assert set(COMPOSE["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    [volume] = COMPOSE["volumes"]
    assert (volume["target"], volume["read_only"]) == ("/model", True)
    [published] = COMPOSE["ports"]
    assert published.split(":")[0] == "127.0.0.1"
    assert published.split(":")[-1] == only(RUNTIME, "EXPOSE")


def test_compose_checks_as_the_image_does_and_waits_longer_than_the_service() -> None:
    assert COMPOSE["healthcheck"]["test"] == ["CMD", *HEALTH]
    for name in ("interval", "timeout", "start_period", "retries"):
        assert f"--{name.replace('_', '-')}={COMPOSE['healthcheck'][name]} " in only(
            RUNTIME, "HEALTHCHECK"
        )
    assert seconds(COMPOSE["stop_grace_period"]) > GRACE
    [name] = COMPOSE["environment"]
    assert name == TOKENS_ENV
    assert f"of {SHORTEST_TOKEN} characters or more" in COMPOSE["environment"][name]


def test_the_kinds_that_a_service_needs_select_its_pods() -> None:
    assert set(MANIFESTS) == {
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "NetworkPolicy",
    }
    specs = {kind: one["spec"] for kind, one in MANIFESTS.items()}
    assert {one["metadata"]["name"] for one in MANIFESTS.values()} == {"mismatch"}
    assert specs["Deployment"]["template"]["metadata"]["labels"] == LABELS
    selectors = [
        specs["Deployment"]["selector"]["matchLabels"],
        specs["Service"]["selector"],
        specs["PodDisruptionBudget"]["selector"]["matchLabels"],
    ]
    selectors += [
        specs["NetworkPolicy"]["podSelector"]["matchLabels"],
        POD["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ]
    assert selectors == [LABELS] * 5
    target = specs["HorizontalPodAutoscaler"]["scaleTargetRef"]
    assert (target["kind"], target["name"], target["apiVersion"]) == (
        "Deployment",
        "mismatch",
        MANIFESTS["Deployment"]["apiVersion"],
    )
    assert (
        specs["PodDisruptionBudget"]["minAvailable"]
        < specs["HorizontalPodAutoscaler"]["minReplicas"]
    )
    assert "replicas" not in specs["Deployment"]  # two masters would fight over it


def test_probes_ports_and_figures_are_the_services_own() -> None:
    [container_port] = CONTAINER["ports"]
    annotations = MANIFESTS["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    probes = {
        kind: CONTAINER[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")
    }
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startup": "/readyz",
        "readiness": "/readyz",
        "liveness": "/healthz",
    }
    assert {probe["path"] for probe in probes.values()} | {
        annotations["prometheus.io/path"]
    } <= routes()
    assert {probe["port"] for probe in probes.values()} == {container_port["name"]}
    [service_port] = MANIFESTS["Service"]["spec"]["ports"]
    [rule] = MANIFESTS["NetworkPolicy"]["spec"]["ingress"]
    assert service_port["targetPort"] == rule["ports"][0]["port"] == container_port["name"]
    port = options_of(CONTAINER["args"])["--port"]
    assert (
        port
        == str(container_port["containerPort"])
        == annotations["prometheus.io/port"]
        == only(RUNTIME, "EXPOSE")
    )


def test_a_pod_ends_later_than_the_service_and_has_as_many_threads_as_cpus() -> None:
    before = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["terminationGracePeriodSeconds"] > before + GRACE
    assert options_of(CONTAINER["args"])["--threads"] == CONTAINER["resources"]["limits"]["cpu"]
    assert CONTAINER["resources"]["requests"] == CONTAINER["resources"]["limits"]


def test_a_pod_has_no_more_rights_than_it_needs() -> None:
    user, group = map(int, only(RUNTIME, "USER").split(":"))
    assert POD["automountServiceAccountToken"] is False
    context = POD["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (
        True,
        user,
        group,
    )
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [CONTAINER, *POD["initContainers"]]:
        assert TAGGED.fullmatch(container["image"])
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
    mounts = {one["mountPath"]: one for one in CONTAINER["volumeMounts"]}
    assert mounts["/model"]["readOnly"] is True
    assert {one["name"] for one in mounts.values()} == {one["name"] for one in POD["volumes"]}
    assert options_of(CONTAINER["args"])["--model"] == "/model"
    [variable] = CONTAINER["env"]
    assert variable["name"] == TOKENS_ENV
    assert "value" not in variable
    assert MANIFESTS["NetworkPolicy"]["spec"]["egress"] == []


def test_the_notes_name_files_and_settings_that_exist() -> None:
    notes = (DEPLOY / "kubernetes.md").read_text()
    for target in re.findall(r"\]\(([^)]+)\)", notes):
        assert (DEPLOY / target).exists(), target
    assert set(re.findall(r"`(/(?:readyz|healthz|metrics))`", notes)) <= routes()
    assert set(re.findall(r"`(--[\w-]+)`", notes)) <= {
        name for option in serve.params for name in option.opts
    }
    assert CONTAINER["env"][0]["valueFrom"]["secretKeyRef"]["name"] in notes
