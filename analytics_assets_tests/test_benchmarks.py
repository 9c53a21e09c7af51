"""The benchmark compares like with like."""

import asyncio
from itertools import product
from pathlib import Path

import duckdb
import pytest

from analytics_assets.sample_api.process import running
from analytics_assets.tables.resources import RESOURCES
from analytics_assets_tests.conftest import Materialize
from benchmarks.contestants import floor, floor_tricks
from benchmarks.contestants.clock import Task
from benchmarks.goals import Goal, medians
from benchmarks.measuring import Result

SIZES = {"registrations": 450, "users": 120}


OF_SYNCS = ("_changed_in", "_hash")  # floors write every row each time


def test_the_floors_make_the_same_tables(
    materialize: Materialize, warehouse_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both floors of the benchmark leave the tables of this project: columns, types, and the value of every row."""
    files = {"ours": warehouse_file, "simple": tmp_path / "simple.duckdb", "tricks": tmp_path / "tricks.duckdb"}
    with running("--token", "t", *(part for name, rows in SIZES.items() for part in (f"--{name}", str(rows)))) as url:
        monkeypatch.setenv("API_BASE_URL", url)
        monkeypatch.setenv("API_KEY", "t")
        assert materialize(*RESOURCES).success
        for _ in range(2):
            asyncio.run(floor.sync(Task(url=url, token="t", file=files["simple"], in_flight=3)))
            task = Task(url=url, token="t", file=files["tricks"], in_flight=3)
            asyncio.run(floor.sync(task, floor_tricks.read, floor_tricks.typed))
    with duckdb.connect() as database:
        for name, file in files.items():
            database.execute(f"ATTACH '{file}' AS {name} (READ_ONLY)")
        for table in RESOURCES:
            columns = "SELECT column_name, column_type FROM (DESCRIBE {}.analytics.{})"
            described = f"{columns} WHERE column_name NOT IN {OF_SYNCS}"
            values = f"SELECT COLUMNS(lambda name: name NOT IN {('_changed_at', *OF_SYNCS)}) FROM {{}}.analytics.{{}}"
            for query, name in product((described, values), ("simple", "tricks")):
                ours, theirs = query.format("ours", table), query.format(name, table)
                for left, right in ((ours, theirs), (theirs, ours)):
                    assert database.execute(f"({left}) EXCEPT ALL ({right})").fetchall() == []


def test_a_wrong_result_has_no_time() -> None:
    """Where one of several runs went wrong, there is no median of the others."""
    runs = [Result("floor", "some rows", "first", seconds) for seconds in (1, 5, 3)]
    assert medians(runs)["floor", "some rows", "first"].seconds == 3
    wrong = medians([*runs, Result("floor", "some rows", "first", problem="not installed")])
    assert wrong["floor", "some rows", "first"] == Result("floor", "some rows", "first", problem="not installed")


@pytest.mark.parametrize(
    ("value", "least", "verdict"),
    [(1.2, False, "met, and the mark"), (1.6, False, "met"), (2.5, False, "missed by 25%"), (2.5, True, "met"),
     (1.5, True, "missed by 25%"), (None, False, "not measured")],
)  # fmt: skip
def test_a_verdict_says_by_how_much(value: float | None, least: bool, verdict: str) -> None:
    """A goal is met or missed by a share of its limit, and what was not measured is neither."""
    assert Goal("time", value, 2, least, None if least else 1.5).verdict == verdict
