"""The services of `deploy/compose`, each started as its files say but without containers: for tests."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analytics_assets_tests import postgres
from analytics_assets_tests.defs.browsing import free_port
from analytics_assets_tests.deploy.containers import DEPLOY, descendants, installed, place, program, sandbox

PORTS = {"code-server": "4000", "web": "3000", "web-readonly": "3000"}  # that services listen at, in their containers
# The password of both is "pass": `caddy hash-password --algorithm bcrypt --bcrypt-cost 4`, which is the cheapest.
HASH = "$2a$04$R/XE58OaOAnZpIuUlpgv4.RGRxdDk7wnHpN16GxkdyV..pQTNNrH6"
ENGINEER, READER = ("ann", "pass"), ("cy", "pass")


@dataclass
class Team:
    """A deployment in `folder`, a copy of `deploy/compose` with its secrets and volumes.

    `compose` is what Docker Compose makes of its file, `ports` where services listen here, `site` the installed
    package, `postgres` the server that is there for the one of the image.
    """

    folder: Path
    compose: Mapping[str, Any]
    ports: Mapping[str, int]
    site: Path
    postgres: postgres.Server
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def moved(self, text: str, service: str) -> str:
        """A text of the compose file, with the addresses that its services have here."""
        text = place(text).replace("0.0.0.0", "127.0.0.1").replace("5432", str(self.ports["postgres"]))
        for name, port in PORTS.items():
            text = text.replace(f"{name}:{port}", f"127.0.0.1:{self.ports[name]}")
            if name in (service, "code-server"):
                text = re.sub(rf"\b{port}\b", str(self.ports[name]), text)
        return "127.0.0.1" if text in ("code-server", "postgres") else text

    def environment(self, name: str) -> dict[str, str]:
        """What the compose file gives to the processes of a service, with the addresses that there are here."""
        given = self.compose["services"][name].get("environment", {})
        return {key: self.moved(value, name) for key, value in given.items()}

    def sandbox(self, name: str) -> list[str]:
        """The command that what follows it is run by as in the container of this service."""
        service, environment = self.compose["services"][name], self.environment(name)
        if name == "proxy":
            environment |= {f"{kind.upper()}_PORT": str(self.ports[kind]) for kind in ("http", "https")}
            environment["XDG_DATA_HOME"] = place("/data")  # which its image sets
        files = self.compose["secrets"]
        read = {secret["target"]: Path(files[secret["source"]]["file"]) for secret in service["secrets"]}
        for config in service.get("configs", []):
            read[config["target"]] = Path(self.compose["configs"][config["source"]]["file"])
        write = {it["target"]: self.folder / "volumes" / it["source"] for it in service.get("volumes", [])}
        for volume in write.values():
            volume.mkdir(parents=True, exist_ok=True)
        user = {"postgres": 999}.get(name) or int(service.get("user", "0").partition(":")[0])
        return sandbox(self.site, user, environment, read, write)

    def command(self, name: str) -> list[str]:
        """What the service runs."""
        return [self.moved(part, name) for part in self.compose["services"][name]["command"]]

    def start(self, name: str) -> "subprocess.Popen[bytes]":
        """Start a service; what it writes goes to its log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [*self.sandbox(name), *self.command(name)]
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self.processes[name] = process
        return process

    def log(self, name: str) -> str:
        """What the service has written."""
        return (self.folder / f"{name}.log").read_text()

    def healthy(self, name: str) -> bool:
        """What the service's own health check says."""
        kind, *test = self.compose["services"][name]["healthcheck"]["test"]
        assert kind == "CMD"
        test = [self.moved(part, name) for part in test]
        return subprocess.run([*self.sandbox(name), *test], capture_output=True, check=False).returncode == 0

    def workers(self) -> list[int]:
        """The processes that execute runs, beside the code server."""
        return [
            process
            for process in descendants(self.processes["code-server"].pid)
            if "spawn_main" in Path(f"/proc/{process}/cmdline").read_text()
        ]

    def stop(self, name: str) -> None:
        """Ask the service to end, as a container is asked; gives it the time that it takes."""
        for process in descendants(self.processes[name].pid):
            command = Path(f"/proc/{process}/cmdline").read_text().split("\0")[:-1]
            asked = self.command(name)[1:]
            if command[-len(asked) :] == asked and "bwrap" not in command[0]:  # which has it in its arguments
                os.kill(process, signal.SIGTERM)
        self.processes[name].wait(timeout=120)


def config(folder: Path) -> Any:
    """What Docker Compose makes of the compose file in this folder."""
    command = [program("docker-compose"), "--project-directory", str(folder), "config", "--format", "json"]
    # Its own `.env` is to be heard, and not what this process has been configured by.
    return json.loads(subprocess.run(command, check=True, capture_output=True, env={}).stdout)


@contextmanager
def team(folder: Path, settings: Mapping[str, str], secrets: Mapping[str, str]) -> Iterator[Team]:
    """A deployment on a Postgres server of its own, with nothing started but that; what is started ends with it."""
    home = folder / "compose"
    shutil.copytree(DEPLOY / "compose", home, ignore=shutil.ignore_patterns("secrets", ".env"))
    (home / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    (home / "secrets").mkdir()
    for name, secret in secrets.items():
        (home / "secrets" / name).write_text(f"{secret}\n")
    (home / "secrets" / "logins").write_text(f"{ENGINEER[0]} {HASH}\n{READER[0]} {HASH}\n")
    with postgres.serving() as server:
        address = {"POSTGRES": f"127.0.0.1:{server.port}"}
        subprocess.run([home / "make-secrets"], check=True, stdout=subprocess.DEVNULL, env=os.environ | address)
        for file in (home / "secrets").iterdir():  # which the sandbox gives to the user of the container
            os.chown(file, os.getuid(), os.getgid())
        ports = {name: free_port() for name in (*PORTS, "http", "https")}
        found = Team(home, config(home), {**ports, "postgres": server.port}, installed(folder / "site"), server)
        with closing(server.connect("postgres", postgres.ADMIN)) as admin, admin.cursor() as cursor:
            cursor.execute(f"DROP ROLE {postgres.LOADER}")  # that of other tests
        psql = [program("psql"), server.url("postgres", postgres.ADMIN), "-v", "ON_ERROR_STOP=1", "-f"]
        script = place("/docker-entrypoint-initdb.d/databases.sql")
        subprocess.run([*found.sandbox("postgres"), *psql, script], check=True, stdout=subprocess.DEVNULL)
        try:
            yield found
        finally:
            for process in found.processes.values():
                process.kill()  # and with it what is in the sandbox
                process.wait()
