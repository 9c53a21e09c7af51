"""As much of Kubernetes as a run needs: an API of jobs on loopback, whose pods are processes in a sandbox; for tests.

And what Dagster's Helm chart makes of `deploy/kubernetes/values.yaml`, as far as runs are concerned: the chart is not
to be had everywhere, and `test_chart` holds this to what it says.
"""

import json
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import yaml

from analytics_assets_tests.deploy.containers import DEPLOY, sandbox

VALUES: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
NAMESPACE = "analytics"
[DEPLOYMENT] = VALUES["dagster-user-deployments"]["deployments"]
LAUNCHER = VALUES["runLauncher"]["config"]["k8sRunLauncher"]


def snake(name: str) -> str:
    """Of a name in the chart's spelling the one that Dagster has."""
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def instance() -> dict[str, Any]:
    """The parts of `dagster.yaml` that say how runs are queued, launched, watched and tried again."""
    daemon, database = VALUES["dagsterDaemon"], VALUES["postgresql"]
    launcher = {snake(key): value for key, value in LAUNCHER.items()}
    launcher["run_k8s_config"] = {snake(key): value for key, value in LAUNCHER["runK8sConfig"].items()}
    queue = daemon["runCoordinator"]["config"]["queuedRunCoordinator"]
    storage = {
        "username": database["postgresqlUsername"],
        "password": {"env": "DAGSTER_PG_PASSWORD"},
        "hostname": database["postgresqlHost"],
        "db_name": database["postgresqlDatabase"],
        "port": 5432,
        "params": database["postgresqlParams"],
        "scheme": database["postgresqlScheme"],
    }
    return {
        **{
            f"{what}_storage": {
                "module": f"dagster_postgres.{what if what == 'event_log' else f'{what}_storage'}",
                "class": f"Postgres{''.join(map(str.title, what.split('_')))}Storage",
                "config": {"postgres_db": storage},
            }
            for what in ("run", "event_log", "schedule")
        },
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": "QueuedRunCoordinator",
            "config": {snake(key): value for key, value in queue.items()},
        },
        "run_launcher": {
            "module": "dagster_k8s",
            "class": "K8sRunLauncher",
            "config": {
                **launcher,
                "load_incluster_config": True,
                "job_namespace": NAMESPACE,
                "service_account_name": f"{NAMESPACE}-dagster",
                "dagster_home": VALUES["global"]["dagsterHome"],
                "instance_config_map": f"{NAMESPACE}-dagster-instance",
                "postgres_password_secret": VALUES["global"]["postgresqlSecretName"],
            },
        },
        "run_monitoring": {snake(key): value for key, value in daemon["runMonitoring"].items()},
        "run_retries": {snake(key): value for key, value in daemon["runRetries"].items()},
        "telemetry": VALUES["telemetry"],
        **VALUES["additionalInstanceConfig"],
    }


@dataclass
class Cluster:
    """Jobs by name, each with its pod's process; `secrets` are files by their keys, `state` the volume of the claim."""

    site: Path
    secrets: Path
    state: Path
    instance_yaml: Path
    environment: Mapping[str, str]
    url: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def create(self, job: dict[str, Any]) -> None:
        """Start the process of the job's pod. Raises what an API would refuse: an error in the manifest."""
        import kubernetes_validate  # of the extra `deploy`, which other tests do without

        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
        name, pod = job["metadata"]["name"], job["spec"]["template"]["spec"]
        [container] = pod["containers"]
        log = (self.state.parent / f"{name}.log").open("ab")
        command = [*self.pod(pod, container), *container["args"]]
        self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self.jobs[name] = job

    def pod(self, pod: Mapping[str, Any], container: Mapping[str, Any]) -> list[str]:
        """The command that what follows it is run by as in this container of this pod."""
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        read: dict[str, Path] = {}
        write: dict[str, Path] = {}
        temporary: tuple[str, ...] = ()
        for mount in container["volumeMounts"]:
            volume, target = volumes[mount["name"]], mount["mountPath"]
            if "secret" in volume:
                for item in volume["secret"]["items"]:
                    file = self.secrets / item["key"]
                    if file.exists() or not volume["secret"].get("optional"):
                        read[f"{target}/{item['path']}"] = file
            elif "configMap" in volume:
                read[target] = self.instance_yaml
            elif "persistentVolumeClaim" in volume:
                write[target] = self.state
            else:
                assert volume["emptyDir"], volume
                temporary = (target,)
        given = {it["name"]: it.get("value", "") for it in container["env"]}
        return sandbox(
            self.site, pod["securityContext"]["runAsUser"], {**given, **self.environment}, read, write, temporary
        )

    def status(self, name: str) -> dict[str, Any]:
        """The job, with what has become of its pod."""
        code = self.processes[name].poll()
        status = {"active": 1} if code is None else {"succeeded": 1} if code == 0 else {"failed": 1}
        return {**self.jobs[name], "status": status}


@contextmanager
def serving(cluster: Cluster) -> Iterator[Cluster]:
    """The API of the cluster, and a file `kubeconfig` beside its volume that names it."""

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                cluster.create(job)
            except Exception as error:
                self.answer(422, {"message": str(error)})
            else:
                self.answer(201, job)

        def do_GET(self) -> None:
            name = re.search("/jobs/([^/]+)/status", self.path)
            if name and name[1] in cluster.jobs:
                self.answer(200, cluster.status(name[1]))
            else:
                self.answer(404 if name else 200, {"items": []})

        def answer(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    # Of one thread: a sandbox ends with the thread that has started it.
    server = HTTPServer(("127.0.0.1", 0), Api)
    cluster.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        for process in cluster.processes.values():
            process.kill()
            process.wait()


def kubeconfig(cluster: Cluster) -> dict[str, Any]:
    """A configuration of kubectl that names the cluster's API."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": cluster.url}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "nobody"}}],
        "current-context": "here",
    }
