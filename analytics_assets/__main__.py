"""The commands behind `make run` and `make ui`, on the configured API or the sample API."""

import argparse
import asyncio
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg
import requests
from filelock import FileLock
from tenacity import Retrying, stop_after_attempt, wait_exponential

from analytics_assets.defs import history
from analytics_assets.defs.checked_settings import checked_settings
from analytics_assets.defs.dagster_private import job_origin
from analytics_assets.defs.report import failures_of, report
from analytics_assets.extract.access import InsecureUrl, check, shown
from analytics_assets.extract.threads import in_thread
from analytics_assets.load.failures import Unavailable
from analytics_assets.load.warehouse import Warehouse
from analytics_assets.marts.lineage import Unreadable
from analytics_assets.sample_api.process import running
from analytics_assets.settings import EXAMPLE_URL, PACKAGE, SAMPLE_TOKEN, Settings, WrongSetting, use_sample_api
from analytics_assets.tables.resources import RESOURCES

FILES = PACKAGE / "defs"  # has `dagster.yaml` and `workspace.yaml`
# Not the first page, an empty timeline, nor the whole lineage, which shows two collapsed groups.
LINKS = {"Tables:": "/assets", "Lineage:": "/locations/analytics_assets/asset-groups/marts/lineage"}
# Warnings only: messages about ticks would scroll the links away.
SERVE = ["-W", "ignore:Function `dev_command`", "-m", "dagster", "dev", "--log-level", "warning"]
LOOK = [
    "-m",
    "dagster_webserver",
    "--read-only",
    "--dagster-log-level",
    "warning",
    "--code-server-log-level",
    "warning",
]


class Refused(Exception):
    """The command is refused; the message says what to do instead."""


@contextmanager
def api(settings: Settings) -> Iterator[str]:
    """The name of the API: the configured one or, without a key, a sample API that ends with this block."""
    if settings.api_key and settings.api_base_url != EXAMPLE_URL:
        _reach(settings.api_base_url)
        yield shown(settings.api_base_url)
    elif settings.reads_sample_api:
        with running("--token", SAMPLE_TOKEN) as url:
            use_sample_api(url)
            yield f"the sample API at {url}"
    else:
        given, missing = ("API_KEY", "API_BASE_URL") if settings.api_key else ("API_BASE_URL", "API_KEY")
        raise Refused(f"{given} is set, but {missing} is not; put it in .env (see .env.example)")


def _reach(url: str) -> None:
    """Refuse an unreachable address at once, instead of six resources retrying it for minutes."""
    try:
        check(url)
    except InsecureUrl as error:
        raise Refused(str(error)) from None
    if not requests.utils.get_environ_proxies(url):
        parts = urlsplit(url)
        tries = Retrying(stop=stop_after_attempt(5), wait=wait_exponential(), reraise=True)
        try:
            address = (parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme])
            tries(lambda: asyncio.run(in_thread(socket.create_connection, address, 10))).close()
        except OSError as error:
            raise Refused(f"{shown(url)} cannot be reached ({error}); check API_BASE_URL") from None


def _make(setting: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{setting} is {folder}, which cannot be created ({error.strerror}); name another") from None
    if not os.access(folder, os.W_OK):
        raise Refused(f"{setting} is {folder}, which this user may not write to; name another")


@contextmanager
def dagster(home: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance. One process at a time creates its files: on a fresh home, two at once would fail."""
    _make("DAGSTER_HOME", home)
    if not (home / "dagster.yaml").exists():  # Dagster's own default sends telemetry
        shutil.copy(FILES / "dagster.yaml", home)
    with ExitStack() as stack:
        with FileLock(home / "instance.lock"):
            instance = stack.enter_context(dg.DagsterInstance.get())
        job = job_origin("analytics_assets", "analytics_job")  # of the code location that workspace.yaml names
        setattr(instance, "create_run_for_job", partial(instance.create_run_for_job, remote_job_origin=job))  # noqa: B010
        yield instance


def run(settings: Settings) -> int:
    """Run the main job in this process, in the history that the UI shows; 0 only if every asset was materialized."""
    from analytics_assets.definitions import defs

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("  %(message)s"))
    logging.getLogger("analytics_assets").addHandler(handler)
    logging.getLogger("analytics_assets").setLevel(logging.INFO)

    def execute(*selection: str) -> dg.ExecuteInProcessResult:
        return defs.resolve_job_def("analytics_job").execute_in_process(
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            instance=instance,
            asset_selection=[dg.AssetKey(name) for name in selection] or None,
            tags={history.PROCESS_TAG: history.this_process()},
            raise_on_error=False,
        )

    names = [key.to_user_string() for key in defs.resolve_asset_graph().toposorted_asset_keys]
    _make("DLT_DATA_DIR", settings.dlt_data_dir)
    with api(settings) as url, dagster(settings.dagster_home) as instance:
        print(f"Reading {url}", flush=True)
        history.end_lost_runs(instance)
        results = [execute()]
        if any("Interrupt" in text for text in failures_of(results[0])):
            raise KeyboardInterrupt
        if not results[0].success:
            # A failed parent skips its dependents in this run; a second run makes them from existing rows.
            results.append(execute(*(name for name in names if name not in RESOURCES)))
        return report(names, results, Warehouse(settings))


def ui(settings: Settings, port: int, read_only: bool) -> int:
    """Serve the Dagster UI until interrupted, with the daemon that runs schedules and sensors.

    A read-only UI changes nothing, calls no API, and can run beside the other one.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise Refused(f"port {port} is taken; choose another: PORT={port + 9}") from None
    # A shell that starts this in the background makes it and its children ignore interrupts.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with nullcontext() if read_only else api(settings) as url:
        with dagster(settings.dagster_home) as instance:
            if not read_only:
                history.end_lost_runs(instance)
        reading = [f"Reading {url}"] if url else []
        print(
            *reading, *(f"{what} http://127.0.0.1:{port}{path}" for what, path in LINKS.items()), sep="\n", flush=True
        )
        where = ["-w", str(FILES / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]
        # Not in the project's folder, where Dagster would let .env override the environment.
        command = [sys.executable, *(LOOK if read_only else SERVE), *where]
        process = subprocess.Popen(command, cwd=settings.dagster_home)
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m analytics_assets", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="sync everything once and print a report")
    serve = commands.add_parser("ui", help="serve the Dagster UI")
    serve.add_argument("--read-only", action="store_true", help="serve a UI that changes nothing")
    serve.add_argument("--port", type=int, help="default: 3000, or 3001 for a read-only UI")
    arguments = parser.parse_args()
    try:
        settings = checked_settings()
        if arguments.command == "run":
            return run(settings)
        return ui(settings, arguments.port or 3000 + arguments.read_only, arguments.read_only)
    except (Refused, Unavailable, Unreadable, WrongSetting) as refusal:
        print(refusal, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; what was loaded before is kept.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
