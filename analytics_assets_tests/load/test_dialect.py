"""What is sent to warehouses that no test can reach: written in their SQL, it means what it means in DuckDB's."""

import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlglot
from sqlglot.errors import ErrorLevel, UnsupportedError

from analytics_assets.load import dialect
from analytics_assets.marts import lineage
from analytics_assets.tables.bookkeeping import VIEWS
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.schema import OWN, comments
from analytics_assets_tests.conftest import Query, materializing_in
from analytics_assets_tests.contents import changed, differing, held, odd_rows, succeeded
from analytics_assets_tests.contract_api import ContractApi

NEVER_REACHED = ("snowflake", "bigquery", "databricks")
translated = dialect.translated


def through_all(text: str, *_: Any) -> tuple[str, ...]:
    """Every statement in the SQL of one warehouse after the other, each time from there in DuckDB's again."""
    statements = [text]
    for other in NEVER_REACHED:
        sent = [there for statement in statements for there in translated(statement, other, str)]
        written = (there.replace("%%", "%").replace("%s", "?") for there in sent)
        back = (sqlglot.transpile(there, other, OWN, unsupported_level=ErrorLevel.RAISE)[0] for there in written)
        # sqlglot reads BigQuery's as one name.
        statements = [there.replace('"INFORMATION_SCHEMA.TABLES"', "INFORMATION_SCHEMA.TABLES") for there in back]
    return tuple(statements)


def two_days(api: ContractApi, query: Query) -> list[dict[str, Any]]:
    """What a warehouse holds after the job has run on an empty one, and again on what it then holds."""
    odd_rows(api)
    with dg.DagsterInstance.ephemeral() as instance:
        materialize = materializing_in(instance)
        first = held(query, succeeded(materialize()))
        api.rows["users"] = changed(api.rows["users"])
        return [first, held(query, succeeded(materialize("users", *MARTS, *VIEWS)))]


def test_all_that_is_sent_means_the_same_there_and_back(
    api: ContractApi, query: Query, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With each statement of the whole job translated and back, every table, check and page is as without."""
    plain = two_days(api, query)
    monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", str(tmp_path / "other.duckdb"))
    monkeypatch.setattr(dialect, "translated", through_all)
    for day, again in zip(plain, two_days(api, query), strict=True):
        assert not differing(day, again)


def test_names_are_those_that_dlt_gives() -> None:
    """Quoted, since `row` is a word of SQL, in the warehouse's case; a text stays as it is, a parameter is dlt's."""
    text = "INSERT INTO rejected_rows (id, \"row\") SELECT id, 'Row 1%' FROM users AS u WHERE u._page = ?"
    assert translated(text, "snowflake", str.upper) == (
        'INSERT INTO "REJECTED_ROWS" ("ID", "ROW") SELECT "ID", \'Row 1%%\' FROM "USERS" AS "U" WHERE "U"."_PAGE" = %s',
    )
    assert translated(text, OWN, str) == (text,)


def test_what_has_no_translation_is_refused() -> None:
    """A form that another warehouse is known not to have is not sent to it."""
    with pytest.raises(UnsupportedError):
        translated("SELECT regexp_extract(name, 'a', 0, 'i') FROM users", "databricks", str)


@pytest.mark.parametrize("mart", MARTS)
@pytest.mark.parametrize("other", NEVER_REACHED)
def test_marts_use_what_every_warehouse_has(mart: str, other: str) -> None:
    """No mart uses a function that only DuckDB and Postgres have, though its translation may be read back."""
    [statement] = translated(lineage.query(mart), other, str)
    assert not re.search(r"PERCENTILE|MEDIAN|SPLIT_PART|AT TIME ZONE|DATE_PART|EPOCH| FILTER ?\(", statement)


def test_comments_go_where_they_are_known() -> None:
    """Where there is no `COMMENT ON`, or another one, none is sent."""
    text = "; ".join(comments(MARTS["training_outcomes"]))
    assert len(translated(text, "snowflake", str.upper)) == 1 + len(MARTS["training_outcomes"].columns)
    assert translated(text, "bigquery", str) == translated(text, "databricks", str.lower) == ()
