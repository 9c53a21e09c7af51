"""What Dagster's Helm chart makes of `deploy/kubernetes/values.yaml`; `DAGSTER_CHART` says where the chart is.

The chart comes from a Helm repository, and `helm` with it; these tests run where both are.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from analytics_assets_tests.deploy import cluster
from analytics_assets_tests.deploy.containers import DEPLOY, program
from analytics_assets_tests.deploy.test_deploy import outcome

pytestmark = pytest.mark.chart

VALUES = DEPLOY / "kubernetes" / "values.yaml"
HARDENED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def without_remote(schema: Any) -> Any:
    """The schema but for what it refers to on the network, which are Kubernetes's own: a test of theirs follows."""
    if isinstance(schema, dict):
        kept = {key: value for key, value in schema.items() if key != "$ref" or not value.startswith("http")}
        return {key: without_remote(value) for key, value in kept.items()}
    return [without_remote(value) for value in schema] if isinstance(schema, list) else schema


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the chart, whose schemas need no network."""
    given = os.environ.get("DAGSTER_CHART") or pytest.fail("DAGSTER_CHART is not set: make test-chart CHART=<folder>")
    copy = tmp_path_factory.mktemp("chart") / "dagster"
    shutil.copytree(given, copy)
    for file in copy.rglob("values.schema.json"):
        file.write_text(json.dumps(without_remote(json.loads(file.read_text()))))
    return copy


def render(chart: Path, values: Path) -> "subprocess.CompletedProcess[str]":
    """What Helm makes of the chart and these values, and says of them."""
    command = [program("helm"), "template", "analytics", str(chart), "-n", cluster.NAMESPACE, "-f", str(values)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def manifests(chart: Path) -> list[dict[str, Any]]:
    """The manifests that the chart makes."""
    done = render(chart, VALUES)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def test_the_schema_refuses_a_planted_error(chart: Path, tmp_path: Path) -> None:
    """The values are held to the chart's schema, which does not take a probe without `enabled`."""
    text = VALUES.read_text()
    assert "readinessProbe: {enabled: true, " in text
    (tmp_path / "values.yaml").write_text(text.replace("readinessProbe: {enabled: true, ", "readinessProbe: {"))
    assert "enabled" in render(chart, tmp_path / "values.yaml").stderr


def pods(manifests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The specifications of all pods."""
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield manifest["spec"]["template"]["spec"]


def test_every_manifest_is_valid(manifests: list[dict[str, Any]], tmp_path: Path) -> None:
    """Kubernetes knows every property of every manifest."""
    for number, manifest in enumerate(manifests):
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(manifest))
    accepted, said = outcome(program("kubernetes-validate"), "--strict", *map(str, tmp_path.glob("*.yaml")))
    assert accepted, said


def test_nobody_is_root(manifests: list[dict[str, Any]]) -> None:
    """No container of a pod may be root, gain rights or write to its root, and none listens below port 1024."""
    found = list(pods(manifests))
    assert len(found) == 4
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == HARDENED, container["name"]
            assert "limits" in container["resources"]
            assert all(port["containerPort"] > 1024 for port in container.get("ports", []))


def test_secrets_are_referred_to(manifests: list[dict[str, Any]]) -> None:
    """No manifest holds a secret."""
    assert not [manifest for manifest in manifests if manifest["kind"] == "Secret"]


def test_runs_are_launched_as_the_other_tests_have_it(manifests: list[dict[str, Any]]) -> None:
    """Of `dagster.yaml` the chart makes what `test_kubernetes` runs with."""
    [config] = [it for it in manifests if it["kind"] == "ConfigMap" and "dagster.yaml" in (it["data"] or {})]
    made = yaml.safe_load(config["data"]["dagster.yaml"])
    for name, wanted in cluster.instance().items():
        assert made[name] == wanted, name


def test_the_chart_knows_every_value() -> None:
    """No name in the values is one that the chart does not ask for."""
    text = "\n".join(file.read_text() for file in Path(os.environ["DAGSTER_CHART"]).rglob("*") if file.is_file()
                     and file.suffix in (".yaml", ".tpl"))  # fmt: skip
    ours = yaml.safe_load(VALUES.read_text())
    names = {name for name in ours if not name.startswith("x-")}
    for part in ("dagsterDaemon", "dagsterWebserver", "postgresql", "global", "retention", "pythonLogs"):
        names |= set(ours[part])
    names |= set(cluster.LAUNCHER) | set(cluster.DEPLOYMENT)
    names |= set(ours["dagsterDaemon"]["runMonitoring"]) | set(ours["dagsterDaemon"]["runRetries"])
    assert not [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)]
