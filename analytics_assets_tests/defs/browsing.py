"""The UI as `make ui` serves it on the sample API, and a browser to look at it: for tests, and for the documentation.

What is to be seen belongs in `test_ui` and `screenshots`.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from playwright.sync_api import Browser, ViewportSize, expect, sync_playwright

from analytics_assets.settings import CHECKOUT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SECONDS = 90
LAPTOP: ViewportSize = {"width": 1440, "height": 900}


def wait_for(what: Callable[[], Any], why: str, seconds: float = SECONDS) -> Any:
    """What `what` gives once it is true; an error that says `why` if it never is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited in vain: {why}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass(frozen=True)
class Ui:
    """A UI that is served at `url`, and the file that has what it wrote to its terminal."""

    url: str
    log: Path

    def post(self, query: str, **variables: Any) -> dict[str, Any]:
        """The whole answer to a question by GraphQL."""
        asked = {"query": query, "variables": variables}
        answer: dict[str, Any] = requests.post(f"{self.url}/graphql", json=asked, timeout=30).json()
        return answer

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of an answer without errors."""
        answer = self.post(query, **variables)
        assert not answer.get("errors"), answer
        return answer["data"]

    def links(self) -> dict[str, str]:
        """What it has printed for people to open, by what it is called."""
        return dict(re.findall(r"^(\w[\w ]*?)(?: at|:) (http://\S+)$", self.log.read_text(), re.MULTILINE))

    def steer(self, what: str, **by_resource: Any) -> None:
        """Have the sample API change its `faults` or its `rows`."""
        requests.post(
            f"{self.links()['Reading the sample API']}/{what}", json=by_resource, timeout=30
        ).raise_for_status()

    def materialized(self) -> dict[str, list[str]]:
        """The runs that have made each asset, the newest first."""
        query = "{ assetNodes { assetKey { path } assetMaterializations { runId } } }"
        nodes = self.ask(query)["assetNodes"]
        return {node["assetKey"]["path"][0]: [one["runId"] for one in node["assetMaterializations"]] for node in nodes}

    def runs(self) -> dict[str, str]:
        """The status of each run by its id, the newest first."""
        runs = self.ask("{ runsOrError { ... on Runs { results { runId status } } } }")["runsOrError"]["results"]
        return {run["runId"]: run["status"] for run in runs}

    def ended(self, known: Mapping[str, str]) -> tuple[str, str]:
        """Waits for a run that is not among the `known` ones and has ended: its id and how it ended."""

        def found() -> tuple[str, str] | None:
            new = [(run, status) for run, status in self.runs().items() if run not in known]
            return new[-1] if new and new[-1][1] in ("SUCCESS", "FAILURE", "CANCELED") else None

        run, status = wait_for(found, "no run has ended")
        return run, status


def home(folder: Path) -> dict[str, str]:
    """An environment with a Dagster home and an empty warehouse of its own in `folder`, and no key."""
    shutil.copy(CHECKOUT / "dagster_home" / "dagster.yaml", folder)
    return {
        **os.environ,
        "API_KEY": "",
        "NEW_ROWS_SECONDS": "5",
        "DAGSTER_HOME": str(folder),
        "DLT_DATA_DIR": str(folder / "dlt"),
        "DESTINATION__WAREHOUSE__CREDENTIALS": str(folder / "warehouse.duckdb"),
    }


@contextmanager
def serving(environment: Mapping[str, str], *options: str) -> Iterator[Ui]:
    """`make ui` with these options on a free port, ended by an interrupt."""
    port = free_port()
    ui = Ui(f"http://127.0.0.1:{port}", Path(environment["DAGSTER_HOME"]) / f"log-{port}")
    command = [sys.executable, "-m", "analytics_assets", "ui", "--port", str(port), *options]
    with ui.log.open("w") as log:
        process = subprocess.Popen(command, env=dict(environment), stdout=log, stderr=log, start_new_session=True)

    def answers() -> bool:
        assert process.poll() is None, ui.log.read_text()
        try:
            return bool(ui.ask("{ assetNodes { id } }")["assetNodes"])
        except requests.ConnectionError:
            return False

    try:
        wait_for(answers, "the UI does not answer")
        yield ui
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, without a window. Raises FileNotFoundError, which says what to install."""
    if CHROMIUM is None:
        raise FileNotFoundError("Chromium is missing; on Debian: apt-get install chromium")
    expect.set_options(timeout=SECONDS * 1000)
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        # Letters without coloured edges make pictures half as large.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*quiet, "--disable-lcd-text"])
        yield browser
        browser.close()
