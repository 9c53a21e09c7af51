"""What a container would run, run without one: for the tests of `deploy/`.

A sandbox (bubblewrap) has of the container what can be had here: the image's environment and working directory, the
user, a root that cannot be written to, no capability, and in place of this checkout the package as it is installed from
its wheel. The network and the programs are this machine's.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from analytics_assets.settings import CHECKOUT

DEPLOY = CHECKOUT / "deploy"
BIN = Path(sys.executable).parent
# Where the sandbox has what containers have at other places: what is there on this machine stays in sight.
PLACES = {"/etc/caddy": "/opt/etc/caddy", "/docker-entrypoint-initdb.d": "/opt/initdb.d", "/data": "/var/lib/data"}
EMPTIED = ("/opt", "/run", "/var/lib", str(CHECKOUT))


def program(name: str) -> str:
    """The path of a program that these tests need; fails with what brings it."""
    found = shutil.which(name, path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    return found or pytest.fail(f"{name} is missing: apt-get install bubblewrap postgresql-client; make .venv/deploy")


def place(path: str) -> str:
    """Where the sandbox has what a container has there."""
    for there, here in PLACES.items():
        if path.startswith(there):
            return here + path.removeprefix(there)
    return path


def image_environment() -> dict[str, str]:
    """What the Dockerfile sets."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    [line] = re.findall(r"^ENV (.*)$", text, re.MULTILINE)
    return dict(pair.split("=", 1) for pair in line.split())


def installed(folder: Path) -> Path:
    """The package as an installation from its wheel lays it down: not a checkout."""
    with tempfile.TemporaryDirectory() as copy:
        for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
            shutil.copy(CHECKOUT / name, copy)
        shutil.copytree(CHECKOUT / "analytics_assets", Path(copy) / "analytics_assets")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*pip, "--target", str(folder), copy], check=True)
    return folder


def sandbox(
    site: Path,
    user: int,
    environment: Mapping[str, str],
    read: Mapping[str, Path],
    write: Mapping[str, Path],
    temporary: tuple[str, ...] = ("/tmp",),
) -> list[str]:
    """The command that runs what follows it as in a container; the sandbox ends with the process that starts it.

    `read` and `write` are files and folders of this machine by where the container has them, `site` is the package as
    it is `installed`. The user of the container is the one who runs this.
    """
    options = ["--die-with-parent", "--unshare-pid", "--unshare-user", f"--uid={user}", f"--gid={user}"]
    options = [part for option in options for part in option.split("=")]
    options += ["--cap-drop", "ALL", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    for folder in (*temporary, *EMPTIED):  # in this order: a checkout may be in /tmp
        options += ["--tmpfs", folder]
    options += ["--ro-bind", str(BIN.parent), str(BIN.parent), "--ro-bind", str(site), "/opt/site"]
    image = {f"/opt/dagster/{file}": DEPLOY / "compose" / file for file in ("dagster.yaml", "workspace.yaml")}
    for target, source in {**image, **read}.items():
        options += ["--ro-bind", str(source), place(target)]
    for target, source in write.items():
        options += ["--bind", str(source), place(target)]
    for folder in EMPTIED:
        options += ["--remount-ro", folder]
    options += ["--chdir", "/opt/dagster", "--clearenv"]
    here = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": "/opt/site"}
    for name, value in {**image_environment(), **environment, **here}.items():
        options += ["--setenv", name, value]
    return [program("bwrap"), *options]


def descendants(process: int) -> list[int]:
    """The children of a process and theirs, nearest first."""
    children: list[int] = []
    for thread in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(FileNotFoundError):  # it has just ended
            children += map(int, thread.read_text().split())
    return [*children, *(below for child in children for below in descendants(child))]


def pages_kept(state: Path) -> bool:
    """Whether a reading of the registrations is under way, of which pages are on this volume."""
    logs = (state / "dlt" / "pages" / "registrations").glob("*")
    return sum(log.stat().st_size for log in logs) > 50_000
