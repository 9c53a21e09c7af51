"""What one page costs and survives, seen from a server that misbehaves."""

import asyncio
import gzip
import json
import re
import traceback
import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from analytics_assets.extract.access import InsecureUrl, MissingKey
from analytics_assets.extract.client import Client
from analytics_assets.extract.faults import STATUSES, Fault, Impatient
from analytics_assets.tables.sync import Sync
from analytics_assets_tests.conftest import configured
from analytics_assets_tests.contract_api import (
    TOKEN,
    Answer,
    ContractApi,
    Handler,
    body,
    cut_short,
    no_content,
    reset,
    serving,
    status,
)

PAGE = "/v1/users?page=1&per_page=100"
TRANSIENT = [408, 425, 429, 500, 502, 503, 504, 520, 524, 530]
LONG_AGO = format_datetime(datetime(2001, 1, 1, tzinfo=UTC), usegmt=True)
IN_2100 = format_datetime(datetime(2100, 1, 1, tzinfo=UTC), usegmt=True)
ROWS = [{"id": 1, "first_name": "Ada"}]
ANSWER = json.dumps({"has_more": False, "data": {"users": ROWS}}).encode()


def meaning(body: bytes, _: str) -> Any:
    """What a body says; an empty one says nothing."""
    return json.loads(body) if body else None


def get(api: ContractApi, sync: Sync | None = None, url: str | None = None, attempts: int | None = None) -> Any:
    """What the answer to one request says."""

    async def ask() -> Any:
        async with Client(configured().model_copy(update={"api_base_url": api.url}), attempts) as client:
            return (await client.get(url or f"{api.url}{PAGE}", sync or Sync(), meaning))[1]

    return asyncio.run(ask())


def sent(content: bytes, headers: Mapping[str, str] = MappingProxyType({}), before: bytes = b"") -> Answer:
    """Answers 200 with this content and these headers; the bytes `before` come first, in a packet of their own."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(before)
        handler.wfile.flush()
        handler.send(200, content, headers)

    return answer


@pytest.mark.parametrize(
    "fault",
    [
        *map(status, TRANSIENT),
        status(403, {"Retry-After": "0"}),
        status(403, {"Retry-After": LONG_AGO}),
        status(501, {"Retry-After": "0"}),
        cut_short,
        reset,
        body(b"<html>busy</html>"),
        body(b""),
    ],
    ids=[
        *map(str, TRANSIENT),
        "403 with seconds",
        "403 with a date",
        "501 with seconds",
        "cut short",
        "reset",
        "html",
        "empty body",
    ],
)
def test_a_page_is_tried_again(api: ContractApi, fault: Answer) -> None:
    """What passes is tried again, five times if need be, and the page arrives whole."""
    api.rows["users"] = [{"id": 1}]
    api.answers["users"].extend([fault] * 5)
    sync = Sync()
    assert get(api, sync)["data"]["users"] == [{"id": 1}]
    assert (api.calls["users"], sync.calls, sync.failures) == (6, 6, 5)


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
        (505, ""),
        (506, ""),
        (510, ""),
        (511, ""),
        (600, ""),
    ],
)
def test_what_does_not_pass_is_asked_once(api: ContractApi, code: int, remedy: str) -> None:
    """An answer that would be the same again costs one call; the error names status and URL, and what may help."""
    api.always["users"] = status(code)
    with pytest.raises(Fault) as raised:
        get(api)
    assert str(raised.value) == f"HTTP {code} from {api.url}/v1/users?page=1&per_page=100{remedy}"
    assert raised.value.status == code
    assert not raised.value.again
    assert api.calls["users"] == 1


def test_the_statuses_of_a_busy_server_are_all_tried_again() -> None:
    """Of the statuses that blame the server, only those that another try cannot change are given up at once."""
    assert [code for code in range(500, 600) if not STATUSES[code].again] == [501, 505, 506, 510, 511]
    assert [code for code in STATUSES if code < 500 and STATUSES[code].again] == [408, 425, 429]


def test_tries_end(api: ContractApi) -> None:
    """A fault that stays is given up after six tries, and counts as transient for whoever wants to come back."""
    api.always["users"] = status(503)
    with pytest.raises(Fault) as raised:
        get(api)
    assert api.calls["users"] == 6
    assert raised.value.again


def test_who_gives_up_does_not_wait_for_the_requests_of_others(api: ContractApi) -> None:
    """A call that is not to be sent yet, since another is on its way, is given up at once."""

    async def ask() -> None:
        loop, asked = asyncio.get_running_loop(), asyncio.Event()

        def hang(handler: Handler) -> None:
            loop.call_soon_threadsafe(asked.set)
            handler.connection.recv(1)

        api.always["users"] = hang
        sync = Sync()
        async with Client(configured().model_copy(update={"read_ahead": 1})) as client:
            hangs = asyncio.create_task(client.get(f"{api.url}{PAGE}", sync, meaning))
            await asyncio.wait_for(asked.wait(), 10)
            waits = asyncio.create_task(client.get(f"{api.url}{PAGE}", sync, meaning))
            await asyncio.sleep(0.1)  # until it does
            waits.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(waits, 10)
            assert not hangs.done()
            hangs.cancel()
            await asyncio.wait([hangs], timeout=10)
        assert sync.calls == 1

    asyncio.run(ask())
    assert api.calls["users"] == 1


def test_no_server(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is transient, and its error says where and why in one line."""
    monkeypatch.setattr(api, "url", "http://127.0.0.1:1")
    with pytest.raises(Fault, match=r"^http://127.0.0.1:1/v1/users.*the connection failed \(.*refused.*\)$") as raised:
        get(api)
    assert raised.value.again
    assert "\n" not in str(raised.value)


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
    sync = Sync()
    outcome = nullcontext() if setting else pytest.raises(Fault, match="CERTIFICATE_VERIFY")
    with serving(certificate) as safe, outcome:
        get(safe, sync)
    assert (sync.calls, safe.calls["users"]) == (1, 1 if setting else 0)


def test_retry_after_is_honoured(api: ContractApi, caplog: pytest.LogCaptureFixture) -> None:
    """The wait before the next try is what the server asks for, if that is longer than the back-off."""
    api.answers["users"].append(status(429, {"Retry-After": "1"}))
    with caplog.at_level("WARNING"):
        get(api)
    assert api.calls["users"] == 2
    where = f"HTTP 429 from {api.url}/v1/users?page=1&per_page=100"
    remedy = "if it goes on, lower API_CALLS_PER_HOUR or API_CALLS_BURST"
    assert caplog.messages == [f"{where}; {remedy}; trying again in 1.0 s"]


def test_retry_after_as_a_date(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A date is as good as seconds: one that is hours away is more than the longest wait, one that is past is none."""
    for hours, calls in ((-3, 2), (3, 1)):
        api.calls.clear()
        date = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
        api.answers["users"].append(status(429, {"Retry-After": date}))
        with nullcontext() if hours < 0 else pytest.raises(Impatient):
            get(api)
        assert api.calls["users"] == calls


@pytest.mark.parametrize(
    ("date", "until", "calls"),
    [
        (IN_2100, IN_2100, 2),  # by the local clock, it is asked to wait for decades
        (LONG_AGO, LONG_AGO.replace("00:00:00", "01:00:00"), 1),  # by the local clock, the time is over
        ("today", LONG_AGO, 2),
        ("", LONG_AGO, 2),
        (LONG_AGO, "Mon Jan  1 01:00:00 2001", 1),
    ],
)
def test_a_retry_after_is_compared_with_the_clock_of_the_server(
    api: ContractApi, date: str, until: str, calls: int
) -> None:
    """A local clock that is wrong makes no wait longer or shorter; it counts only where the answer has no date."""

    def answer(handler: Handler) -> None:
        handler.send_response_only(429)
        for name, value in {"Date": date, "Retry-After": until, "Content-Length": "0"}.items():
            if value:
                handler.send_header(name, value)
        handler.end_headers()

    api.answers["users"].append(answer)
    with nullcontext() if calls == 2 else pytest.raises(Impatient, match="it asks to wait 3600 s"):
        get(api)
    assert api.calls["users"] == calls


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_retry_after_of_a_day_fails_at_once(api: ContractApi, form: str) -> None:
    """A server that asks for more patience than five minutes gets none, and the error says so."""
    tomorrow = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    api.always["users"] = status(429, {"Retry-After": "86400" if form == "seconds" else tomorrow})
    with pytest.raises(Impatient, match="longer than 300 s") as raised:
        get(api)
    assert api.calls["users"] == 1
    assert not raised.value.again


def test_a_retry_after_that_cannot_be_read_is_ignored(api: ContractApi) -> None:
    """Nonsense in the header leaves the usual back-off."""
    api.answers["users"].append(status(429, {"Retry-After": "soon"}))
    assert get(api)
    assert api.calls["users"] == 2


def test_the_key_is_stripped(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line break at the end of the key, as secret files have it, is not part of it."""
    monkeypatch.setenv("API_KEY", f" {TOKEN}\n")
    assert get(api)
    assert api.calls["users"] == 1


def test_a_key_that_no_header_carries_is_refused_unseen(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key with a line break inside is refused before any call, without showing it."""
    monkeypatch.setenv("API_KEY", "half\nother-half")
    sync = Sync()
    with pytest.raises(MissingKey) as raised:
        get(api, sync)
    assert "half" not in str(raised.value)
    assert (sync.calls, api.calls.total()) == (0, 0)


@pytest.mark.parametrize("url", ["http://api.example.com/v1/users", "http://127.0.0.1:80@evil.example/v1/users"])
def test_the_key_does_not_travel_in_the_clear(api: ContractApi, url: str) -> None:
    """Plain http is for this machine only."""
    sync = Sync()
    with pytest.raises(InsecureUrl):
        get(api, sync, url)
    assert sync.calls == 0


@pytest.mark.parametrize("fault", [status(404), reset, body(b"<html>")], ids=["404", "reset", "html"])
def test_credentials_in_the_url_are_not_shown(api: ContractApi, fault: Answer) -> None:
    """A user name and password in a URL are not repeated in messages."""
    api.always["users"] = fault
    with pytest.raises(Fault, match=f"{api.url}/v1/users") as raised:
        get(api, url=f"{api.url}/v1/users".replace("//", "//user:secret@"), attempts=1)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "fault",
    [status(404), reset, cut_short, sent(b"", before=b"Ada\r\n\r\n")],
    ids=["404", "reset", "cut short", "no HTTP"],
)
def test_an_error_does_not_show_the_token(api: ContractApi, fault: Answer) -> None:
    """Printed, in a message or with its traceback, an error shows where the call went, and not what opens the door."""
    api.always["users"] = fault
    with pytest.raises(Fault) as raised:
        get(api, attempts=1)
    printed = [str(raised.value), repr(raised.value), "".join(traceback.format_exception(raised.value))]
    assert api.sent[TOKEN] == 1
    assert all("/v1/users" in text and TOKEN not in text for text in printed)


def test_no_content_is_an_empty_page(api: ContractApi) -> None:
    """HTTP 204 has no body to be tried again for: it says that there is nothing."""
    api.always["users"] = no_content
    assert get(api) is None
    assert api.calls["users"] == 1


def test_a_byte_order_mark_is_skipped(api: ContractApi) -> None:
    """What some servers put in front of their texts is no part of the JSON."""
    api.always["users"] = body(b"\xef\xbb\xbf" + ANSWER)
    assert get(api)["data"]["users"] == ROWS
    assert api.calls["users"] == 1


def test_early_hints_are_no_answer(api: ContractApi) -> None:
    """A 103 in front of the answer is passed over, and the connection serves the next request too."""
    ports = []

    def answer(handler: Handler) -> None:
        ports.append(handler.client_address[1])
        sent(ANSWER, before=b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")(handler)

    async def ask() -> list[Any]:
        async with Client(configured()) as client:
            return [(await client.get(f"{api.url}{PAGE}", Sync(), meaning))[1] for _ in range(2)]

    api.always["users"] = answer
    assert [found["data"]["users"] for found in asyncio.run(ask())] == [ROWS, ROWS]
    assert len(ports) == 2
    assert len(set(ports)) == 1


RAW_DEFLATE = zlib.compressobj(wbits=-zlib.MAX_WBITS)


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("identity", ANSWER),
        ("gzip", gzip.compress(ANSWER)),
        ("GZip", gzip.compress(ANSWER)),
        ("x-gzip", gzip.compress(ANSWER)),
        ("deflate", zlib.compress(ANSWER)),
        ("deflate", RAW_DEFLATE.compress(ANSWER) + RAW_DEFLATE.flush()),
        ("deflate, gzip", gzip.compress(zlib.compress(ANSWER))),
        ("deflate\r\nContent-Encoding: gzip", gzip.compress(zlib.compress(ANSWER))),
        ("gzip, identity", gzip.compress(ANSWER)),
    ],
    ids=["identity", "gzip", "capitals", "x-gzip", "deflate", "raw deflate", "both", "two headers", "gzip, identity"],
)
def test_what_was_asked_for_is_unpacked(api: ContractApi, encoding: str, content: bytes) -> None:
    """A body packed as the request allows arrives unpacked, `deflate` with and without the header of zlib."""
    api.always["users"] = sent(content, {"Content-Encoding": encoding})
    assert get(api)["data"]["users"] == ROWS
    assert api.calls["users"] == 1


def test_large_headers_are_read(api: ContractApi) -> None:
    """Headers of many kB, as some proxies add them, are no reason to refuse an answer."""
    api.always["users"] = sent(ANSWER, {"Content-Security-Policy": "x" * 60_000, "Link": "y" * 60_000})
    assert get(api)["data"]["users"] == ROWS
    assert api.calls["users"] == 1


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, br"])
def test_what_was_not_asked_for_is_named_at_once(api: ContractApi, encoding: str) -> None:
    """A body packed in another way would be the same again: it costs one call, and the error names the way."""
    api.always["users"] = sent(gzip.compress(ANSWER), {"Content-Encoding": encoding})
    with pytest.raises(Fault, match=f"^{re.escape(api.url + PAGE)}: .*encoded as {encoding}, ") as raised:
        get(api)
    assert not raised.value.again
    assert api.calls["users"] == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_never_gets_the_token(api: ContractApi, code: int) -> None:
    """Where a redirect points to, no request arrives, with the token or without."""
    with serving() as other:
        api.always["users"] = status(code, {"Location": f"{other.url}{PAGE}"})
        with pytest.raises(Fault, match="redirects are not followed"):
            get(api)
        assert (other.calls.total(), other.sent.total()) == (0, 0)
    assert api.calls["users"] == 1
