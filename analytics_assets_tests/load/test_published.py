"""The copy that analysts open: what is in it, who may have it open, and what masking leaves."""

import hmac
import re
import shlex
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics_assets.settings import CHECKOUT, WrongSetting, load
from analytics_assets.tables.bookkeeping import SYNCS
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import HISTORIES, RESOURCES
from analytics_assets.tables.schema import EMAIL
from analytics_assets_tests.conftest import Materialize, Query, warehouse
from analytics_assets_tests.contract_api import ContractApi

KEY = "0123456789abcdef0123456789abcdef"
READER = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=True)
print("open", flush=True)
sys.stdin.readline()
print(*connection.execute("SELECT count(*) FROM analytics.users").fetchone())
"""
SCRIBBLER = """
import duckdb, os, signal, sys
connection = duckdb.connect(sys.argv[1])
connection.execute("CREATE TABLE mine AS SELECT 1")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def published(warehouse_file: Path) -> Path:
    return warehouse_file.with_name("published.duckdb")


@pytest.fixture
def read(published: Path) -> Query:
    """Asks the published copy."""

    def ask(sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(published), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    return ask


@pytest.fixture
def learners(api: ContractApi) -> ContractApi:
    """Two learners, one of them in two resources, in different spelling."""
    api.rows["users"] = [
        {"id": 1, "email": "Ann@Example.org", "display_name": "Ann Secret", "phone": "0171"},
        {"id": 2, "email": "no-address"},
        {"id": 3, "email": None},
        {"id": 4, "email": "chat: @annsecret 0171-555.org"},
    ]
    api.rows["registrations"] = [
        {"id": 1, "user": {"id": 1, "display_name": "Ann Secret"}, "content": {"id": 7, "author": "ann@secret.org"}}
    ]
    api.rows["awarded_certifications"] = [{"id": 1, "user_id": 1, "user_email": "ann@example.org"}]
    return api


def test_the_copy_holds_what_the_warehouse_does(
    learners: ContractApi, materialize: Materialize, read: Query, query: Query
) -> None:
    """Every table with all rows and comments, none of the loader's own tables or columns."""
    assert materialize().success
    tables = {name for (name,) in read("SELECT table_name FROM duckdb_tables()")}
    histories = {history.name: history for history in HISTORIES.values()}
    assert tables == {*RESOURCES, *histories, *MARTS, SYNCS.name}
    for name, table in {**RESOURCES, **histories, **MARTS}.items():
        names = [column.name for column in table.columns if column.name not in ("_page", "_hash")]
        columns = read(f"SELECT column_name, comment FROM duckdb_columns() WHERE table_name = '{name}'")
        assert columns == [(column.name, column.description) for column in table.columns if column.name in names]
        everything = f"SELECT {', '.join(names)} FROM analytics.{name} ORDER BY ALL"
        assert read(everything) == query(everything)
    assert read("SELECT comment FROM duckdb_tables() WHERE table_name = 'users'") == [(RESOURCES["users"].description,)]


def test_the_copy_can_be_read_by_older_versions(api: ContractApi, materialize: Materialize, published: Path) -> None:
    """Its format is that of DuckDB 1.0, which the header says behind the magic bytes."""
    assert materialize().success
    assert struct.unpack("<4sQ", published.read_bytes()[8:20]) == (b"DUCK", 64)


def test_an_open_reader_keeps_its_file(
    learners: ContractApi, materialize: Materialize, published: Path, read: Query
) -> None:
    """While the copy is replaced a reader goes on with the old rows; who opens it afterwards has the new ones."""
    assert materialize().success
    command = [sys.executable, "-c", READER, str(published)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout
        assert reader.stdout.readline() == "open\n"
        learners.rows["users"].append({"id": 5})
        assert materialize().success
        assert reader.communicate("go on\n")[0] == "4\n"
    assert read("SELECT count(*) FROM analytics.users") == [(5,)]


def test_what_a_killed_writer_leaves_harms_nobody(
    learners: ContractApi, materialize: Materialize, published: Path, read: Query
) -> None:
    """A reader that wrote into its copy and was killed, and a half-made copy, are both gone with the next one."""
    assert materialize().success
    subprocess.run([sys.executable, "-c", SCRIBBLER, str(published)], check=False)
    assert published.with_name("published.duckdb.wal").exists()
    published.with_name("published.duckdb.new").write_bytes(b"half a file")
    assert materialize("published_database").success
    assert read("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'mine'") == [(0,)]
    assert [file.name for file in published.parent.glob("published*")] == ["published.duckdb"]


def test_views_are_published(
    learners: ContractApi,
    materialize: Materialize,
    warehouse_file: Path,
    read: Query,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A view that somebody made in the warehouse is in the copy with its comment; one on the loader's own is not."""
    assert materialize().success
    with duckdb.connect(str(warehouse_file)) as connection:
        connection.execute("USE analytics")
        connection.execute("CREATE VIEW domains AS SELECT DISTINCT email_domain FROM registrations_enriched")
        connection.execute("COMMENT ON VIEW domains IS 'Where ''learners'' come from'")
        connection.execute("CREATE VIEW loads AS SELECT * FROM _dlt_loads")
    with caplog.at_level("WARNING", logger="analytics_assets"):
        assert materialize("published_database").success
    assert read("SELECT * FROM analytics.domains") == [("example.org",)]
    assert read("SELECT comment FROM duckdb_views() WHERE view_name IN ('domains', 'loads')") == [
        ("Where 'learners' come from",)
    ]
    assert "the view loads is not published" in caplog.text


def test_a_view_that_reads_another_is_published(
    learners: ContractApi, materialize: Materialize, warehouse_file: Path, read: Query, caplog: pytest.LogCaptureFixture
) -> None:
    """Also if its name comes first, by which DuckDB orders views when it opens a file."""
    assert materialize().success
    with duckdb.connect(str(warehouse_file)) as connection:
        connection.execute("USE analytics")
        connection.execute("CREATE VIEW seen AS SELECT id FROM users; CREATE VIEW ids AS SELECT id FROM seen")
        connection.execute("CREATE VIEW all_ids AS SELECT id FROM ids")
    with caplog.at_level("WARNING", logger="analytics_assets"):
        assert materialize("published_database").success
    assert read("SELECT count(*) FROM analytics.all_ids") == read("SELECT count(*) FROM analytics.users")
    assert not caplog.messages


def test_masking_hides_people_and_keeps_joins(
    learners: ContractApi, materialize: Materialize, read: Query, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a key no name, address or undeclared field is in the file; equal addresses stay equal, domains stay."""
    monkeypatch.setenv("MASKING_KEY", KEY)
    assert materialize().success
    ann = hmac.digest(KEY.encode(), b"ann@example.org", "sha256").hex()[:32] + "@example.org"
    nobody = hmac.digest(KEY.encode(), b"no-address", "sha256").hex()[:32]
    assert read("SELECT email FROM analytics.users WHERE id < '4' ORDER BY id") == [(ann,), (nobody,), (None,)]
    assert read("SELECT user_email, email_domain FROM analytics.registrations_enriched") == [(ann, "example.org")]
    assert read("SELECT user_email FROM analytics.awarded_certifications") == [(ann,)]
    personal = {
        (name, column.name)
        for name, table in {**RESOURCES, **MARTS}.items()
        for column in table.columns
        if column.personal and column.type is not EMAIL
    }
    assert personal.isdisjoint(read("SELECT table_name, column_name FROM duckdb_columns()"))
    content = published.read_bytes().lower()
    assert not [word for word in (b"secret", b"ann@", b"no-address", b"0171", KEY.encode()) if word in content]


@pytest.mark.parametrize("key", ["", "   ", "short"])
def test_a_weak_masking_key_publishes_nothing(
    learners: ContractApi, materialize: Materialize, published: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """A key that could be guessed, or whose secret came empty, is refused, without being shown."""
    monkeypatch.setenv("MASKING_KEY", key)
    with pytest.raises(WrongSetting, match=r"^MASKING_KEY must be 16 characters long at least$"):
        materialize()
    assert not published.exists()


def test_everything_on_disk_is_its_owners_alone(
    api: ContractApi, materialize: Materialize, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other user of the machine may read a file of ours, but the published copy where that is asked for."""
    load()
    assert materialize().success
    for file in [published, *published.parent.rglob("*")]:
        assert not file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), file
    monkeypatch.setenv("PUBLISHED_MODE", "640")
    assert materialize("published_database").success
    assert stat.S_IMODE(published.stat().st_mode) == 0o640


@pytest.mark.parametrize("spelling", ["same", "up", "link"])
def test_a_copy_at_the_warehouse_s_place_is_refused(
    warehouse_file: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    """A configuration that would replace the warehouse by its copy, by whatever path, is refused."""
    link = warehouse_file.parent / "link"
    link.symlink_to(warehouse_file.parent)
    path = {"same": warehouse_file, "up": link / ".." / warehouse_file.parent.name / warehouse_file.name}
    monkeypatch.setenv("PUBLISHED_FILE", str(path.get(spelling, link / warehouse_file.name)))
    with pytest.raises(WrongSetting, match="set PUBLISHED_FILE to another path"):
        warehouse()


def test_each_line_of_the_documentation_opens_it(
    learners: ContractApi, materialize: Materialize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB's own shell, of an older version than that which writes, and Python read it as ANALYSTS.md says."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("PUBLISHED_FILE", str(tmp_path / "data" / "published.duckdb"))
    assert materialize().success
    lines = dict(re.findall(r"^\| (.+?) \| `(.+?)` \|$", (CHECKOUT / "ANALYSTS.md").read_text(), re.MULTILINE))
    shell = [str(Path(sys.executable).with_name("duckdb")), *shlex.split(lines["DuckDB's shell"])[1:]]
    statement, _, expression = lines["Python"].partition("; ")
    python = [sys.executable, "-c", f"{statement}; print({expression})"]
    for command, shown in ((shell, "Address the learner signs in with."), (python, "@Example.org")):
        read = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert shown in read.stdout, read.stderr
