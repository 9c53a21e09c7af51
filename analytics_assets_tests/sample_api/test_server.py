"""The sample API keeps the contract it imitates, and breaks it only where it was asked to."""

import json
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from analytics_assets.sample_api.academy import SIZES, Academy
from analytics_assets.sample_api.data import rows
from analytics_assets.sample_api.process import running

NOW = datetime(2024, 6, 1, tzinfo=UTC)
TOKEN = {"Authorization": "Bearer sample-token"}
ACADEMY = Academy(seed=7, now=NOW)
TIMES = {
    "integer milliseconds": r"\d{13}",
    "fractional milliseconds": r"\d{13}\.\d+",
    "space and UTC": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC",
    "ISO 8601 with Z": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "ISO 8601 with an offset": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d",
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running("--seed", "7", "--now", NOW.isoformat()) as url:
        yield url


@pytest.fixture
def api(server: str) -> Iterator[str]:
    """The one server, put right again after the test."""
    yield server
    post(server, "faults", dict.fromkeys(SIZES))


def get(url: str, resource: str, page: int = 1, per_page: int = 100) -> requests.Response:
    where = f"{url}/v1/{resource}"
    return requests.get(where, params={"page": page, "per_page": per_page}, headers=TOKEN, timeout=10)


def post(url: str, what: str, document: Any) -> requests.Response:
    return requests.post(f"{url}/{what}", json=document, timeout=10)


def read(url: str, resource: str, per_page: int = 100) -> list[dict[str, Any]]:
    """All rows of a resource, page by page, as the contract says."""
    found: list[dict[str, Any]] = []
    page = 1
    while True:
        document = get(url, resource, page, per_page).json()
        found += document["data"][resource]
        if not document["has_more"]:
            return found
        page += 1


def instant(value: str | float) -> datetime:
    """A time of the API as the moment it means."""
    if not isinstance(value, str):
        return datetime.fromtimestamp(value / 1000, UTC)
    return datetime.fromisoformat(value.replace(" UTC", "+00:00"))


@pytest.mark.parametrize("resource", SIZES)
def test_pages_add_up_to_the_rows(api: str, resource: str) -> None:
    """Reading until has_more is false gives every row once, the same rows that another process makes of the seed."""
    found = read(api, resource)
    assert found == rows(ACADEMY, resource)
    assert len({str(row["id"]) for row in found}) == SIZES[resource]


@pytest.mark.parametrize(
    ("resource", "window", "date"),
    [
        ("awarded_certifications", "awarded_certifications?start={}&end={}", "awarded_at"),
        ("registrations", "registrations/by_date_range?start_time={}&end_time={}", "created_at"),
    ],
)
def test_windows_give_the_rows_of_their_dates(api: str, resource: str, window: str, date: str) -> None:
    """Pages of a window have every row that is dated from its start to before its end, and no other."""
    start, end = (NOW.timestamp() - days * 86_400 for days in (400, 90))
    found: list[dict[str, Any]] = []
    for page in range(1, 50):
        url = f"{api}/v1/{window.format(int(start), int(end))}&page={page}&per_page=50"
        document = requests.get(url, headers=TOKEN, timeout=10).json()
        found += document["data"][resource]
        if not document["has_more"]:
            break
    dated = [row for row in rows(ACADEMY, resource) if start <= instant(row[date]).timestamp() < end]
    assert 50 < len(found) < SIZES[resource]
    assert found == dated
    refused = requests.get(f"{api}/v1/{window.format('2024-01-01', 2)}", headers=TOKEN, timeout=10)
    assert refused.status_code == 400


def test_seed_and_moment_decide_the_rows() -> None:
    """Another seed, or another moment at which histories end, gives other rows."""
    assert rows(Academy(8, NOW), "users") != rows(ACADEMY, "users")
    assert rows(Academy(7, NOW.replace(year=2023)), "users") != rows(ACADEMY, "users")


def test_envelope(api: str) -> None:
    """A page says which it is, how many rows it may have, whether more follow, and its own address."""
    document = get(api, "users", 4).json()
    assert len(document["data"].pop("users")) == 100
    assert document == {
        "page": 4,
        "per_page": 100,
        "has_more": False,
        "url": f"{api}/v1/users?page=4&per_page=100",
        "data": {},
    }
    assert get(api, "users", 5).json()["data"] == {"users": []}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "sample-token"}])
def test_token_is_checked(api: str, headers: dict[str, str]) -> None:
    """A missing or wrong token is refused with 401 and a plain text."""
    response = requests.get(f"{api}/v1/users", headers=headers, timeout=10)
    assert (response.status_code, response.headers["content-type"]) == (401, "text/plain")


def test_per_page_is_capped(api: str) -> None:
    """A page has at most 100 rows, and 25 where nothing is asked for."""
    assert get(api, "registrations", per_page=5000).json()["per_page"] == 100
    assert len(get(api, "registrations", per_page=5000).json()["data"]["registrations"]) == 100
    assert requests.get(f"{api}/v1/users", headers=TOKEN, timeout=10).json()["per_page"] == 25


@pytest.mark.parametrize("query", ["page=0", "page=-1", "page=two", "page=", "per_page=0", "per_page=1.5"])
def test_wrong_numbers_are_refused(api: str, query: str) -> None:
    """A page or per_page that is no positive integer is answered with 400."""
    response = requests.get(f"{api}/v1/users?{query}", headers=TOKEN, timeout=10)
    assert response.status_code == 400
    assert query.split("=")[0] in response.json()["error"]


@pytest.mark.parametrize("resource", ["courses", "users/1", "users/"])
def test_unknown_resource(api: str, resource: str) -> None:
    """A resource that is none of the six is answered with 404 and a JSON error."""
    response = get(api, resource)
    assert (response.status_code, list(response.json())) == (404, ["error"])


def test_calls_are_counted(api: str) -> None:
    """Every request that reaches a resource counts, refused and faulty ones too."""
    before = requests.get(f"{api}/calls", timeout=10).json()
    post(api, "faults", {"users": "status:500"})
    get(api, "users")
    requests.get(f"{api}/v1/users", timeout=10)
    after = requests.get(f"{api}/calls", timeout=10).json()
    assert Counter(after) - Counter(before) == {"users": 2}


@pytest.mark.parametrize("form", TIMES)
@pytest.mark.parametrize(
    ("resource", "column"),
    [
        *(("users", "created_at"), ("trainings", "created_at"), ("registrations", "completed_at")),
        *(("registrations", "due_at"), ("awarded_certifications", "awarded_at"), ("paths_users", "completed_at")),
    ],
)
def test_times_are_mixed_within_a_column(resource: str, column: str, form: str) -> None:
    """Every spelling of a time stands in every column of times."""
    assert any(re.fullmatch(TIMES[form], str(row.get(column))) for row in rows(ACADEMY, resource))


def test_ids_are_mixed() -> None:
    """Ids and references to them are integers on some rows and texts on others, the same one both ways."""
    for resource in SIZES:
        assert {type(row["id"]) for row in rows(ACADEMY, resource)} == {int, str}
    for column in ("user_id", "path_id"):
        found = {row[column] for row in rows(ACADEMY, "paths_users") if column in row}
        assert {str(value) for value in found if isinstance(value, int)} & found


@pytest.mark.parametrize("column", ["user", "content"])
def test_both_nestings_occur(column: str) -> None:
    """A registration's user and content stand directly in it or one level deeper, with ids of both types, or not."""
    shapes: Counter[tuple[bool, type]] = Counter()
    for row in rows(ACADEMY, "registrations"):
        outer: dict[str, Any] = row.get(column) or {}
        inner = outer.get(column) or outer
        shapes[column in outer, type(inner.get("id"))] += 1
    assert {(nested, kind) for nested in (True, False) for kind in (int, str)} <= shapes.keys()
    assert shapes[False, type(None)] > 0


def test_other_oddities_occur() -> None:
    """Unlisted fields, null and absent fields, empty lists, rows of an id alone, names beyond ASCII are all there."""
    users, paths = rows(ACADEMY, "users"), rows(ACADEMY, "paths_users")
    assert {"time_zone", "card_banner", "time_estimate_seconds", "grading_status", "enrollment_method"} <= {
        name for resource in SIZES for row in rows(ACADEMY, resource) for name in row
    }
    assert any("created_at" not in row for row in users)
    assert any(row.get("email", "") is None for row in users)
    assert any(row.get("segments") == [] for row in users)
    assert any(row.get("custom_registration_field_values") == [] for row in users)
    assert any(list(row) == ["id"] for row in paths)
    assert any(not row["first_name"].isascii() for row in users)


def joined() -> Iterator[tuple[dict[str, Any], str, str]]:
    """Registrations with the ids of their user and content as text."""
    for row in rows(ACADEMY, "registrations"):
        if row.get("user") and row.get("content"):
            user, content = (row[name].get(name, row[name]) for name in ("user", "content"))
            yield row, str(user["id"]), str(content["id"])


def test_references() -> None:
    """Most registrations have a listed user and training, some a removed user, some a content that is no training."""
    users = {str(row["id"]) for row in rows(ACADEMY, "users")}
    trainings = {str(row["id"]) for row in rows(ACADEMY, "trainings")}
    found = Counter((user in users, content in trainings) for _, user, content in joined())
    assert found[True, True] > 3000
    assert found[False, True] > 50
    assert found[True, False] > 100


def test_sizes_are_skewed() -> None:
    """Some trainings are much bigger than others."""
    registered = Counter(content for _, _, content in joined()).most_common()
    assert registered[0][1] > 10 * registered[len(registered) // 2][1]


def test_histories_add_up() -> None:
    """Whatever a registration tells fits together, and nothing happens before its beginning or after now."""
    outcomes: Counter[tuple[str | None, bool, bool]] = Counter()
    for row in rows(ACADEMY, "registrations"):
        created = instant(row["created_at"])
        assert row.get("due_at") is None or instant(row["due_at"]) > created
        assert row["is_completed"] == (row["completed_at"] is not None) == (row["completion_percentage"] == 100)
        if row["is_completed"]:
            assert created < instant(row["completed_at"]) <= NOW
        else:
            assert row.get("score") is None
            assert row.get("pass_status") in (None, "pending")
        if row.get("score") is not None and row.get("pass_status"):
            assert row["pass_status"] == ("passed" if row["score"] >= 70 else "failed")
        late = row.get("due_at") is not None and not row["is_completed"] and instant(row["due_at"]) < NOW
        outcomes[row.get("pass_status"), late, row["completion_percentage"] == 0] += 1
    assert {"passed", "failed", "pending"} <= {status for status, _, _ in outcomes}
    assert {(True, True), (True, False)} <= {(late, untouched) for _, late, untouched in outcomes}


def test_certificates_follow_completions() -> None:
    """Every certificate that was awarded is a listed one, for a training its holder had completed by then."""
    names = {row["name"] for row in rows(ACADEMY, "certifications")}
    titles = {str(row["id"]): row["name"] for row in rows(ACADEMY, "trainings")}
    completed: dict[tuple[str, str], datetime] = {}
    for row, user, content in joined():
        if row["is_completed"] and content in titles:
            key, when = (user, f"Certificate: {titles[content]}"), instant(row["completed_at"])
            completed[key] = min(when, completed.get(key, when))
    found = 0
    for award in rows(ACADEMY, "awarded_certifications"):
        assert award["name"] in names
        earliest = completed.get((str(award["user_id"]), award["name"]))
        found += earliest is not None and earliest <= instant(award["awarded_at"]) <= NOW
    # A registration that lacks its user or content cannot be found from here.
    assert found > 0.95 * SIZES["awarded_certifications"]


def test_rows_can_be_added() -> None:
    """Rows added by request come at the end: earlier pages stay to the byte, the last ones follow."""
    with running("--users", "150") as url:
        first, second = get(url, "users", 1).content, get(url, "users", 2).json()
        assert post(url, "rows", {"users": 60}).json()["users"] == 210
        assert get(url, "users", 1).content == first
        grown = get(url, "users", 2).json()
        assert grown["data"]["users"][:50] == second["data"]["users"]
        assert (second["has_more"], grown["has_more"]) == (False, True)
        assert len(get(url, "users", 3).json()["data"]["users"]) == 10
        assert post(url, "rows", {"courses": 1}).status_code == 400


def test_rows_appear_with_time() -> None:
    """With growth a resource has more rows each time one looks, until one has seen enough."""
    with running("--users", "0", "--growth", "users=30000") as url:
        while len(read(url, "users")) < 20:
            pass


def test_latency() -> None:
    """A latency is added to every request."""
    with running("--latency-ms", "50") as url:
        assert get(url, "users").elapsed.total_seconds() >= 0.05


@pytest.mark.parametrize(
    ("fault", "status"), [("status:500", 500), ("status:401", 401), ("retry_after:7", 429), ("retry_date:60", 429)]
)
def test_faults_of_status(api: str, fault: str, status: int) -> None:
    """An error has its status and a JSON body, and Retry-After where it was asked for."""
    assert post(api, "faults", {"users": fault}).ok
    response = get(api, "users")
    assert response.status_code == status
    assert response.json().keys() & {"error", "message"}
    assert get(api, "trainings").ok
    if fault == "retry_after:7":
        assert response.headers["Retry-After"] == "7"
    if fault == "retry_date:60":
        wait = parsedate_to_datetime(response.headers["Retry-After"]) - parsedate_to_datetime(response.headers["Date"])
        assert 55 < wait.total_seconds() < 65


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("cut", requests.exceptions.ChunkedEncodingError),
        ("reset", requests.exceptions.ConnectionError),
        ("hang", requests.exceptions.ReadTimeout),
        ("html", requests.exceptions.JSONDecodeError),
        ("slow", requests.exceptions.ConnectionError),
        ("broken_gzip", requests.exceptions.ContentDecodingError),
        ("bomb:3", requests.exceptions.JSONDecodeError),
    ],
)
def test_faults_of_transport(api: str, fault: str, error: type[Exception]) -> None:
    """A body cut short, a closed connection, silence and a page for people each look so to a client."""
    post(api, "faults", {"users": fault})
    with pytest.raises(error):
        requests.get(f"{api}/v1/users", headers=TOKEN, timeout=0.3).json()
    assert get(api, "trainings").ok


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("no_has_more", "absent"),
        ("has_more_true", True),
        ("has_more_text", "false"),
    ],
)
def test_faults_of_has_more(api: str, fault: str, expected: object) -> None:
    """On the last page has_more is missing, true all the same, or a text."""
    post(api, "faults", {"users": fault})
    document = get(api, "users", 4).json()
    assert document.get("has_more", "absent") == expected
    assert len(document["data"]["users"]) == 100


def test_faults_of_shape(api: str) -> None:
    """Rows can be missing, null or none, and the whole body a list or null."""
    found = {}
    for fault in ("missing_rows", "null_rows", "empty"):
        post(api, "faults", {"users": fault})
        found[fault] = get(api, "users").json()["data"]
    assert found == {"missing_rows": {}, "null_rows": {"users": None}, "empty": {"users": []}}
    post(api, "faults", {"users": "null_body"})
    assert get(api, "users").json() is None
    post(api, "faults", {"users": "list_body"})
    assert isinstance(get(api, "users").json(), list)


def test_faults_of_values(api: str) -> None:
    """Values that JSON, or a warehouse, does not have stand in the first rows, and the others are as they were."""
    sound = get(api, "users").json()["data"]["users"]
    post(api, "faults", {"users": "odd_values"})
    rows = json.loads(get(api, "users").content)["data"]["users"]
    assert rows[0]["a"] != rows[0]["a"]
    assert (rows[1]["a"], rows[2]["id"], len(rows[4]["a"])) == ("\ud800", 2**64 + 1, 2**20)
    assert rows[5:] == sound[5:]


def test_page_can_be_ignored(api: str) -> None:
    """A server that ignores the page sends page 1 for ever."""
    first = get(api, "users").json()
    post(api, "faults", {"users": "ignore_page"})
    last = get(api, "users", 4).json()
    assert last["data"] == first["data"]
    assert last["has_more"]


@pytest.mark.parametrize("resource", ["users", "registrations"])
def test_rows_can_shift(api: str, resource: str) -> None:
    """Rows that move while they are read stand on two pages, with different values, and no row is lost."""
    post(api, "faults", {resource: "shift:2"})
    found = read(api, resource)
    assert len(found) == SIZES[resource] + 2
    assert [str(row["id"]) for row in found[98:100]] == [str(row["id"]) for row in found[100:102]]
    assert all(before != after for before, after in zip(found[98:100], found[100:102], strict=True))
    assert len({str(row["id"]) for row in found}) == SIZES[resource]


def test_faults_have_places_and_times(api: str) -> None:
    """A fault strikes the page it is for, as often as it is to, and several can be on at once."""
    post(api, "faults", {"users": "status:503*2, status:500@3"})
    assert [get(api, "users", page).status_code for page in (1, 1, 1, 3, 3, 2)] == [503, 503, 200, 500, 500, 200]
    post(api, "faults", {"users": None})
    assert get(api, "users", 3).ok


@pytest.mark.parametrize("fault", ["stutter", "status", "status:200", "cut:1", "status:500*", "cut@x", ""])
def test_wrong_faults_are_named(api: str, fault: str) -> None:
    """What is no fault is refused with its name and the list of those that are, and changes nothing."""
    response = post(api, "faults", {"users": fault})
    assert response.status_code == 400
    assert repr(fault) in response.json()["error"]
    assert "status:CODE" in response.json()["error"]
    assert get(api, "users").ok


def test_options_switch_faults_on() -> None:
    """Faults can be there from the start, many for one resource."""
    with running("--fault", "users=reset*1", "--fault", "users=status:502@1", "--fault", "trainings=empty") as url:
        with pytest.raises(requests.ConnectionError):
            get(url, "users")
        assert get(url, "users").status_code == 502
        assert get(url, "trainings").json()["data"] == {"trainings": []}


def test_wrong_options_are_told() -> None:
    """A server that cannot start says why, to whoever starts it."""
    with pytest.raises(RuntimeError, match="'stutter' is no fault"), running("--fault", "users=stutter"):
        pass
    with (
        pytest.raises(RuntimeError, match="'courses=cut' does not begin with one of"),
        running("--fault", "courses=cut"),
    ):
        pass


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "analytics_assets.sample_api", "--port", "0", "--exit-with-parent"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


def test_ends_with_its_parent(process: subprocess.Popen[str]) -> None:
    """When standard input closes, as it does when a parent is killed, the server ends by itself, and cleanly."""
    assert process.stdin is not None
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert get(url, "users").ok
    process.stdin.close()
    assert process.wait(5) == 0
    assert process.stdout.read() == ""


def test_ends_when_terminated(process: subprocess.Popen[str]) -> None:
    """SIGTERM ends the server soon, though a connection is open and a request waits for ever."""
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    with requests.Session() as session:
        assert session.get(f"{url}/v1/users", headers=TOKEN, timeout=10).ok
        post(url, "faults", {"users": "hang"})
        with pytest.raises(requests.ReadTimeout):
            session.get(f"{url}/v1/users", headers=TOKEN, timeout=0.1)
        process.terminate()
        assert process.wait(5) in (0, -15)


def test_only_this_machine_reaches_it(api: str) -> None:
    """It listens on 127.0.0.1, and not on another address of this machine."""
    port = urlsplit(api).port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), 5)
