"""Syncs in a process whose clock a file sets: one per line of standard input.

A clock is what Debian's faketime takes, such as `+2h`. Each line of input and of output is an object.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import pytest

ASSETS = ("users", "trainings", "registrations", "registrations_enriched", "training_outcomes")


class Clocked:
    """The process, entered; `log` has what it has logged."""

    def __init__(self, folder: Path) -> None:
        self._clock, self._log = folder / "clock", folder / "clocked.log"
        self._process: subprocess.Popen[str]
        self._read = 0

    def __enter__(self) -> "Clocked":
        library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
        if not library:
            pytest.skip("faketime is not installed: apt-get install faketime")
        self._clock.write_text("+0")
        clock = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **clock},
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def set(self, clock: str) -> None:
        """Set the clock, and wait until the process goes by it."""
        if clock != self._clock.read_text():
            self._clock.write_text(clock)

    def sync(self, clock: str | None = "+0", whole: bool = False, names: Sequence[str] = ASSETS) -> dict[str, Any]:
        """Sync by this clock, if one is given: whether it succeeded, and what log and checks say of the clock."""
        assert self._process.stdin
        assert self._process.stdout
        if clock:
            self.set(clock)
        before = self.log
        print(json.dumps({"whole": whole, "names": names}), file=self._process.stdin, flush=True)
        result: dict[str, Any] = json.loads(self._process.stdout.readline() or "{}")
        assert result, self.log
        lines = (line.rpartition(" - ")[2] for line in self.log.removeprefix(before).splitlines())
        return {**result, "log": [line for line in lines if "clock of this machine" in line]}

    @property
    def log(self) -> str:
        return self._log.read_text()


def main(steps: IO[str]) -> None:
    import dagster as dg

    from analytics_assets.definitions import defs
    from analytics_assets.defs import history, run_plan
    from analytics_assets_tests.conftest import QUIET

    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.ERROR)
    logging.getLogger("analytics_assets").setLevel(logging.INFO)
    run_plan.WINDOW_OVERLAP = timedelta(minutes=1)
    job = defs.resolve_job_def("analytics_job")
    instance = dg.DagsterInstance.get()
    for step in map(json.loads, steps):
        config: dict[str, Any] = {"ops": {"users": {"config": {"whole": step["whole"]}}}}
        selection = [dg.AssetKey(name) for name in step["names"]]
        result = job.execute_in_process(QUIET | config, instance, asset_selection=selection, raise_on_error=False)
        for event in result.all_events:
            if event.is_step_failure:
                logging.error(history.failure_text(event))
        checks = result.get_asset_check_evaluations()
        said = sorted({c.description or "" for c in checks if c.check_name == "clock_is_right" and not c.passed})
        print(json.dumps({"success": result.success, "checks": said}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.stdin)
    os._exit(0)  # threads of libraries wait for a time of a clock that has been set
