"""What one page costs and survives, seen from a server that misbehaves."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from analytics_assets import client, token
from analytics_assets_tests.contract_api import (
    TOKEN,
    Answer,
    ContractApi,
    Handler,
    body,
    cut_short,
    reset,
    serving,
    status,
)

PAGE = {"page": 1, "per_page": 100}
TRANSIENT = [429, 500, 502, 503, 504]


def get(api: ContractApi) -> requests.Response:
    with client.session(client.JsonAdapter()) as session:
        return session.get(f"{api.url}/v1/users", params=PAGE)


@pytest.mark.parametrize(
    "fault",
    [*map(status, TRANSIENT), cut_short, reset, body(b"<html>busy</html>"), body(b"")],
    ids=[*map(str, TRANSIENT), "cut short", "reset", "html", "empty body"],
)
def test_a_page_is_tried_again(api: ContractApi, fault: Answer) -> None:
    """What passes is tried again, five times if need be, and the page arrives whole."""
    api.rows["users"] = [{"id": 1}]
    api.answers["users"].extend([fault] * 5)
    assert get(api).json()["data"]["users"] == [{"id": 1}]
    assert api.calls["users"] == 6


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (300, ""),
        (400, ""),
        (401, "; check API_KEY"),
        (403, "; check what API_KEY may read"),
        (404, "; check API_BASE_URL and API_RESOURCE_PATH"),
        (410, ""),
        (501, ""),
    ],
)
def test_what_does_not_pass_is_asked_once(api: ContractApi, code: int, remedy: str) -> None:
    """An answer that would be the same again costs one call; the error names status and URL, and what may help."""
    api.always["users"] = status(code)
    with pytest.raises(requests.HTTPError) as raised:
        get(api)
    assert str(raised.value) == f"HTTP {code} from {api.url}/v1/users?page=1&per_page=100{remedy}"
    assert api.calls["users"] == 1


def test_tries_end(api: ContractApi) -> None:
    """A fault that stays is given up after six tries, and counts as transient for whoever wants to come back."""
    api.always["users"] = status(503)
    with pytest.raises(requests.HTTPError) as raised:
        get(api)
    assert api.calls["users"] == 6
    assert client.is_transient(raised.value)


def test_who_gives_up_does_not_wait_for_the_requests_of_others(api: ContractApi) -> None:
    """A call that is not to be sent yet, since another is on its way, is given up at once."""
    asked = threading.Event()

    def hang(handler: Handler) -> None:
        asked.set()
        handler.connection.recv(1)

    api.always["users"] = hang
    one, other = client.JsonAdapter(), client.JsonAdapter()
    with ThreadPoolExecutor(2) as threads, client.session(one) as first, client.session(other) as second:
        hangs = threads.submit(first.get, f"{api.url}/v1/users")
        assert asked.wait(10)
        waits = threads.submit(second.get, f"{api.url}/v1/users")
        time.sleep(0.1)  # until it does
        other.give_up()
        assert "is not needed any more" in str(waits.exception(10))
        assert not hangs.done()
    assert api.calls["users"] == 1


def test_no_server(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is transient, and its error says where and why in one line."""
    monkeypatch.setattr(api, "url", "http://127.0.0.1:1")
    with pytest.raises(
        requests.ConnectionError, match=r"^ConnectionError at http://127.0.0.1:1/v1/users.*refused\)$"
    ) as raised:
        get(api)
    assert client.is_transient(raised.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key, and a certificate of this machine that only the key itself vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    now, day = datetime.now(UTC), timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = builder.add_extension(here, critical=False).sign(key, hashes.SHA256())
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(secret + signed.public_bytes(Encoding.PEM))
    return file


@pytest.mark.parametrize("setting", ["", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_only_who_is_trusted_gets_the_token(
    api: ContractApi, certificate: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """A certificate that nobody vouches for costs one try and no request; one in the configured file is good."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    if setting:
        monkeypatch.setenv(setting, str(certificate))
    adapter = client.JsonAdapter()
    outcome = nullcontext() if setting else pytest.raises(requests.exceptions.SSLError, match="CERTIFICATE_VERIFY")
    with serving(certificate) as safe, client.session(adapter) as session, outcome:
        session.get(f"{safe.url}/v1/users", params=PAGE)
    assert (adapter.calls, safe.calls["users"]) == (1, 1 if setting else 0)


def test_retry_after_is_honoured(api: ContractApi, caplog: pytest.LogCaptureFixture) -> None:
    """The wait before the next try is what the server asks for, if that is longer than the back-off."""
    api.answers["users"].append(status(429, {"Retry-After": "1"}))
    with caplog.at_level("WARNING"):
        get(api)
    assert api.calls["users"] == 2
    assert caplog.messages == [f"HTTP 429 from {api.url}/v1/users?page=1&per_page=100; trying again in 1.0 s"]


def test_retry_after_as_a_date(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A date is as good as seconds: one that is hours away is more than the longest wait, one that is past is none."""
    for hours, calls in ((-3, 2), (3, 1)):
        api.calls.clear()
        date = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
        api.answers["users"].append(status(429, {"Retry-After": date}))
        with nullcontext() if hours < 0 else pytest.raises(client.PatienceExceeded):
            get(api)
        assert api.calls["users"] == calls


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_retry_after_of_a_day_fails_at_once(api: ContractApi, form: str) -> None:
    """A server that asks for more patience than five minutes gets none, and the error says so."""
    tomorrow = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    api.always["users"] = status(429, {"Retry-After": "86400" if form == "seconds" else tomorrow})
    with pytest.raises(client.PatienceExceeded, match="longer than 300 s") as raised:
        get(api)
    assert api.calls["users"] == 1
    assert not client.is_transient(raised.value)


def test_a_retry_after_that_cannot_be_read_is_ignored(api: ContractApi) -> None:
    """Nonsense in the header leaves the usual back-off."""
    api.answers["users"].append(status(429, {"Retry-After": "soon"}))
    assert get(api).ok


def test_the_key_is_stripped(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line break at the end of the key, as secret files have it, is not part of it."""
    monkeypatch.setenv("API_KEY", f" {TOKEN}\n")
    assert get(api).ok


def test_a_key_that_no_header_carries_is_refused_unseen(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key with a line break inside is refused before any call, without showing it."""
    monkeypatch.setenv("API_KEY", "half\nother-half")
    with pytest.raises(token.MissingKey) as raised:
        get(api)
    assert "half" not in str(raised.value)
    assert not api.calls


@pytest.mark.parametrize("url", ["http://api.example.com/v1/users", "http://127.0.0.1:80@evil.example/v1/users"])
def test_the_key_does_not_travel_in_the_clear(api: ContractApi, url: str) -> None:
    """Plain http is for this machine only."""
    adapter = client.JsonAdapter()
    with client.session(adapter) as session, pytest.raises(token.InsecureUrl):
        session.get(url)
    assert adapter.calls == 0


@pytest.mark.parametrize("fault", [status(404), reset, body(b"<html>")], ids=["404", "reset", "html"])
def test_credentials_in_the_url_are_not_shown(api: ContractApi, fault: Answer) -> None:
    """A user name and password in a URL are not repeated in messages."""
    api.always["users"] = fault
    with (
        client.session(client.JsonAdapter(attempts=1)) as session,
        pytest.raises(requests.RequestException, match=f"{api.url}/v1/users") as raised,
    ):
        session.get(f"{api.url}/v1/users".replace("//", "//user:secret@"))
    assert "secret" not in str(raised.value)


def test_a_call_does_not_show_the_token(api: ContractApi) -> None:
    """Printed, in a message or a debugger, a call shows where it goes, and not what opens the door there."""
    with client.session(adapter := client.JsonAdapter()) as session:
        request = session.prepare_request(requests.Request("GET", f"{api.url}/v1/users"))
        call = adapter.call(request)
    assert TOKEN in str(call.headers)
    assert TOKEN not in repr(call)
    assert "/v1/users" in repr(call)
