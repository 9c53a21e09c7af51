"""What a warehouse holds after a run, and what the run says of it, to be compared with that of another warehouse."""

from collections import Counter
from typing import Any

import dagster as dg

from analytics_assets.defs import history
from analytics_assets.tables.bookkeeping import LEDGER, VIEWS
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import HISTORIES, RESOURCES
from analytics_assets_tests.conftest import Query
from analytics_assets_tests.contract_api import ContractApi

TABLES = {**RESOURCES, **{history.name: history for history in HISTORIES.values()}, **MARTS, **LEDGER, **VIEWS}
OF_THE_MOMENT = {
    "_last_seen_at",
    "started_at",
    "valid_from",
    "valid_to",
    "finished_at",
    "synced_at",
    "calls",
}  # or of how it was read


def odd_rows(api: ContractApi) -> None:
    """Rows with what one database may take otherwise than another."""
    texts = [
        "",
        " ",
        "%s %",
        "it's",
        'a "b"',
        "back\\slash",
        "\t\n",
        "ŠÉ 漢字 🎓",
        "e\u0301",
        "nu\u0000l",
        "null",
        "{}",
    ]
    api.rows["users"] = [
        {"id": n, "email": text, "segments": [text], "first_name": text, text or "new": text, "created_at": 0.001 * n}
        for n, text in enumerate(texts)
    ]
    api.rows["trainings"] = [{"id": "t", "name": "", "created_at": "1900-01-01T00:00:00.000001Z"}, {"id": "T"}]
    numbers = [0, -0.0, 0.1 + 0.2, 1e-300, 1e300, 12345678901234567890, True, None, "NaN", "soon"]
    api.rows["registrations"] = [
        {"id": 2**63 + n, "score": number, "user": {"id": n}, "content": {"id": "t"}, "created_at": 1.6e12 + n / 3}
        for n, number in enumerate(numbers)
    ]
    api.rows["registrations"] += [{"id": None}, {"completed_at": "no"}]


def changed(rows: list[Any]) -> list[Any]:
    """The rows a day later: one is gone, one is new, and one has another value."""
    return [{**rows[0], "name": "new", "score": 3}, *rows[2:], {"id": "later"}]


OF_THE_WAY = {
    "preview",
    "profile",
    "last_syncs",
    "file",
    "megabytes",
    "seconds",
    "load_id",
    "dagster/table_name",
    "calls",
    "calls_left",
    "api",
}


def differing(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What is not the same in both; of tables the rows that only either has."""
    return {
        what: (one[what] - other[what], other[what] - one[what]) if what in TABLES else (one.get(what), other.get(what))
        for what in one.keys() | other.keys()
        if one.get(what) != other.get(what)
    }


def held(query: Query, result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """What a warehouse holds after a run, with how often, and what the run says of it."""
    found: dict[str, Any] = {}
    for table in TABLES.values():
        names = [column.name for column in table.columns if column.name not in OF_THE_MOMENT]
        values = ("_deleted_at IS NULL" if name == "_deleted_at" else f'"{name}"' for name in names)
        rows = query(f"SELECT {', '.join(values)} FROM {table.name}")
        if table.name in MARTS:
            rows = [tuple(float(f"{v:.12g}") if isinstance(v, float) else v for v in row) for row in rows]  # of a mean
        found[table.name] = Counter(rows)
    for check in result.get_asset_check_evaluations():
        found[f"{check.asset_key.path[-1]}.{check.check_name}"] = (check.passed, check.description)
    for event in result.get_asset_materialization_events():
        metadata = event.materialization.metadata
        found[f"page of {event.step_key}"] = {k: v for k, v in metadata.items() if k not in OF_THE_WAY}
    return found


def succeeded(result: dg.ExecuteInProcessResult) -> dg.ExecuteInProcessResult:
    assert result.success, [history.failure_text(event) for event in result.all_events if event.is_step_failure]
    return result
