"""The sample API breaks its contract where it was asked to, and nowhere else."""

import json
from email.utils import parsedate_to_datetime

import pytest
import requests

from analytics_assets.sample_api.academy import SIZES
from analytics_assets_tests.sample_api.conftest import TOKEN, get, post, read


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
