"""What a complete sync leaves behind: rows set aside, deletions, its entry; and what an incomplete one does not."""

import json
from typing import Any

import dagster as dg
import pytest

from analytics_assets.defs import history
from analytics_assets.extract.api import address
from analytics_assets.settings import SAMPLE_TOKEN
from analytics_assets.tables.resources import RESOURCES
from analytics_assets_tests.conftest import Materialize, Query, configured, warehouse
from analytics_assets_tests.contract_api import ContractApi, body, status

pytestmark = pytest.mark.usefixtures("each_warehouse")

REJECTED = "SELECT id, reason, page FROM rejected_rows WHERE resource = 'users' ORDER BY id"
DELETED = "SELECT id FROM users WHERE _deleted_at IS NOT NULL ORDER BY id"


def users(*ids: Any, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": key, **fields} for key in ids]


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    [event] = [event for event in result.all_events if event.is_step_failure]
    return history.failure_text(event)


def test_an_unreadable_row_is_set_aside_until_it_can_be_read(
    api: ContractApi, materialize: Materialize, query: Query
) -> None:
    """The rest of its page loads, a check warns with the reason, and a row that becomes readable leaves the rejects."""
    api.rows["users"] = [*users(1, 2), {"id": 3, "created_at": "soon", "email": "e\u0000\ud800"}, {"email": "nobody"}]
    result = materialize("users")
    assert result.success
    assert query("SELECT id FROM users ORDER BY id") == [("1",), ("2",)]
    assert query(REJECTED) == [
        ("3", "'email' is no text (str); 'created_at' is no timestamp (UTC) (str)", 1),
        (None, "there is no 'id'", 1),
    ]
    kept = {text for (text,) in query('SELECT "row" FROM rejected_rows')}
    assert json.dumps(api.rows["users"][2], separators=(",", ":")) in kept
    [check] = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert check.check_name == "rows_are_readable"
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert "2 of 4 rows read, such as 3: 'email' is no text" in (check.description or "")

    api.rows["users"] = users(1, 2, 3)
    result = materialize("users")
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert query(REJECTED) == []
    assert query("SELECT count(*) FROM users") == [(3,)]


def test_a_page_that_is_not_quite_json_loses_only_the_rows_that_are_not(
    api: ContractApi, materialize: Materialize, query: Query
) -> None:
    """NaN, lone surrogates, bytes that are no text, numbers beyond a double, and integers beyond 64 bits."""
    rows = [
        b'{"id": 1, "score": NaN}',
        b'{"id": 2, "pass_status": "\\ud800"}',
        b'{"id": 3, "pass_status": "\xff"}',
        b'{"id": 4, "score": 1e400}',
        b'{"id": 5, "user": {"id": NaN}}',
        b'{"id": 6, "new_field": [NaN]}',
        b'{"id": 99999999999999999999, "score": 1}',
        b'{"id": "7", "score": 7.5}',
    ]
    api.answers["registrations"].append(
        body(b'{"has_more": false, "data": {"registrations": [' + b",".join(rows) + b"]}}")
    )
    assert materialize("registrations").success
    assert query("SELECT id, score FROM registrations ORDER BY id") == [("7", 7.5), ("99999999999999999999", 1.0)]
    assert [key for (key,) in query("SELECT id FROM rejected_rows ORDER BY id")] == ["1", "2", "3", "4", "5", "6"]
    kept = [
        json.loads(text, parse_float=str)
        for (text,) in query("SELECT \"row\" FROM rejected_rows WHERE id IN ('1', '4') ORDER BY id")
    ]
    assert [row["score"] for row in kept] == ["NaN", "1e400"]


@pytest.mark.parametrize(("levels", "read"), [(300, True), (20_000, False)])
def test_a_value_nested_too_deep_sets_its_row_aside(
    api: ContractApi, materialize: Materialize, query: Query, levels: int, read: bool
) -> None:
    """Deeper than this Python can read JSON, some 900 levels or more: the other rows load."""
    deep = b"[" * levels + b"]" * levels
    rows = b'{"id": 1, "segments": ' + deep + b'}, {"id": 2, "new_field": ' + deep + b'}, {"id": 3}'
    api.answers["users"].append(body(b'{"has_more": false, "data": {"users": [' + rows + b"]}}"))
    assert materialize("users").success
    assert query("SELECT id FROM users ORDER BY id") == ([("1",), ("2",), ("3",)] if read else [("3",)])
    reasons = ["'segments' cannot be written as JSON (list)", "'extra_fields' cannot be written as JSON (dict)"]
    assert query("SELECT reason FROM rejected_rows ORDER BY id") == ([] if read else [(each,) for each in reasons])
    if read:
        assert query("SELECT segments FROM users WHERE id = '1'") == [(deep.decode(),)]


def test_an_integer_id_beyond_64_bits_never_turns_into_a_float(
    api: ContractApi, materialize: Materialize, query: Query
) -> None:
    """In a page that is strictly JSON too: the id is exact."""
    api.rows["users"] = users(2**64 - 1, 2**64, 7)
    materialize("users")
    exact = [("18446744073709551615",), ("18446744073709551616",), ("7",)]
    assert query("SELECT id FROM users ORDER BY id") == exact
    assert query("SELECT reason FROM rejected_rows") == []


def test_a_ledger_of_before_gets_its_new_columns(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """A warehouse whose `syncs` has not all columns yet gets them with the next sync, and keeps its rows."""
    assert materialize("users").success
    with warehouse().connection() as client:
        client.execute_sql("ALTER TABLE syncs DROP COLUMN resumed_pages")
    assert materialize("users").success
    assert query("SELECT resumed_pages FROM syncs ORDER BY started_at") == [(None,), (0,)]


def test_what_is_no_object_among_rows_is_set_aside(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """A null or a text in the list of rows costs no row beside it."""
    api.rows["users"] = [{"id": 1}, None, {"id": 2}, "text", [3]]
    assert materialize("users").success
    assert query("SELECT id FROM users ORDER BY id") == [("1",), ("2",)]
    assert query("SELECT DISTINCT reason FROM rejected_rows") == [("it is not an object",)]
    assert {row for (row,) in query('SELECT "row" FROM rejected_rows')} == {"null", '"text"', "[3]"}


def test_too_many_unreadable_rows_fail_before_the_load(
    api: ContractApi, materialize: Materialize, query: Query
) -> None:
    """Eleven of a hundred are too many: nothing is loaded, and the message has the reasons but no value."""
    api.rows["users"] = users(*range(100))
    materialize("users")
    api.rows["users"] = users(*range(100, 189)) + users(*range(11), created_at="secret")
    message = failure_of(materialize("users"))
    assert "11 of 100 rows cannot be read: 'created_at' is no timestamp (UTC) (str) (11 rows)" in message
    assert "secret" not in message
    assert query("SELECT count(*) FROM users") == [(100,)]
    assert query(REJECTED) == []


def test_a_changed_api_is_noticed(api: ContractApi, materialize: Materialize, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new field, and a column that is null in every row from one sync to the next, are named by a warning, once."""

    def change() -> str | None:
        checks = materialize("users").get_asset_check_evaluations()
        [check] = [check for check in checks if check.check_name == "api_is_unchanged"]
        assert check.severity is dg.AssetCheckSeverity.WARN
        assert check.passed == (check.description == "Unchanged.")
        return check.description

    api.rows["users"] = users(1, 2, email="e", grade=1)
    assert change() == "Unchanged."
    assert change() == "Unchanged."
    api.rows["users"] = users(1, 2, grade=1, shoe_size=44)
    assert change() == "Changed: new fields: shoe_size; now null in all rows: email."
    assert change() == "Unchanged."
    monkeypatch.setenv("API_BASE_URL", api.url.replace("127.0.0.1", "localhost"))
    monkeypatch.setenv("ACCEPT_FEWER_ROWS", "true")
    api.rows["users"] = users(1, 2, hat_size=56)
    assert change() == "Unchanged.", "another API is not compared with this one"


def test_a_resource_that_has_shrunk_is_accepted_once(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """Far fewer rows than before fail before the load, say how to accept them, and are accepted by a run option."""
    api.rows["users"] = users(*range(100))
    materialize("users")
    api.rows["users"] = []
    message = failure_of(materialize("users"))
    assert "the API returned 0 rows; at least 80 were expected after the last sync" in message
    assert "accept_fewer_rows" in message
    assert query("SELECT count(*) FROM syncs") == [(1,)]
    accepting = {"ops": {"users": {"config": {"accept_fewer_rows": True}}}}
    assert materialize("users", config=accepting).success
    assert materialize("users").success, "what was accepted is what the next sync is compared with"


def test_ten_rows_may_always_go(api: ContractApi, materialize: Materialize) -> None:
    """A small resource may lose ten rows, whatever their share."""
    api.rows["users"] = users(*range(12))
    materialize("users")
    api.rows["users"] = users(1, 2)
    assert materialize("users").success
    api.rows["users"] = []
    assert materialize("users").success


def test_a_deletion_is_inferred_from_two_misses(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """One miss is not enough; a row that comes back is back; the raw table keeps every row."""
    api.rows["users"] = users(1, 2, 3)
    materialize("users")
    api.rows["users"] = users(1, 3)
    materialize("users")
    assert query(DELETED) == []
    result = materialize("users")
    assert query(DELETED) == [("2",)]
    [event] = result.get_asset_materialization_events()
    assert event.materialization.metadata["deleted_rows"].value == 1
    api.rows["users"] = users(1, 2, 3)
    materialize("users")
    assert query(DELETED) == []
    assert query("SELECT row_count, deleted FROM syncs ORDER BY started_at") == [(3, 0), (2, 0), (2, 1), (3, 0)]


def test_a_failed_sync_infers_nothing(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """Syncs that fail are no misses, and have no entry."""
    api.rows["users"] = users(1, 2)
    materialize("users")
    api.rows["users"] = users(1)
    for _ in range(3):
        api.answers["users"].append(status(404))
        assert not materialize("users").success
    materialize("users")
    assert query(DELETED) == []
    assert query("SELECT count(*) FROM syncs") == [(2,)]


def test_a_row_that_was_set_aside_is_not_missing(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """A row that cannot be read for a while was seen; only two misses after that make it deleted."""
    api.rows["users"] = users(1, 2)
    materialize("users")
    api.rows["users"] = users(1) + users(2, created_at="?")
    for _ in range(3):
        materialize("users")
        assert query(DELETED) == []
    api.rows["users"] = users(1)
    materialize("users")
    assert query(DELETED) == []
    materialize("users")
    assert query(DELETED) == [("2",)]


def test_a_row_set_aside_without_its_id_may_be_any(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """While a row without an id is set aside, nothing is inferred."""
    api.rows["users"] = users(1, 2)
    materialize("users")
    api.rows["users"] = [*users(1), {"email": "who?"}]
    for _ in range(3):
        materialize("users")
    assert query(DELETED) == []


def test_the_join_leaves_deleted_registrations_out_and_keeps_the_names_of_deleted_learners(
    api: ContractApi, materialize: Materialize, query: Query
) -> None:
    """Deleted registrations are not counted; a deleted learner's registrations still have a name."""
    api.rows["users"] = users(1, display_name="Ann")
    api.rows["registrations"] = [{"id": n, "user": {"id": 1}} for n in (1, 2)]
    names = ("users", "trainings", "registrations", "registrations_enriched")
    materialize(*names)
    api.rows["users"], api.rows["registrations"] = [], api.rows["registrations"][:1]
    materialize("users", "registrations")
    result = materialize(*names)
    assert query("SELECT registration_id, user_display_name, has_user FROM registrations_enriched") == [
        ("1", "Ann", True)
    ]
    assert query("SELECT count(*) FROM registrations") == [(2,)]
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert checks["has_every_registration_once"]


ACCEPTING = {"ops": {"users": {"config": {"accept_fewer_rows": True}}}}


@pytest.mark.parametrize("first", [1000, 5000])
@pytest.mark.parametrize("by_setting", [True, False])
def test_rows_of_another_tenant_are_refused_and_accepted_once(
    api: ContractApi,
    materialize: Materialize,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
    first: int,
    by_setting: bool,
) -> None:
    """As many rows with other ids, or renumbered ones, load nothing; once accepted, the old ones are deleted."""
    api.rows["users"] = users(*range(1000))
    assert materialize("users").success
    api.rows["users"] = users(*range(first, first + 1000))
    message = failure_of(materialize("users"))
    assert "the API returned 1000 rows, but not 1000 of the 1000 that the warehouse has; at most 200" in message
    assert "accept_fewer_rows: true" in message
    assert "ACCEPT_FEWER_ROWS=true" in message
    assert query("SELECT count(*), (SELECT count(*) FROM syncs) FROM users") == [(1000, 1)]
    with monkeypatch.context() as once:
        if by_setting:
            once.setenv("ACCEPT_FEWER_ROWS", "true")
        assert materialize("users", config={} if by_setting else ACCEPTING).success
    deleted = "SELECT count(*), count(_deleted_at) FROM users"
    assert query(deleted) == [(2000, 0)]
    for _ in range(2):
        assert materialize("users").success
        assert query(deleted) == [(2000, 1000)]


@pytest.mark.parametrize("unsure", ["a row without id", "resumed"])
def test_what_was_accepted_is_not_refused_after_a_sync_that_infers_nothing(
    api: ContractApi, materialize: Materialize, query: Query, unsure: str
) -> None:
    """The ids that the accepted sync missed are not new to the next ones; two more misses delete their rows."""
    api.rows["users"] = users(*range(1000))
    assert materialize("users").success
    api.rows["users"] = users(*range(1000, 2000))
    assert materialize("users", config=ACCEPTING).success
    if unsure == "resumed":
        api.page = lambda *which: {"data": {}} if which[1] > 5 else api.contract_page(*which)
        assert not materialize("users").success
        api.page = api.contract_page
    else:
        api.rows["users"].append({"email": "no id"})
    assert materialize("users").success
    api.rows["users"] = users(*range(1000, 2000))
    for deleted in (0, 1000):
        assert query("SELECT count(_deleted_at) FROM users") == [(0,)]
        assert materialize("users").success
        assert query("SELECT count(_deleted_at) FROM users") == [(deleted,)]


def test_ten_ids_may_always_go(api: ContractApi, materialize: Materialize) -> None:
    """Of twelve, ten may be others; eleven of thirteen may not."""
    api.rows["users"] = users(*range(12))
    assert materialize("users").success
    api.rows["users"] = users(*range(10, 23))
    assert materialize("users").success
    api.rows["users"] = users(*range(21, 34))
    assert "not 11 of the " in failure_of(materialize("users"))


def test_another_api_is_refused_and_accepted_once(
    api: ContractApi, materialize: Materialize, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure names both and no secret; after one acceptance the new one is known, and the old one is not."""
    api.rows["users"] = users(1, 2)
    assert materialize("users").success
    one = api.url
    other = one.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("API_BASE_URL", other.replace("http://", "http://ann:secret@"))
    message = failure_of(materialize("users"))
    assert f"the warehouse has the rows of {one}/v1/users, and these would be of {other}/v1/users; if that" in message
    assert "accept_fewer_rows: true" in message
    assert "secret" not in message
    assert api.tokens.isdisjoint(message.split())
    assert query("SELECT count(*) FROM syncs") == [(1,)]
    assert materialize("users", config=ACCEPTING).success
    assert materialize("users").success
    monkeypatch.setenv("API_BASE_URL", one)
    assert "the warehouse has the rows of http://localhost" in failure_of(materialize("users"))


def test_the_same_api_may_be_written_in_several_ways(
    api: ContractApi, materialize: Materialize, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Capitals, a slash at the end, a user and a password do not make another API of it."""
    url = api.url.replace("127.0.0.1", "localhost")
    for same in (url, f"{url}/", url.replace("localhost", "LocalHost"), url.replace("http://", "HTTP://ann:pw@")):
        monkeypatch.setenv("API_BASE_URL", same)
        assert materialize("users").success, same
    assert query("SELECT DISTINCT api FROM syncs") == [(f"{url}/v1/users",)]


def test_a_default_port_and_the_sample_api_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample API has another port each time, and a warehouse of its own."""
    table = RESOURCES["users"]
    for url in ("https://api.example.com:443", "HTTPS://API.Example.Com/"):
        monkeypatch.setenv("API_BASE_URL", url)
        assert address(configured(), table) == "https://api.example.com/v1/users"
    use_sample = {"API_KEY": SAMPLE_TOKEN, "READS_SAMPLE_API": "true"}
    for name, value in use_sample.items():
        monkeypatch.setenv(name, value)
    names = set()
    for port in (20_000, 20_001):
        monkeypatch.setenv("API_BASE_URL", f"http://127.0.0.1:{port}")
        names.add(address(configured(), table))
    assert names == {"the sample API"}
