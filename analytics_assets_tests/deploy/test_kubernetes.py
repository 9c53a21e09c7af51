"""A pod a run: the launcher, the queue and the run monitoring of `deploy/kubernetes` against an API of Kubernetes's."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests
import yaml

from analytics_assets.sample_api.academy import SIZES
from analytics_assets.sample_api.process import running
from analytics_assets_tests import postgres
from analytics_assets_tests.defs.browsing import free_port, wait_for
from analytics_assets_tests.deploy import cluster as kubernetes
from analytics_assets_tests.deploy.cluster import DEPLOYMENT, LAUNCHER, Cluster
from analytics_assets_tests.deploy.containers import BIN, descendants, installed, pages_kept, program

pytestmark = pytest.mark.deploy

KEY = "the-token-of-the-api"


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    """The sample API."""
    with running("--token", KEY) as url:
        yield url


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.serving() as server:
        yield server


@pytest.fixture(scope="module")
def cluster(api: str, server: postgres.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with nothing in it, and the settings and secrets of a deployment."""
    folder = tmp_path_factory.mktemp("cluster")
    for name in ("secrets", "state", "home"):
        (folder / name).mkdir()
    secrets = {
        "api-key": f"{KEY}\n",
        "destination--warehouse--credentials": server.url(server.new_database()),
        "api-budget-url": server.url(server.new_database()),
    }
    for name, value in secrets.items():
        (folder / "secrets" / name).write_text(value)
    environment = {"DAGSTER_PG_PASSWORD": postgres.PASSWORD, "API_BASE_URL": api, "AUTOMATION": "stopped"}
    home = folder / "home"
    found = Cluster(
        installed(folder / "site"), folder / "secrets", folder / "state", home / "dagster.yaml", environment
    )
    with kubernetes.serving(found):
        (home / "kubeconfig").write_text(yaml.safe_dump(kubernetes.kubeconfig(found)))
        settings = kubernetes.instance()
        where = {"load_incluster_config": False, "kubeconfig_file": str(home / "kubeconfig")}
        settings["run_launcher"]["config"] |= where
        database = {"hostname": "127.0.0.1", "port": server.port, "params": {}}
        database |= {"username": postgres.LOADER, "db_name": server.new_database()}
        for storage in ("run_storage", "event_log_storage", "schedule_storage"):
            settings[storage]["config"]["postgres_db"] |= database
        settings["run_monitoring"]["poll_interval_seconds"] = 2
        found.instance_yaml.write_text(yaml.safe_dump(settings))
        yield found


@pytest.fixture(scope="module")
def instance(cluster: Cluster) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance, with code server and daemon at work."""
    home, port = cluster.instance_yaml.parent, free_port()
    code_server = {"host": "127.0.0.1", "port": port, "location_name": "analytics_assets"}
    (home / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": code_server}]}))
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("DAGSTER_PG_PASSWORD", postgres.PASSWORD)
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        image = {"name": "DAGSTER_CURRENT_IMAGE", "value": "{repository}:{tag}".format(**DEPLOYMENT["image"])}
        pod = {"volumes": DEPLOYMENT["volumes"], "securityContext": DEPLOYMENT["podSecurityContext"]}
        server = cluster.pod(pod, {"env": [*DEPLOYMENT["env"], image], "volumeMounts": DEPLOYMENT["volumeMounts"]})
        serve = ["dagster", "api", "grpc", "-h", "127.0.0.1", "-p", str(port), *DEPLOYMENT["dagsterApiGrpcArgs"]]
        env = {**os.environ, "DAGSTER_HOME": str(home)}
        for command in ([*server, *serve], [str(BIN / "dagster-daemon"), "run", "-w", str(home / "workspace.yaml")]):
            log = stack.enter_context((home / Path(command[0]).name).open("ab"))
            process = subprocess.Popen(command, cwd=home, env=env, stdout=log, stderr=log, start_new_session=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield instance


def launch(cluster: Cluster, job: str) -> None:
    """Put a run of this job into the queue, as a person does at a terminal once the code server answers."""
    home = cluster.instance_yaml.parent
    options = ["-w", str(home / "workspace.yaml"), "--location", "analytics_assets", "-j", job]
    command, env = [str(BIN / "dagster"), "job", "launch", *options], {**os.environ, "DAGSTER_HOME": str(home)}
    wait_for(
        lambda: subprocess.run(command, cwd=home, env=env, capture_output=True, check=False).returncode == 0,
        f"{job} cannot be launched",
    )


def runs(instance: dg.DagsterInstance, job: str) -> dict[str, str]:
    """The status of each run of the job, the oldest first."""
    found = instance.get_runs(dg.RunsFilter(job_name=job))
    return {run.run_id: run.status.value for run in reversed(found)}


def rows(cluster: Cluster, query: str) -> list[tuple[Any, ...]]:
    """What the warehouse answers."""
    return postgres.ask((cluster.secrets / "destination--warehouse--credentials").read_text(), query)


def job_of(run: str) -> str:
    """The name that the launcher gives to the job of a run."""
    return f"dagster-run-{run}"


def test_a_run_has_a_pod_of_its_own(cluster: Cluster, instance: dg.DagsterInstance) -> None:
    """A run from the queue is a job that Kubernetes accepts, with a pod that may do little, and fills its table."""
    launch(cluster, "users_job")
    wait_for(lambda: "SUCCESS" in runs(instance, "users_job").values(), "no run succeeds", 120)
    [run] = runs(instance, "users_job")
    job = cluster.jobs[job_of(run)]
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert rows(cluster, "SELECT count(*) FROM users") == [(SIZES["users"],)]
    assert container["image"] == "registry.example.com/analytics-assets:1"
    assert container["resources"] == LAUNCHER["resources"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod["automountServiceAccountToken"]
    assert job["spec"]["ttlSecondsAfterFinished"] == 86400
    for secret in (KEY, postgres.PASSWORD):
        assert secret not in str(job)


@pytest.mark.parametrize("loss", ["a killed pod", "a drained node", "a job that is gone"])
def test_a_lost_pod_is_replaced(cluster: Cluster, instance: dg.DagsterInstance, api: str, loss: str) -> None:
    """A pod that is lost in a reading is noticed; the run is tried again in another, and reads on where it was."""
    before = runs(instance, "registrations_job")
    requests.post(f"{api}/faults", json={"registrations": "hang@30"}, timeout=30).raise_for_status()
    launch(cluster, "registrations_job")
    wait_for(lambda: pages_kept(cluster.state), "no page is kept", 120)
    requests.post(f"{api}/faults", json={"registrations": None}, timeout=30).raise_for_status()
    [lost] = runs(instance, "registrations_job").keys() - before.keys()
    pod = cluster.processes[job_of(lost)]
    if loss == "a drained node":
        inside = [
            it
            for it in descendants(pod.pid)
            if not Path(f"/proc/{it}/cmdline").read_text().startswith(program("bwrap"))
        ]
        os.kill(inside[0], signal.SIGTERM)
    else:
        pod.kill()
    if loss == "a job that is gone":
        del cluster.jobs[job_of(lost)]

    def ended() -> list[str]:
        """How the lost run and its retry have ended."""
        found = list(runs(instance, "registrations_job").values())[len(before) :]
        return found if len(found) == 2 and found[1] in ("SUCCESS", "FAILURE") else []

    assert wait_for(ended, "the run is not tried again", 120) == ["FAILURE", "SUCCESS"]
    assert rows(cluster, "SELECT count(*), count(DISTINCT id) FROM registrations") == [(SIZES["registrations"],) * 2]
    resumed = rows(cluster, "SELECT resumed_pages FROM syncs WHERE resource = 'registrations' ORDER BY started_at")
    assert resumed[-1][0] > 0
