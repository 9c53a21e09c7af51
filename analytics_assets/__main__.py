"""What `make run` and `make ui` start. Knows which API is meant, and talks to the terminal; nothing else does."""

import argparse
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import dlt

from analytics_assets import history, warehouse
from analytics_assets.environment import DEFAULTS, PROJECT
from analytics_assets.sample_api.process import running

QUERY = "SELECT status, count(*) AS registrations FROM analytics.registrations_enriched GROUP BY ALL ORDER BY ALL"


class Refused(Exception):
    """What was asked for would do harm; the message says what to do instead."""


@contextmanager
def api() -> Iterator[str]:
    """The URL of the API to read: the configured one, or where there is no key a sample API that ends with this."""
    if dlt.secrets.get("api_key"):
        _keep_apart(sample=False)
        yield os.environ["API_BASE_URL"]
        return
    if os.environ["API_BASE_URL"] != DEFAULTS["API_BASE_URL"]:
        raise Refused("API_BASE_URL is set, but API_KEY is not; put it in .env (see .env.example)")
    _keep_apart(sample=True)
    with running("--token", "sample-token") as url:
        os.environ.update(API_KEY="sample-token", API_BASE_URL=url)
        yield f"the sample API at {url}"


def _keep_apart(sample: bool) -> None:
    """Sample rows and real rows never share a DuckDB file: a mark beside it says that it holds sample data."""
    file = warehouse.database_file()
    if file is None:
        return
    mark = file.with_name(f"{file.name}.sample")
    if sample and file.exists() and not mark.exists():
        raise Refused(f"API_KEY is not set, and {file} holds data of a real API: sample data would mix with it")
    if sample:
        mark.touch()
    elif mark.exists():
        aside = file.with_name(f"sample-{file.name}")
        if file.exists():
            file.replace(aside)
            print(f"The sample data was moved to {aside}.")
        mark.unlink()


def run() -> int:
    """Run the main job in this process, on the history that the UI shows; 0 only if every asset was materialized."""
    from analytics_assets.definitions import defs

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("  %(message)s"))
    logging.getLogger("analytics_assets").addHandler(handler)
    logging.getLogger("analytics_assets").setLevel(logging.INFO)
    with api() as url, dg.DagsterInstance.get() as instance:
        print(f"Reading {url}", flush=True)
        job = defs.resolve_job_def("analytics_job")
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        tags = {history.PROCESS_TAG: str(os.getpid())}
        history.end_lost_runs(instance)
        result = job.execute_in_process(quiet, instance, tags=tags, raise_on_error=False)
        failures = [history.failure_text(event) for event in result.all_events if event.is_step_failure]
        return report(result, failures)


def report(result: dg.ExecuteInProcessResult, failures: list[str]) -> int:
    """Print what was made, what was found, and last what failed; return the exit status."""
    print(f"\n{'asset':<26}{'rows':>12}{'pages':>9}{'seconds':>9}")
    for event in result.get_asset_materialization_events():
        made = event.materialization
        entries = [made.metadata.get(label) for label in ("dagster/row_count", "pages", "seconds")]
        rows, pages, seconds = (f"{entry.value:,}" if entry else "" for entry in entries)
        print(f"{made.asset_key.to_user_string():<26}{rows:>12}{pages:>9}{seconds:>9}")
    broken = [e for e in result.get_asset_check_evaluations() if not e.passed]
    for check in broken:
        print(f"{check.severity.value}: {check.asset_key.to_user_string()}.{check.check_name}: {check.description}")
    if file := warehouse.database_file():
        ask = f"import duckdb; duckdb.connect('{file}', read_only=True).sql('{QUERY}').show()"
        print(f'\nThe data is in {file}. A query to try:\n  {sys.executable} -c "{ask}"')
    errors = [check.check_name for check in broken if check.severity is dg.AssetCheckSeverity.ERROR]
    if failures or errors:
        print("\nFAILED:", *failures, *(f"check {name}" for name in errors), sep="\n  ", flush=True)
    return 1 if failures or errors or not result.success else 0


def ui(port: int) -> int:
    """Serve the Dagster UI, with the daemon that runs schedules and sensors, until interrupted."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise Refused(f"port {port} is taken; choose another: make ui PORT={port + 1}") from None
    # A shell that starts this in the background makes it ignore interrupts, and everything that it starts.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with api() as url:
        print(f"Reading {url}\nThe UI will be at http://127.0.0.1:{port}/assets", flush=True)
        # Not in the project's folder: there Dagster would let a .env file go before the environment.
        where = ["-w", str(PROJECT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen([sys.executable, "-m", "dagster", "dev", *where], cwd=os.environ["DAGSTER_HOME"])
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m analytics_assets", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="sync everything once and print what was made")
    commands.add_parser("ui", help="serve the Dagster UI").add_argument("--port", type=int, default=3000)
    arguments = parser.parse_args()
    try:
        return run() if arguments.command == "run" else ui(arguments.port)
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
