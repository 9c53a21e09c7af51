"""A server that takes the messages of the sensor for failed runs."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


@contextmanager
def receiving(*answers: int) -> Iterator[tuple[str, list[str]]]:
    """The server's URL and the messages it got; it answers with these statuses first, then with 204."""
    messages: list[str] = []
    statuses = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Not to the terminal."""

        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
            status = statuses.pop(0) if statuses else 204
            if status < 400:
                messages.append(message)
            self.send_response(status)
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", messages
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
