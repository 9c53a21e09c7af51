"""What an asset's page shows of the rows: what they look like, and nothing of the people in them."""

import dagster as dg
import pytest

from analytics_assets.defs import column_profile
from analytics_assets.defs.catalog import reading
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import RESOURCES
from analytics_assets_tests.conftest import Materialize, warehouse
from analytics_assets_tests.contract_api import ContractApi

SECRET = "secret@example.org"


def shown(result: dg.ExecuteInProcessResult, name: str) -> dict[str, str]:
    """The Markdown in the asset's metadata."""
    [event] = [e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(name)]
    entries = event.materialization.metadata.items()
    return {label: entry.value for label, entry in entries if isinstance(entry, dg.MarkdownMetadataValue)}


def lines(markdown: str) -> dict[str, list[str]]:
    """The cells of each row of a Markdown table, by the first of them."""
    return {name: cells for name, *cells in (line.split("|") for line in markdown.splitlines())}


@pytest.mark.usefixtures("each_warehouse")
def test_the_preview_is_turned_and_shows_the_fullest_rows(api: ContractApi, materialize: Materialize) -> None:
    """A row a column; of the first rows the two with the fewest nulls; long texts are cut."""
    api.rows["trainings"] = [
        {"id": 1},
        {"id": 2, "name": "A name that is too long for a cell", "type": "course", "created_at": "2024-02-03T04:05:06Z"},
        {"id": 3, "name": "Short"},
    ]
    preview = lines(shown(materialize("trainings"), "trainings")["preview"])
    names = [column.name for column in RESOURCES["trainings"].columns if column.name != "_hash"]
    assert list(preview) == ["column", "-", *names]
    assert preview["id"] == ["`2`", "`3`"]
    assert preview["name"] == ["`A name that is to…`", "`Short`"]
    assert preview["created_at"] == ["2024\u201102\u201103", ""]


@pytest.mark.usefixtures("each_warehouse")
def test_the_profile_says_what_is_in_each_column(api: ContractApi, materialize: Materialize) -> None:
    """Share of nulls, distinct values, least and greatest; of a boolean the share that is true."""
    api.rows["registrations"] = [
        {"id": n, "score": n / 2 if n else None, "pass_status": ["passed", "failed"][n % 2], "is_completed": n < 3}
        for n in range(4)
    ]
    found = lines(shown(materialize("registrations"), "registrations")["profile"])
    assert found["column"] == ["null", "distinct", "least, greatest"]
    assert found["id"] == ["0%", "4", ""], "ids are texts: their order would mislead"
    assert found["score"] == ["25%", "3", "0.5, 1.5"]
    assert found["pass_status"] == ["0%", "2", "`failed`, `passed`"]
    assert found["is_completed"] == ["0%", "", "`75% true`"]
    assert found["due_at"] == ["all", "0", ""]


def test_among_many_rows_distinct_values_are_estimated(
    api: ContractApi, materialize: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimate is called one, has two digits, and is not more than there are values."""
    monkeypatch.setattr(column_profile, "FEW_ROWS", 100)
    api.rows["trainings"] = [{"id": n, "type": ["course", "video"][n % 2]} for n in range(300)]
    found = lines(shown(materialize("trainings"), "trainings")["profile"])
    about = int(found["id"][1].removeprefix("~").replace(",", ""))
    assert found["id"][1].startswith("~")
    assert about in range(200, 310, 10)
    assert found["type"][1] == "~2"


@pytest.mark.usefixtures("each_warehouse")
def test_no_personal_data_is_shown(api: ContractApi, materialize: Materialize) -> None:
    """Neither in a preview nor in a profile, not even as an embedded learner's id; that there is a value is."""
    api.rows["users"] = [{"id": 1, "email": SECRET, "display_name": SECRET, "phone": SECRET, "first_name": ""}]
    api.rows["registrations"] = [{"id": 1, "user": SECRET, "content": {"id": "t", "author": SECRET}}]
    api.rows["awarded_certifications"] = [{"id": 1, "user_email": SECRET, "user_name": SECRET}]
    result = materialize()
    assert result.success
    for name in (*RESOURCES, *MARTS):
        texts = shown(result, name)
        assert not [text for text in texts.values() if "secret" in text], name
    assert lines(shown(result, "registrations")["preview"])["user_id"] == [f"`{column_profile.MASK}`", ""]
    users = lines(shown(result, "users")["preview"])
    assert users["email"] == users["extra_fields"] == [f"`{column_profile.MASK}`", ""]
    assert users["last_name"] == ["", ""]


@pytest.mark.usefixtures("each_warehouse")
def test_text_of_the_api_is_no_markup(api: ContractApi, materialize: Materialize) -> None:
    """A picture, a link or a bar in a name stays text in its cell."""
    api.rows["trainings"] = [{"id": 1, "name": "`![x](http://e)`|\nb", "type": ""}]
    preview = lines(shown(materialize("trainings"), "trainings")["preview"])
    assert preview["name"] == ["`'![x](http://e)'¦…`", ""]
    assert preview["type"] == ["`(empty)`", ""]


@pytest.mark.usefixtures("each_warehouse")
def test_every_table_is_drawn_in_place(api: ContractApi, materialize: Materialize) -> None:
    """Full rows with long texts, also of the widest table, give less Markdown than the UI hides behind a link."""
    api.rows["users"] = [{"id": f"user-{n}", "email": f"{n}@example.org", "segments": ["x" * 99]} for n in range(3)]
    api.rows["trainings"] = [{"id": f"training-{n}" * 9, "name": "y" * 99, "type": "z" * 99} for n in range(3)]
    times = dict.fromkeys(("completed_at", "created_at", "due_at"), "2024-02-03T04:05:06Z")
    api.rows["registrations"] = [
        {
            **times,
            "id": f"registration-{n}" * 9,
            "user": {"id": f"user-{n}"},
            "content": {"id": f"training-{n}" * 9},
            "pass_status": "p" * 99,
            "score": 99.123456789 + n,
        }
        for n in range(3)
    ]
    result = materialize()
    for name in (*RESOURCES, *MARTS):
        texts = shown(result, name)
        assert texts.keys() >= {"preview"}
        assert max(len(text) for text in texts.values() if "data:image" not in text) < 1000, name


@pytest.mark.usefixtures("each_warehouse")
def test_an_empty_table_says_so(api: ContractApi, materialize: Materialize) -> None:
    """Without rows there is no table of them."""
    assert shown(materialize("users"), "users") == {"preview": "The table has no rows."}


def test_the_line_to_copy_reads_the_table(
    api: ContractApi, materialize: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands it gives the table of the published copy; where there is no copy it is SQL for the warehouse."""
    api.rows["users"] = [{"id": 7}]
    assert materialize().success
    statement, _, expression = reading("users", warehouse()).partition("; ")
    scope: dict[str, object] = {}
    exec(statement, scope)
    assert eval(f"{expression}.fetchall()", scope)[0][0] == "7"
    monkeypatch.setenv("DESTINATION__WAREHOUSE__DESTINATION_TYPE", "postgres")
    assert reading("users", warehouse()) == "SELECT * FROM analytics.users"
