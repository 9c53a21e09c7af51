"""What is measured: the contestants, the cases that they are given, and who takes part in which."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Contestant:
    """A module of `contestants`, what it is called in a report, and the Python that has its libraries.

    Another checkout than this one is to be named by `BEFORE`, and to run with the same libraries.
    """

    name: str
    label: str
    libraries: tuple[str, ...] = ()
    repeats: bool = True
    python: str = sys.executable
    module: str = ""  # where it is another than the name
    checkout: str = str(HERE.parent)  # that has the module

    def installed(self) -> bool:
        """Whether its checkout is named, and its libraries are there."""
        return bool(self.checkout and self.versions())

    def versions(self) -> str:
        """Names and versions of its libraries and its Python; empty where one is missing."""
        code = (
            "import platform, sys; from importlib.metadata import version; "
            "print('Python', platform.python_version(), *(f', {name} {version(name)}' for name in sys.argv[1:]))"
        )
        try:
            done = subprocess.run([self.python, "-c", code, *self.libraries], capture_output=True, text=True)
        except OSError:
            return ""
        return done.stdout.strip().replace(" ,", ",")


MAIN_JOB = Contestant("main_job", "this project's main job", ("dagster", "dagster-dlt", "dlt", "duckdb", "pyarrow"))
SIX_ASSETS = Contestant("six_assets", "its six assets alone", MAIN_JOB.libraries)
MAKE_RUN = Contestant("make_run", "this project, `make run` as a whole", MAIN_JOB.libraries)
FLOOR = Contestant("floor", "simple floor", ("aiohttp", "orjson", "pyarrow", "duckdb"))
TRICKS = Contestant("floor_tricks", "floor with every trick", (*FLOOR.libraries, "msgspec"))
DLT = Contestant("dlt_published", "dlt as published", ("dlt", "duckdb"))
DLT_PARQUET = Contestant("dlt_parquet", "dlt with Parquet files", (*DLT.libraries, "pyarrow"))
PYAIRBYTE = Contestant(
    "pyairbyte", "PyAirbyte", ("airbyte", "airbyte-cdk", "duckdb"), False, str(HERE / ".venv-airbyte/bin/python")
)
SINGER = Contestant(
    "singer_pipe", "Singer", ("singer-sdk", "target-duckdb", "duckdb"), False, str(HERE / ".venv-singer/bin/python")
)
BEFORE = replace(
    MAIN_JOB,
    name="before",
    label="the main job of an earlier commit",
    module="main_job",
    checkout=os.environ.get("BEFORE", ""),
)
OURS = (MAIN_JOB, SIX_ASSETS, MAKE_RUN, FLOOR, TRICKS)
PEERS = (DLT, DLT_PARQUET, PYAIRBYTE, SINGER)
CONTESTANTS = {contestant.name: contestant for contestant in (*OURS, BEFORE, *PEERS)}


@dataclass(frozen=True, eq=False)
class Case:
    """Rows of each resource, the latency of each answer, the pages in flight where a contestant has a say in that."""

    name: str
    rows: Mapping[str, int]
    contestants: tuple[Contestant, ...]
    latency_ms: int = 0
    in_flight: int = 8

    @property
    def total(self) -> int:
        return sum(self.rows.values())

    @property
    def pages(self) -> int:
        return sum(ceil(rows / 100) for rows in self.rows.values())


def rows(registrations: int) -> dict[str, int]:
    """A tenth as many learners, awards and enrolments as registrations, and a catalog of a fixed size."""
    tenths = dict.fromkeys(("users", "awarded_certifications", "paths_users"), registrations // 10)
    return {"registrations": registrations, "trainings": 500, "certifications": 50, **tenths}


ONE_PAGE = Case("one page per resource", dict.fromkeys(rows(0), 50), (MAIN_JOB, BEFORE))
SMALL = Case("65,550 rows", rows(50_000), (*OURS, *PEERS))
LATENCY = Case("65,550 rows, 50 ms", rows(50_000), (MAIN_JOB, SIX_ASSETS, FLOOR), 50, 16)
MIDDLE = Case("260,550 rows", rows(200_000), (*OURS, DLT_PARQUET))
MIDDLE_FULL = replace(MIDDLE, contestants=(*OURS, *PEERS))
LARGE = Case("1,040,550 rows", rows(800_000), (MAIN_JOB, FLOOR, TRICKS))
