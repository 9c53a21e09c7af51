"""The token and learners' data: where they must not appear, whatever goes wrong."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import pytest

from analytics_assets.tables.resources import RESOURCES
from analytics_assets_tests.conftest import Materialize, run, warehouse
from analytics_assets_tests.contract_api import TOKEN, ContractApi, body, status
from analytics_assets_tests.postgres import PASSWORD

SECRET = "Xanthippe"
NAMES = ("users", "trainings", "registrations", "registrations_enriched")


def personal_rows(count: int = 30) -> dict[str, list[dict[str, Any]]]:
    """Rows of every resource with something personal wherever it may stand, declared or not."""
    return {
        name: [
            {"id": number, "phone": SECRET, **{c.name: f"{SECRET}@example.org" for c in table.columns if c.personal}}
            for number in range(count)
        ]
        for name, table in RESOURCES.items()
    }


def unreadable(api: ContractApi) -> None:
    for rows in api.rows.values():
        for row in rows[:5]:
            row.update(created_at=SECRET, awarded_at=SECRET, completed_at=SECRET)


def all_unreadable(api: ContractApi) -> None:
    for rows in api.rows.values():
        for row in rows:
            row["id"] = [SECRET]


def of_another_shape(api: ContractApi) -> None:
    api.page = lambda resource, *_: {"data": {resource: [SECRET]}, "has_more": SECRET}


def torn(api: ContractApi) -> None:
    for name in RESOURCES:
        api.always[name] = body(b'{"data": {"users": [{"email": "' + SECRET.encode())


def an_error(api: ContractApi) -> None:
    for name in RESOURCES:
        api.always[name] = status(500, {"X-Reason": SECRET})


def the_same_page_again(api: ContractApi) -> None:
    api.page = lambda resource, *_: {"data": {resource: api.rows[resource]}, "has_more": True}


def a_table_of_another_type(api: ContractApi) -> None:
    with warehouse().connection() as client:
        client.execute_sql("ALTER TABLE users DROP COLUMN last_name")
        client.execute_sql("ALTER TABLE users ADD COLUMN last_name INTEGER")


FAULTS = [a_table_of_another_type, unreadable, all_unreadable, of_another_shape, torn, an_error, the_same_page_again]


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_personal_and_no_token_is_written_about(
    api: ContractApi,
    materialize: Materialize,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    each_warehouse: str,
    fault: Callable[[ContractApi], None],
) -> None:
    """Logs, events, errors, metadata and evidence name ids, columns and counts, after a good sync and a bad one."""
    monkeypatch.setenv("RUNTIME__REQUEST_MAX_ATTEMPTS", "2")
    api.rows = dict(personal_rows())
    with caplog.at_level(logging.DEBUG):
        assert materialize(*NAMES).success
        fault(api)
        materialize(*NAMES)
    events = [repr(instance.all_logs(run.run_id)) for run in instance.get_runs()]
    written = [*events, caplog.text, *capfd.readouterr()]
    assert any("registrations" in text for text in written)
    for text in written:
        for secret in (SECRET, TOKEN, PASSWORD, quote(PASSWORD, safe="")):
            assert secret not in text


@pytest.mark.usefixtures("dagster_home")
def test_the_token_is_in_no_file(api: ContractApi, tmp_path: Path) -> None:
    """Neither a sync nor a broken one leaves the token on the disk, or learners' data but in the databases."""
    api.rows = dict(personal_rows())
    assert run()[0] == 0
    all_unreadable(api)
    assert run()[0] == 1
    for file in tmp_path.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert TOKEN.encode() not in content, file
        assert SECRET.encode() not in content or file.suffix == ".duckdb", file
