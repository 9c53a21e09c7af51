"""A second server of the API's contract, in a thread of the test's process; its rows and faults are the test's.

The sample API has believable data; this one has exactly the rows a test is about.
"""

import json
import ssl
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from analytics_assets.tables.resources import RESOURCES

TOKEN = "test-token"
Answer = Callable[["Handler"], None]


class ContractApi:
    """What the server serves: `rows` by resource, and `answers` by resource, each used once before rows are served.

    Who has none of the `tokens` is refused; `sent` counts the requests with each.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.rows: dict[str, list[Any]] = {name: [] for name in RESOURCES}
        self.answers: dict[str, deque[Answer]] = {name: deque() for name in RESOURCES}
        self.always: dict[str, Answer] = {}
        self.calls: Counter[str] = Counter()
        self.pages: list[tuple[str, int]] = []  # that were asked for, by resource
        self.tokens = {TOKEN}
        self.sent: Counter[str] = Counter()
        self.page: Callable[..., Any] = self.contract_page

    def contract_page(self, resource: str, page: int, size: int, window: tuple[int, int] | None = None) -> Any:
        """The body of one answer; `page` may be replaced by a test that wants another. A window is one of creation."""
        rows = [row for row in self.rows[resource] if not window or window[0] <= row["created_at"] < window[1]]
        more = page * size < len(rows)
        return {
            "page": page,
            "per_page": size,
            "has_more": more,
            "data": {resource: rows[(page - 1) * size : page * size]},
        }

    def render(self, resource: str, page: int, size: int, *window: tuple[int, int]) -> bytes:
        """The body of an answer, as bytes."""
        return json.dumps(self.page(resource, page, size, *window)).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet, or every answer waits 40 ms for an acknowledgement
    api: ContractApi

    @property
    def page(self) -> int:
        """The page that is asked for; 0 where none is."""
        return int(parse_qs(urlsplit(self.path).query).get("page", ["0"])[0])

    def log_message(self, *_: Any) -> None:
        """Not to the terminal."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        resource = url.path.rpartition("/")[2]
        self.api.calls[resource] += 1
        query = {name: int(value) for name, [value] in parse_qs(url.query).items()}
        self.api.pages.append((resource, self.page))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.api.sent[token] += 1
        if token not in self.api.tokens:
            self.send(401, b"who are you?")
        elif self.api.answers[resource]:
            self.api.answers[resource].popleft()(self)
        elif resource in self.api.always:
            self.api.always[resource](self)
        else:
            window = [(query["start"], query["end"])] if "start" in query else []
            self.send(200, self.api.render(resource, query["page"], min(100, query["per_page"]), *window))

    def send(self, status: int, body: bytes, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def status(code: int, headers: Mapping[str, str] = MappingProxyType({})) -> Answer:
    """Answers `code` with an error body."""
    return lambda handler: handler.send(code, b'{"error": "no"}', headers)


def body(content: bytes) -> Answer:
    """Answers 200 with these bytes."""
    return lambda handler: handler.send(200, content)


def no_content(handler: Handler) -> None:
    """Answers HTTP 204, which has no body."""
    handler.send(204, b"")


def cut_short(handler: Handler) -> None:
    """Promises more than it sends, and closes the connection."""
    handler.send(200, b'{"page": 1, "data": {', {"Content-Length": "1000"})
    handler.close_connection = True


def reset(handler: Handler) -> None:
    """Closes the connection without an answer."""
    handler.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # with the usual 5 a busy machine takes some connections a second later, for the next test

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            raise


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[ContractApi]:
    """The server, for as long as the test lasts; with a certificate and its key in a file, it speaks TLS."""
    handler = type("BoundHandler", (Handler,), {})
    server = Server(("127.0.0.1", 0), handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "https" if certificate else "http"
    handler.api = ContractApi(f"{scheme}://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield handler.api  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
