"""Adding a field, a resource, a mart and a check as CONTRIBUTING.md says, in a copy of the project, works at once."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb

from analytics_assets.settings import CHECKOUT

FIELD = '            Column("seats", COUNT, "Places in the training."),\n'
RESOURCE = """        _resource(
            "bookings",
            "One row per room that is booked for a training.",
            Column("training_id", ID, "Training that takes place in the room, `trainings.id`."),
            Column("room", TEXT, "Name of the room."),
            Column("booked_at", TIME, "When the room was booked."),
        ),
"""
MART = """        Table(
            "rooms",
            "One row per room.",
            (
                Column("room", TEXT, "Name of the room.", nullable=False),
                Column("bookings", COUNT, "How often the room is booked.", nullable=False),
                Column("seats", COUNT, "Places in all trainings that take place there."),
            ),
        ),
"""
SQL = """SELECT bookings.room, count(*) AS bookings, CAST(sum(trainings.seats) AS BIGINT) AS seats
FROM analytics.bookings
LEFT JOIN analytics.trainings ON trainings.id = bookings.training_id
WHERE bookings.room IS NOT NULL
GROUP BY bookings.room
"""
CHECK = """    Claim(
        "rooms_have_seats",
        MARTS["rooms"],
        "Every room has seats.",
        "SELECT room AS id FROM rooms",
        dg.AssetCheckSeverity.WARN,
    ),
"""


def insert(file: Path, before: str, text: str) -> None:
    """Put the text in front of the first place where `before` stands."""
    old = file.read_text()
    assert before in old
    file.write_text(old.replace(before, text + before, 1))


def changed(tmp_path: Path) -> Path:
    """A copy of the project with all four."""
    copy = tmp_path / "project"
    shutil.copytree(CHECKOUT / "analytics_assets", copy / "analytics_assets", ignore=lambda *_: ["__pycache__"])
    for name in ("docs/generate.py", "README.md", "pyproject.toml"):
        (copy / name).parent.mkdir(exist_ok=True)
        shutil.copy(CHECKOUT / name, copy / name)
    package = copy / "analytics_assets"
    resources, marts = package / "tables" / "resources.py", package / "tables" / "marts.py"
    insert(resources, '            Column("name", TEXT, "Title of the training."),\n', FIELD)
    insert(resources, '        _resource(\n            "certifications",\n', RESOURCE)
    resources.write_text(
        re.sub(r"(import \(?\s*BOOLEAN), COUNT,|(import \(?\s*BOOLEAN),", r"\1\2, COUNT,", resources.read_text())
    )
    insert(marts, '        Table(\n            "training_outcomes",\n', MART)
    (package / "marts" / "rooms.sql").write_text(SQL)
    insert(package / "defs" / "checks.py", '    Claim(\n        "users_are_matched",\n', CHECK)
    return copy


def test_what_is_added_is_loaded_shown_and_documented(tmp_path: Path) -> None:
    """Table, mart, check, documentation and the sample API's rows follow from the declaration."""
    copy = changed(tmp_path)
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(copy)}
    run = [sys.executable, "-m", "analytics_assets", "run"]
    answer = subprocess.run(run, env=bare, cwd=copy, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert re.search(r"^bookings +\d+ +\d+ +[\d.]+$", answer.stdout, re.MULTILINE)
    assert "WARN: rooms.rooms_have_seats: Violated by" in answer.stdout, "a claim that no room fulfils"
    assert re.search(r"^rooms +\d+ +[\d.]+$", answer.stdout, re.MULTILINE)
    with duckdb.connect(str(copy / "data" / "sample" / "published.duckdb"), read_only=True) as database:
        rows = database.execute("SELECT count(*), sum(bookings), sum(seats) > 0 FROM analytics.rooms").fetchone()
        booked = database.execute("SELECT count(room) FROM analytics.bookings").fetchone()
        meant = "SELECT source FROM analytics.data_dictionary WHERE table_name = 'rooms' ORDER BY column_name"
        sources = [source for (source,) in database.execute(meant).fetchall()]
    assert rows
    assert booked
    assert rows[1:] == (booked[0], True)
    assert sources[1] == "`bookings.room`"
    listed = [sys.executable, "-m", "dagster", "asset", "list", "-m", "analytics_assets.definitions"]
    assert "rooms" in subprocess.run(listed, env=bare, cwd=copy, capture_output=True, text=True).stdout.split()
    subprocess.run([sys.executable, "docs/generate.py", "."], env=bare, cwd=copy, check=True)
    assert "## bookings" in (copy / "docs" / "tables.md").read_text()
