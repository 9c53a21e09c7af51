"""What comes of trainings and learners, as an analyst reads it, and what their pages show at a glance."""

import re
from base64 import b64decode
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

import dagster as dg
import pytest

from analytics_assets.defs import checks, glance
from analytics_assets.marts import lineage
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.schema import Table
from analytics_assets_tests.conftest import Materialize, Query, warehouse
from analytics_assets_tests.contract_api import ContractApi
from analytics_assets_tests.defs.test_column_profile import shown
from analytics_assets_tests.marts.test_marts import days

EVERYTHING = ("users", "trainings", "registrations", "awarded_certifications", *MARTS)


@pytest.fixture
def academy(api: ContractApi, each_warehouse: str) -> ContractApi:
    """Two learners and two trainings with every status between them, and rows of which one end is not known."""
    api.rows["users"] = [{"id": 1, "display_name": "Ann", "email": "ann@example.org", "segments": ["a"]}, {"id": 2}]
    api.rows["trainings"] = [{"id": "t", "name": "Safety", "type": "course"}, {"id": "u", "name": "Nobody's"}]
    done: dict[str, Any] = {"completed_at": "2024-01-11T10:00:00Z", "is_completed": True}
    api.rows["registrations"] = [
        {"id": number, "content": {"id": "t"}, "user": {"id": 1}, "created_at": "2024-01-01T10:00:00Z", **fields}
        for number, fields in enumerate(
            [
                {**done, "score": 90, "pass_status": "passed"},
                {**done, "completed_at": "2024-01-02T10:00:00Z", "score": 40, "pass_status": "Failed"},
                {**done, "completed_at": "2024-01-05T10:00:00Z", "score": None, "pass_status": "passed"},
                {"due_at": days(-2), "completion_percentage": 50, "pass_status": "pending"},
                {"due_at": days(20), "completion_percentage": 50, "score": 50},
                {"due_at": days(40)},
                {"due_at": days(20), "user": {"id": "gone"}},
                {**done, "content": {"id": "a path"}},
                {"due_at": days(-2), "content": None},
            ]
        )
    ]
    api.rows["awarded_certifications"] = [
        {"id": "x", "user_id": 1, "awarded_at": "2023-01-01T00:00:00Z"},
        {"id": "y", "user_id": 1, "awarded_at": "2024-03-01T00:00:00Z"},
        {"id": "z", "user_id": "gone"},
    ]
    return api


def rows(query: Query, mart: str) -> list[dict[str, Any]]:
    names = [column.name for column in MARTS[mart].columns]
    found = query(f"SELECT {', '.join(names)} FROM {mart} ORDER BY 1")
    return [dict(zip(names, row, strict=True)) for row in found]


def test_a_training_s_numbers(academy: ContractApi, materialize: Materialize, query: Query) -> None:
    """Rates are shares of those that count, scores of those that are there; nothing is made up for no registrations."""
    assert materialize(*EVERYTHING).success
    safety, nobodys = rows(query, "training_outcomes")
    assert safety == {
        "training_id": "t",
        "training_name": "Safety",
        "training_type": "course",
        "registrations": 7,
        "not_started": 2,
        "in_progress": 1,
        "completed": 3,
        "overdue": 1,
        "completion_rate": pytest.approx(3 / 7),
        "pass_rate": pytest.approx(2 / 3),
        "mean_score": 60,
        "median_score": 50,
        "median_days_to_complete": 4,
        "last_completed_at": datetime(2024, 1, 11, 10, tzinfo=UTC),
    }
    assert nobodys == {
        **dict.fromkeys(safety),
        **dict.fromkeys(("registrations", "not_started", "in_progress", "completed", "overdue"), 0),
        "training_id": "u",
        "training_name": "Nobody's",
    }


def test_a_learner_s_numbers(academy: ContractApi, materialize: Materialize, query: Query) -> None:
    """Registrations are not multiplied by certificates; who has neither has zeros and no activity."""
    assert materialize(*EVERYTHING).success
    ann, other = rows(query, "learner_progress")
    assert ann == {
        "user_id": "1",
        "user_display_name": "Ann",
        "user_email": "ann@example.org",
        "user_segments": '["a"]',
        "registrations": 8,
        "completed": 4,
        "overdue": 2,
        "at_risk": 1,
        "certificates_awarded": 2,
        "last_activity_at": datetime(2024, 3, 1, tzinfo=UTC),
    }
    counts = ("registrations", "completed", "overdue", "at_risk", "certificates_awarded")
    assert other == {**dict.fromkeys(ann), **dict.fromkeys(counts, 0), "user_id": "2"}


def test_deleted_rows_are_left_out(academy: ContractApi, materialize: Materialize, query: Query) -> None:
    """A deleted learner, training, registration or certificate is in no row and in no count."""
    academy.rows["registrations"] = academy.rows["registrations"][:2]
    materialize(*EVERYTHING)
    with warehouse().connection() as client:
        for name, key in {"users": "2", "trainings": "u", "registrations": "1", "awarded_certifications": "y"}.items():
            client.execute_sql(f"UPDATE {name} SET _deleted_at = current_timestamp WHERE id = '{key}'")
    assert materialize(*MARTS).success
    [training], [learner] = rows(query, "training_outcomes"), rows(query, "learner_progress")
    assert (training["registrations"], learner["registrations"], learner["certificates_awarded"]) == (1, 1, 1)


@pytest.mark.parametrize("mart", MARTS.values(), ids=MARTS)
def test_the_sql_gives_the_declared_columns(api: ContractApi, materialize: Materialize, mart: Table) -> None:
    """Names, order and types of the SQL's columns are those of the declaration."""
    materialize(*EVERYTHING)
    arrow = {"VARCHAR": "string", "TIMESTAMP WITH TIME ZONE": "timestamp[us, tz=UTC]", "DOUBLE": "double"}
    arrow |= {"BOOLEAN": "bool", "BIGINT": "int64", "DATE": "date32[day]"}
    with warehouse().connection() as client:
        described = client.execute_sql(f"DESCRIBE ({lineage.query(mart.name)})") or []
    assert [(name, arrow[kind]) for name, kind, *_ in described] == [
        (column.name, str(column.type.arrow)) for column in mart.columns
    ]


def test_totals_that_do_not_agree_are_seen(academy: ContractApi, materialize: Materialize) -> None:
    """A mart that counts otherwise than the join, or lacks a row that has registrations, breaks its check."""
    result = materialize(*EVERYTHING)
    assert [c.passed for c in result.get_asset_check_evaluations() if c.check_name == "totals_agree"] == [True, True]
    claims = {claim.table.name: claim for claim in checks.CLAIMS if claim.name == "totals_agree"}
    with warehouse().connection() as client:
        for mart, offender in {"training_outcomes": "t", "learner_progress": "1"}.items():
            client.execute_sql(f"UPDATE {mart} SET overdue = overdue + 1 WHERE overdue > 0")
            assert client.execute_sql(claims[mart].offenders) == [(offender,)]
            client.execute_sql(f"DELETE FROM {mart}")
            assert client.execute_sql(claims[mart].offenders) == [(offender,)]


def test_the_trainings_with_most_overdue_come_first(academy: ContractApi, materialize: Materialize) -> None:
    """The first thing under the columns is a table of trainings, with a bar each; names are no markup."""
    academy.rows["trainings"][0]["name"] = "A | [name](http://e) that is too long for a table"
    result = materialize(*EVERYTHING)
    texts = shown(result, "training_outcomes")
    assert [*texts][:2] == ["most_overdue", "preview"]
    assert texts["most_overdue"].splitlines()[2:] == [
        "| A \\| \\[name\\]\\(http://e\\) that is to… | 1 | 7 | ██████████ |"
    ]
    [event] = [e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey("training_outcomes")]
    assert event.materialization.metadata["trainings_overdue"].value == 1
    assert glance.bars([]) == "Nothing is overdue."


def test_twelve_long_names_are_still_drawn_in_place() -> None:
    """The table is shorter than what the UI hides behind a link, with the longest names and numbers."""
    text = glance.bars([("[" * 99, 1_000_000 - n, 10_000_000) for n in range(12)])
    assert len(text) < 1000
    assert len(text.splitlines()) > 9


def test_a_mart_needs_no_glance(api: ContractApi, materialize: Materialize, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new mart is made before somebody writes what its page shows first."""
    materialize("users", "trainings", "registrations")
    monkeypatch.setattr(glance, "GLANCE", {})
    result = materialize("registrations_enriched")
    assert result.success
    assert "status_chart" not in shown(result, "registrations_enriched")


def picture(markdown: str) -> ElementTree.Element:
    return ElementTree.fromstring(b64decode(markdown.partition("base64,")[2].removesuffix(")")))


def test_a_chart_is_small_and_has_no_names(academy: ContractApi, materialize: Materialize) -> None:
    """The chart of the join and that of the learners are pictures whose texts are months, counts and statuses."""
    result = materialize(*EVERYTHING)
    first = {"registrations_enriched": "status_chart", "learner_progress": "activity_chart"}
    for mart, label in first.items():
        texts = shown(result, mart)
        assert next(iter(texts)) == label
        words = " ".join(picture(texts[label]).itertext())
        assert "overdue" in words
        assert "Ann" not in words


def test_three_years_in_four_inks_fit() -> None:
    """A page loads a hundred materializations: each has at most 12 kB of chart, of the newest months."""
    months = [datetime(2021 + n // 12, 1 + n % 12, 1) for n in range(36)]
    counts = [(month, status, 123_456 * (1 + hash(month) % 7)) for month in months for status in glance.STATUSES]
    text = str(glance.chart("Registrations by month and status", counts, glance.STATUSES).value)
    assert len(text) < 12_000
    words = [text.text or "" for text in picture(text).iter("{http://www.w3.org/2000/svg}text")]
    assert {word[-2:] for word in words if re.fullmatch(r"[A-Z][a-z]{2} \d\d", word)} == {"22", "23"}


def test_a_month_without_anything_is_empty() -> None:
    """Between two months with registrations there is room for the bar of the month that has none."""
    months = [datetime(2023, 1, 1), datetime(2023, 3, 1)]
    drawn = picture(str(glance.chart("", [(month, "overdue", 1) for month in months], glance.STATUSES).value))
    svg = "{http://www.w3.org/2000/svg}"
    [ink] = [group for group in drawn.iter(f"{svg}g") if group.get("fill") == glance.STATUSES["overdue"]]
    one, other = (float(box.get("x", 0)) for box in ink.iter(f"{svg}rect"))
    width = next(float(box.get("width", 0)) for box in ink.iter(f"{svg}rect"))
    assert other - one > 2 * width


def test_without_rows_there_is_still_a_page(api: ContractApi, materialize: Materialize) -> None:
    """Of an empty API the marts are empty, and say so."""
    result = materialize()
    assert result.success
    assert shown(result, "training_outcomes")["most_overdue"] == "Nothing is overdue."
