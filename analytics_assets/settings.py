"""The configuration: the environment goes before a `.env` file, which goes before the defaults below.

Every name that the project or its libraries are configured by, and that has a default, stands here with it.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from dotenv import load_dotenv

WINDOW = "API_WINDOW_"  # and the name of a resource: the path, with {start} and {end}, of its rows in a window of dates
SAMPLE = "READS_SAMPLE_API"  # set where the API that is read is the sample API
PROJECT = Path(__file__).resolve().parents[1]

DEFAULTS = {
    "API_BASE_URL": "https://api.example.com",
    "API_RESOURCE_PATH": "/v1/{resource}",
    "API_PAGE_SIZE": "100",  # rows; the most that the API gives
    "API_CALLS_PER_HOUR": "3000",
    "API_CALLS_BURST": "13000",
    "DESTINATION__WAREHOUSE__DESTINATION_TYPE": "duckdb",
    "NIGHTLY_CRON": "0 2 * * *",
    "NIGHTLY_TIMEZONE": "UTC",
    "RECONCILIATION_CRON": "0 3 * * 6",  # when resources that have a window are read whole
    "WINDOW_OVERLAP_HOURS": "24",  # by which a window begins before the last sync, for clocks that differ and late rows
    "NEW_ROWS_SECONDS": "300",
    "AUTOMATION": "stopped",  # what calls the API by itself; or running
    "ASSET_OWNER": "team:analytics",
    "FRESH_HOURS": "26",  # after which a table is late, and stale after twice as many: the nightly sync and two more
    "READ_AHEAD": "8",  # pages in flight at once
    "RESUME_HOURS": "6",  # how long pages may be used after a crash, from when the reading last came further
    "MOST_PAGES": "100000",  # of a resource, behind which a server is taken to go on for ever
    "REJECTED_SHARE": "0.01",  # of a resource's rows that may be unreadable; ten may be in any case
    "SHRINKING_SHARE": "0.2",  # of a resource's rows that may be gone since the last sync; ten may be in any case
    "PUBLISHED_MODE": "600",  # who may read the published copy, as chmod says it
    "WAREHOUSE_WAIT_SECONDS": "600",  # for another program that has the DuckDB file open
    "DUCKDB_MEMORY_LIMIT": "200MB",  # beyond which it uses its temporary folder beside the file
    "SYNC_RETRIES": "1",  # of a whole resource, after a page has been tried often enough
    "SYNC_RETRY_SECONDS": "10",
    "DAGSTER_HOME": str(PROJECT / "dagster_home"),
    "DLT_PROJECT_DIR": str(PROJECT),
    "DLT_LOCAL_DIR": str(PROJECT),  # what a relative path of a DuckDB file is relative to
    "DLT_DATA_DIR": str(PROJECT / "data" / "dlt"),
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "CRITICAL",  # dlt's own messages quote rows that cannot be loaded
    "RUNTIME__REQUEST_MAX_ATTEMPTS": "6",
    "RUNTIME__INTERCEPT_SIGNALS": "false",  # Dagster hears them; dlt would end every reading, as if by its own fault
    "RESTORE_FROM_DESTINATION": "false",  # nothing here is kept in dlt's state, and asking for it takes time
    "LOAD__TRUNCATE_STAGING_DATASET": "true",  # or a second copy of every row stays behind
    "LOAD__DELETE_COMPLETED_JOBS": "true",  # or files with learners' data do
}


class WrongSetting(Exception):
    """A setting cannot mean anything."""


COUNTS = ("API_PAGE_SIZE", "API_CALLS_PER_HOUR", "API_CALLS_BURST", "READ_AHEAD", "MOST_PAGES", "NEW_ROWS_SECONDS")
SHARES = ("REJECTED_SHARE", "SHRINKING_SHARE")
CRONS = ("NIGHTLY_CRON", "RECONCILIATION_CRON")
SHAPES = {  # of a setting a pattern, and what it must be
    **{
        name: (r"\d*\.?\d+", f"a number like {default}")
        for name, default in DEFAULTS.items()
        if re.fullmatch(r"[\d.]+", default)
    },
    **{name: (r"[1-9]\d*", f"a whole number like {DEFAULTS[name]}") for name in COUNTS},
    **{name: (r"0*\.\d+|[01](\.0*)?", f"a number from 0 to 1 like {DEFAULTS[name]}") for name in SHARES},
    "PUBLISHED_MODE": ("[46][046]{2}", "a number like 600"),
    "DUCKDB_MEMORY_LIMIT": (r"(?i)\d+(\.\d+)? ?([kmgt]i?b|%)", "a size like 200MB"),
    "AUTOMATION": ("running|stopped", "running or stopped"),
    "ASSET_OWNER": (r"team:.+|.+@.+", "an address, or a team like team:analytics"),
}


def check(resources: Iterable[str]) -> None:
    """Raise `WrongSetting` for what cannot mean anything, before anything is started that would need it."""
    for name, (pattern, what) in SHAPES.items():
        if not re.fullmatch(pattern, os.environ[name]):
            raise WrongSetting(f"{name} is {os.environ[name]!r}, and must be {what}")
    try:
        ZoneInfo(zone := os.environ["NIGHTLY_TIMEZONE"])
    except (LookupError, ValueError, OSError):  # the last where it names a folder of the system's
        raise WrongSetting(f"NIGHTLY_TIMEZONE is {zone!r}, and must be a time zone like Europe/Berlin") from None
    if os.environ.get("MASKING_KEY") and os.environ["DESTINATION__WAREHOUSE__DESTINATION_TYPE"] != "duckdb":
        raise WrongSetting(
            "MASKING_KEY masks the published copy, which a server has not; grant columns, or views there"
        )
    if not _has(os.environ["API_RESOURCE_PATH"], resource="users"):
        raise WrongSetting(f"API_RESOURCE_PATH must be a path like {DEFAULTS['API_RESOURCE_PATH']}")
    names = {f"{WINDOW}{name.upper()}" for name in resources}
    for name in (name for name, value in os.environ.items() if name.upper().startswith(WINDOW) and value):
        if name not in names or not _has(os.environ[name], start=1, end=2):
            raise WrongSetting(
                f"{name} must name a resource in capitals, and be a path like /v1/users?start={{start}}&end={{end}}"
            )


def _has(path: str, **values: object) -> bool:
    """Whether it is a path, without a host, that can be filled with these values, and takes one at least."""
    try:
        filled = path.format(**values)
    except (LookupError, ValueError, AttributeError):
        return False
    parts = urlsplit(filled)
    return filled != path and not (parts.scheme or parts.netloc)


def load() -> None:
    """Complete the process's environment from `.env` and the defaults; what is already set stays.

    What the process writes is from here on its owner's alone.
    """
    os.umask(0o077)
    load_dotenv(PROJECT / ".env")
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ["DAGSTER_HOME"] = str(
        PROJECT / Path(os.environ["DAGSTER_HOME"]).expanduser()
    )  # Dagster wants it absolute
    if os.environ["DESTINATION__WAREHOUSE__DESTINATION_TYPE"] == "duckdb":
        os.environ.setdefault("DESTINATION__WAREHOUSE__CREDENTIALS", str(PROJECT / "data" / "warehouse.duckdb"))
