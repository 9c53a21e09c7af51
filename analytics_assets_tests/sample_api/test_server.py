"""The sample API keeps the contract it imitates, and its process starts and ends as it should."""

import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from analytics_assets.sample_api.academy import SIZES
from analytics_assets.sample_api.data import rows
from analytics_assets.sample_api.process import running
from analytics_assets_tests.sample_api.conftest import ACADEMY, NOW, TOKEN, get, instant, post, read, started


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
    with started("-m", "analytics_assets.sample_api") as process:
        yield process


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
