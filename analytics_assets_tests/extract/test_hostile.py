"""Servers that are broken or mean, one answer at a time: each costs a bounded time, memory and number of calls.

What the answers of a sound server mean is in `test_paging`, which faults pass with another try in `test_client`.
"""

import gzip
import json
import threading
import traceback
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import pytest
from dlt.extract.exceptions import ResourceExtractionError

from analytics_assets.extract.faults import Fault
from analytics_assets.extract.reader import Reader
from analytics_assets.extract.reading import GivenUp
from analytics_assets.tables.sync import Sync
from analytics_assets_tests.conftest import Materialize, Query, configured
from analytics_assets_tests.contract_api import Answer, ContractApi, Handler, body, status
from analytics_assets_tests.extract.reading import USERS, batches, read, reading

ROW = {"id": 1, "first_name": "Ada"}
PAGE = json.dumps({"has_more": False, "data": {"users": [ROW]}}).encode()
GZIP = {"Content-Encoding": "gzip"}


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tries, a silence of 0.3 s, hence 0.6 s for an answer; one page in flight, so that calls can be counted."""
    monkeypatch.setenv("RUNTIME__REQUEST_MAX_ATTEMPTS", "2")
    monkeypatch.setenv("RUNTIME__REQUEST_TIMEOUT", "0.3")
    monkeypatch.setenv("READ_AHEAD", "1")


def refused() -> str:
    """Reads, and gives the message of the refusal."""
    with pytest.raises(ResourceExtractionError) as raised:
        read()
    return str(raised.value.__cause__)


def load(reader: Reader) -> None:
    """Takes all batches of `users`, as a load does in its own thread."""
    with reader.read(USERS) as begun:
        list(batches(begun))


def raw(*parts: bytes, then: Callable[[Handler], None] = lambda _: None) -> Answer:
    """Answers with exactly these bytes, goes on with `then`, and closes the connection."""

    def answer(handler: Handler) -> None:
        handler.close_connection = True
        with suppress(OSError):  # the client has had enough
            handler.wfile.write(b"".join(parts))
            handler.wfile.flush()
            then(handler)

    return answer


def silence(handler: Handler) -> None:
    """Sends nothing more, until the client goes away."""
    handler.connection.recv(1)


def drop_by_drop(handler: Handler) -> None:
    """Sends a byte now and then, always before the client's patience with silence ends, until it goes away."""
    while True:
        handler.wfile.write(b" ")
        handler.wfile.flush()
        handler.connection.settimeout(0.05)
        with suppress(TimeoutError):
            handler.connection.recv(1)


def without_end(part: bytes) -> Callable[[Handler], None]:
    """Sends the same over and over, until the client goes away."""

    def answer(handler: Handler) -> None:
        while True:
            handler.wfile.write(part)

    return answer


def packed(content: bytes, times: int = 1) -> Answer:
    """Answers with this content, compressed so many times."""
    for _ in range(times):
        content = gzip.compress(content, 1)
    return lambda handler: handler.send(200, content, {"Content-Encoding": ", ".join(["gzip"] * times)})


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


OK = b"HTTP/1.1 200 OK\r\n"
BLANK = b"\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n"
ZEROS = zlib.compress(bytes(1 << 27), 1)  # 128 MB in half a MB


@pytest.mark.parametrize(
    ("answer", "calls", "error"),
    [
        pytest.param(raw(then=silence), 2, "timed out", id="never an answer"),
        pytest.param(raw(OK, then=silence), 2, "timed out", id="half the headers"),
        pytest.param(raw(OK, b"X-Slow: ", then=drop_by_drop), 2, "longer than 0.6 s", id="slow headers"),
        pytest.param(raw(OK, BLANK, then=drop_by_drop), 2, "longer than 0.6 s", id="slow body"),
        pytest.param(raw(CHUNKED, BLANK, b"9", then=drop_by_drop), 2, "longer than 0.6 s", id="slow chunks"),
        pytest.param(raw(then=without_end(b"HTTP/1.1 100 Continue\r\n\r\n")), 2, "longer than 0.6 s", id="not yet"),
        pytest.param(raw(OK, then=without_end(b"X: y\r\n")), 2, "is not HTTP", id="headers without end"),
        pytest.param(raw(OK, then=without_end(b"X")), 2, "is not HTTP", id="a header without end"),
        pytest.param(raw(OK, BLANK, then=without_end(bytes(9999))), 1, "larger than 16 MB", id="a body without end"),
        pytest.param(
            raw(OK, b"Content-Encoding: gzip\r\n", BLANK, then=without_end(gzip.compress(b"") * 500)),
            1,
            "larger than 16 MB",
            id="nothing, compressed without end",
        ),
        pytest.param(
            lambda handler: handler.send(200, gzip.compress(b"") * 500_000, GZIP),
            2,
            "more than 16 parts",
            id="nothing, compressed many times over",
        ),
        pytest.param(raw(b"Ada\r\n\r\n"), 2, "is not HTTP", id="no HTTP"),
        pytest.param(raw(CHUNKED, BLANK, b"Ada\r\n"), 2, "cut short", id="no chunks"),
        pytest.param(raw(OK, b"Content-Length: 999\r\n", BLANK, PAGE), 2, "cut short", id="cut short"),
        pytest.param(
            raw(OK, b"Content-Length: 999\r\n", BLANK, PAGE, then=silence), 2, "timed out", id="length too large"
        ),
        pytest.param(raw(OK, b"Content-Length: 9\r\n", BLANK, PAGE), 2, "is not HTTP", id="length too small"),
        pytest.param(raw(CHUNKED, BLANK, chunk(PAGE)), 2, "cut short", id="no last chunk"),
        pytest.param(lambda handler: handler.send(200, PAGE, GZIP), 2, "incorrect header", id="broken gzip"),
        pytest.param(
            lambda handler: handler.send(200, gzip.compress(PAGE)[:-20], GZIP), 2, "cut short", id="truncated gzip"
        ),
        pytest.param(lambda handler: handler.send(200, ZEROS, {"Content-Encoding": "deflate"}), 1, "16 MB", id="bomb"),
        pytest.param(packed(bytes(1 << 27), 2), 1, "larger than 16 MB", id="bomb in a bomb"),
        pytest.param(packed(b"[" + b"{}," * 3_000_000 + b"{}]"), 1, "more than 100,000 objects", id="objects"),
        pytest.param(packed(b"[" + b"[]," * 3_000_000 + b"[]]"), 1, "more than 100,000 objects", id="lists"),
        pytest.param(body(b"<html>"), 2, "is not JSON", id="html"),
        pytest.param(body(b"503 Ada is busy"), 2, "is not JSON", id="text that begins with a number"),
        pytest.param(body(b"[ERROR] Ada is busy"), 2, "is not JSON", id="text that begins with a bracket"),
        pytest.param(body(b'{"data": {"users": {"Ada": '), 2, "is not JSON", id="no page, and torn"),
        pytest.param(body(b'{"data": NaN}'), 1, "no list of objects", id="no page, and a number that is none"),
        pytest.param(body(b"[" * 100_000 + b"]" * 100_000), 2, "is not JSON", id="nested 100,000 times"),
        pytest.param(body(b'{"id": ' + b"9" * 5000 + b"}"), 1, "no list of objects", id="a number of 5,000 digits"),
        pytest.param(status(429), 2, "HTTP 429", id="too many requests for ever"),
        pytest.param(status(429, {"Retry-After": "86400"}), 1, "longer than 300 s", id="come back tomorrow"),
    ],
)
def test_a_hostile_answer_costs_little(api: ContractApi, answer: Answer, calls: int, error: str) -> None:
    """It is given up after the tries it is worth, within 100 MB, with an error that names the URL and no value."""
    api.always["users"] = answer
    tracemalloc.start()
    try:
        message = refused()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error in message
    assert f"{api.url}/v1/users?per_page=100&page=1" in message
    assert "Ada" not in message
    assert api.calls["users"] == calls
    assert peak < 100_000_000


def test_a_body_in_parts_is_read(api: ContractApi) -> None:
    """Several members of gzip, one behind the other, are one body."""
    parts = gzip.compress(PAGE[:20]) + gzip.compress(PAGE[20:])
    api.always["users"] = lambda handler: handler.send(200, parts, GZIP)
    assert read(Sync()) == ["1"]


@pytest.mark.parametrize("odd", [b"a\tb", b"a\nb", b"\\x41", b"\\q"])
@pytest.mark.parametrize("place", [b'"first_name": "%s"', b'"unlisted": ["%s"]', b'"%s": 1'])
def test_a_text_that_json_does_not_have_costs_its_row(api: ContractApi, odd: bytes, place: bytes) -> None:
    """Line breaks and tabs as they are, and escapes that do not exist; the rows beside it are read."""
    rows = b'{"id": 1}, {"id": 2, %s}, {"id": 3}' % (place % odd)
    api.always["users"] = body(b'{"has_more": false, "data": {"users": [%s]}}' % rows)
    sync = Sync(rejected_share=1.0)
    assert read(sync) == ["1", "3"]
    [rejected] = sync.rejected
    assert rejected.id == "2"


@pytest.mark.parametrize("end", [b"", b"\\"])
def test_a_text_that_never_ends_is_noticed_at_once(api: ContractApi, end: bytes) -> None:
    """Two million quotes behind backslashes in a text that is cut off take no longer than as many letters."""
    api.always["users"] = body(b'{"data":{"users":[{"id":1,"email":"' + b'\\"' * 2_000_000 + end)
    assert "is not JSON" in refused()
    assert api.calls["users"] == 2


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("place", ["http://127.0.0.1", "http://localhost", "https://localhost"])
def test_a_redirect_is_not_followed(api: ContractApi, place: str, code: int) -> None:
    """The token goes where it was meant to go: a redirect costs one call, be it to the same or to another host."""
    location = f"{api.url.replace('http://127.0.0.1', place)}/v1/users?page=1&per_page=1"
    api.always["users"] = status(code, {"Location": location})
    assert refused() == (
        f"HTTP {code} from {api.url}/v1/users?per_page=100&page=1; redirects are not followed; "
        "check API_BASE_URL and API_RESOURCE_PATH"
    )
    assert api.calls["users"] == 1


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("http://me:secret@127.0.0.1:99999", "the address of the proxy cannot be read"),
        ("http://me:sec/secret@127.0.0.1:8", "the address of the proxy cannot be read"),
        ("socks5://me:secret@127.0.0.1:8", "the proxy socks5://127.0.0.1 does not speak HTTP"),
        ("me:secret@127.0.0.1:9", "the connection failed"),
        ("http://me:secret@127.0.0.1:9", "the connection failed"),
    ],
)
def test_the_password_of_a_proxy_is_not_shown(
    api: ContractApi, monkeypatch: pytest.MonkeyPatch, proxy: str, message: str
) -> None:
    """However its address is written, it is used or refused with a remedy, and nothing secret of it is in the error."""
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises((ResourceExtractionError, Fault)) as raised:
        read()
    shown = "".join(traceback.format_exception(raised.value))
    assert message in shown
    assert "secret" not in shown


def test_a_proxy_is_no_way_around(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a proxy, the time is limited too."""
    monkeypatch.setenv("http_proxy", api.url)
    monkeypatch.setenv("API_BASE_URL", "http://127.0.0.1:1")
    api.always["users"] = raw(OK, b"X-Slow: ", then=drop_by_drop)
    assert "longer than 0.6 s" in refused()
    assert api.calls["users"] == 2


def test_pages_without_end(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that always has another page, with rows never seen before, is left at the page that is configured."""
    monkeypatch.setenv("MOST_PAGES", "30")
    api.page = lambda resource, page, size: {"has_more": True, "data": {resource: [{"id": page}]}}
    assert refused() == f"{api.url}/v1/users?per_page=100&page=30 promises another page, more than MOST_PAGES"
    assert api.calls["users"] == 30


def test_failures_without_end(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that fails more often than it works, though never so often in a row, is left after 100 failures."""
    monkeypatch.setenv("RUNTIME__REQUEST_MAX_ATTEMPTS", "6")
    api.rows["users"] = [{"id": number} for number in range(10_000)]
    page_of = api.contract_page

    def twice_in_vain(resource: str, page: int, size: int) -> Any:
        api.answers["users"].extend([status(503)] * 2)
        return page_of(resource, page, size)

    api.page = twice_in_vain
    message = refused()
    assert message.startswith(f"HTTP 503 from {api.url}/v1/users?per_page=100&page=")
    assert message.endswith("; 101 of 152 calls failed; run again later")
    assert api.calls["users"] == 152


def test_failures_now_and_then(api: ContractApi) -> None:
    """A server that works more often than it fails is read to the end, however many failures that makes."""
    api.rows["users"] = [{"id": number} for number in range(20_000)]

    def two_of_three_in_vain(resource: str, page: int, size: int) -> Any:
        api.answers["users"].extend([status(503)] * bool(page % 3))
        return api.contract_page(resource, page, size)

    api.page = two_of_three_in_vain
    sync = Sync()
    assert len(read(sync)) == 20_000
    assert sync.calls == 200 + 133


def test_the_end_waits_for_no_answer(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gives up, as an interrupt makes a sync do, does not wait for what is in flight."""
    monkeypatch.setenv("RUNTIME__REQUEST_TIMEOUT", "600")
    called = threading.Event()

    def answer(handler: Handler) -> None:
        called.set()
        silence(handler)

    api.always["users"] = raw(then=answer)
    sync = Sync()
    with ThreadPoolExecutor(1) as loader:
        with closing(Reader(configured())) as reader:
            reader.begin(USERS, sync)
            loading = loader.submit(load, reader)
            assert called.wait(10)
        with pytest.raises(ResourceExtractionError) as raised:
            loading.result(10)
        assert isinstance(raised.value.__cause__, GivenUp)
    assert sync.calls == api.calls["users"] == 1


def test_the_end_waits_for_no_other_try(api: ContractApi, caplog: pytest.LogCaptureFixture) -> None:
    """Who gives up while a server has asked for patience does not wait either."""
    api.always["users"] = status(503, {"Retry-After": "200"})
    with caplog.at_level("WARNING"), ThreadPoolExecutor(1) as loader:
        with closing(Reader(configured())) as reader:
            reader.begin(USERS, Sync())
            loading = loader.submit(load, reader)
            while "trying again in 200.0 s" not in caplog.text:
                assert not loading.done()
        with pytest.raises(ResourceExtractionError) as raised:
            loading.result(10)
        assert isinstance(raised.value.__cause__, GivenUp)
    assert api.calls["users"] == 1


@pytest.mark.parametrize("depth", [200, 300, 800, 900, 50_000])
def test_a_row_nested_deeply_is_read_or_set_aside(api: ContractApi, depth: int) -> None:
    """A value of some 900 levels is kept as it is; however deep a value is, the rows beside it are read."""
    deep = b'{"id": 2, "segments": ' + b"[" * depth + b"]" * depth + b"}"
    api.always["users"] = body(b'{"has_more": false, "data": {"users": [{"id": 1}, ' + deep + b"]}}")
    sync = Sync()
    with reading(sync) as begun:
        [batch] = batches(begun)
    kept = [("1", None), ("2", "[" * depth + "]" * depth)] if depth <= 900 else [("1", None)]
    assert list(zip(batch["id"].to_pylist(), batch["segments"].to_pylist(), strict=True)) == kept
    assert [row.reason for row in sync.rejected] == (
        [] if depth <= 900 else ["'segments' cannot be written as JSON (list)"]
    )


def test_values_are_only_values(api: ContractApi, materialize: Materialize, query: Query) -> None:
    """SQL, HTML, NUL and a megabyte in a field arrive as what they are, but for the NUL."""
    texts = ["'; DROP TABLE users; --", '"}, {"id": 0}', "<script>", "$(reboot)", "x" * 1_000_000, "a\0b"]
    api.rows["users"] = [{"id": number, "first_name": text} for number, text in enumerate(texts)]
    assert materialize("users").success
    found = query("SELECT first_name FROM users ORDER BY id")
    assert found == [(text.replace("\0", "\ufffd"),) for text in texts]
