"""One contestant, run once in a process of its own: what it took, and whether what it loaded is right.

This process imports little, because a new one starts with its parent's peak of memory. What is run belongs in `plan`.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from analytics_assets.sample_api.process import running
from benchmarks.plan import Case, Contestant

TOKEN = "benchmark"
PROJECT = Path(__file__).resolve().parents[1]
KEPT = ("PATH", "LANG", "TMPDIR")  # of the environment: a setting of this project would change dlt's own ways


@dataclass(frozen=True)
class Result:
    """One sync, or why there is none: `problem`. Megabytes are millions of bytes."""

    contestant: str
    case: str
    sync: str
    seconds: float = 0
    processor_seconds: float = 0
    memory_mb: float = 0
    calls: int = 0
    database_mb: float = 0
    problem: str = ""


class Api:
    """The sample API with the data of a case, and what a right database holds of it: by then every page is rendered."""

    def __init__(self, url: str, case: Case) -> None:
        self.url = url
        self.case = case
        self.contents = contents(url, TOKEN)

    def calls(self) -> int:
        """Requests so far."""
        with urlopen(f"{self.url}/calls") as answer:
            return sum(json.load(answer).values())

    def syncs(self, contestant: Contestant) -> Iterator[Result]:
        """A first sync into a new database, and a repeated one of the same data where the contestant has that."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "warehouse.duckdb"
            for sync in ("first", "repeated") if contestant.repeats else ("first",):
                result = self._sync(contestant, file, sync)
                yield result
                if result.problem:
                    return

    def _sync(self, contestant: Contestant, file: Path, sync: str) -> Result:
        result = partial(Result, contestant.name, self.case.name, sync)
        if not contestant.installed():
            return result(problem="not installed")
        module = f"benchmarks.contestants.{contestant.module or contestant.name}"
        where = [self.url, TOKEN, str(file), "--in-flight", str(self.case.in_flight)]
        before = self.calls()
        status, output, usage = waited([contestant.python, "-m", module, *where], file.parent, contestant.checkout)
        if status:
            return result(problem=f"ended with status {status}")
        if contents(str(file)) != self.contents:
            return result(problem="other rows than the API gave")
        return result(
            **json.loads(output.splitlines()[-1]),
            memory_mb=usage.ru_maxrss * 1024 / 1e6,
            calls=self.calls() - before,
            database_mb=file.stat().st_size / 1e6,
        )


@contextmanager
def serving(case: Case) -> Iterator[Api]:
    """The sample API in a process of its own, which keeps every page that it has rendered."""
    sizes = [part for name, rows in case.rows.items() for part in (f"--{name.replace('_', '-')}", str(rows))]
    with running("--token", TOKEN, "--latency-ms", str(case.latency_ms), *sizes) as url:
        yield Api(url, case)


def waited(command: list[str], folder: Path, checkout: str) -> tuple[int, str, Any]:
    """Exit status, standard output and use of resources, the children's included, of a command run in `folder`.

    Its code is that of `checkout`.
    """
    variables = {name: os.environ[name] for name in KEPT if name in os.environ}
    variables |= {"HOME": str(folder), "PYTHONPATH": checkout}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            print(errors.read()[-2000:], file=sys.stderr)
        return process.returncode, output.read(), usage


def contents(*where: str) -> Any:
    """What the API gives (URL and token) or a database holds (its file)."""
    command = [sys.executable, "-m", "benchmarks.contents", *where]
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, check=False)
    return json.loads(done.stdout or "null")
