"""What Dagster's Helm chart makes of `deploy/kubernetes/values.yaml`; `DAGSTER_CHART` says where the chart is.

The chart comes from a Helm repository, and `helm` with it; these tests run where both are.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from analytics_assets_tests import cluster
from analytics_assets_tests.containers import DEPLOY, program
from analytics_assets_tests.test_deploy import outcome

pytestmark = pytest.mark.chart

HARDENED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def rendered() -> list[dict[str, Any]]:
    """The manifests, by the chart. Its schema is left out: it refers to others on the network."""
    chart = os.environ.get("DAGSTER_CHART") or pytest.fail("DAGSTER_CHART is not set: make test-chart CHART=<folder>")
    values = str(DEPLOY / "kubernetes" / "values.yaml")
    command = [program("helm"), "template", "analytics", chart, "-n", cluster.NAMESPACE, "-f", values]
    done = subprocess.run([*command, "--skip-schema-validation"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    return rendered()


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
    ours = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
    names = {name for name in ours if not name.startswith("x-")}
    for part in ("dagsterDaemon", "dagsterWebserver", "postgresql", "global", "retention", "pythonLogs"):
        names |= set(ours[part])
    names |= set(cluster.LAUNCHER) | set(cluster.DEPLOYMENT)
    names |= set(ours["dagsterDaemon"]["runMonitoring"]) | set(ours["dagsterDaemon"]["runRetries"])
    assert not [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)]
