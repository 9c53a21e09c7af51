"""The command `python -m analytics_assets.sample_api`: its options, its socket, and when it ends.

What is served belongs in `server`.
"""

import argparse
import contextlib
import os
import socket
import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import uvicorn

from analytics_assets.sample_api.data import SIZES, Academy
from analytics_assets.sample_api.faults import GRAMMAR, help_lines, parse_faults
from analytics_assets.sample_api.server import MOST_PER_PAGE, SampleApi, application

T = TypeVar("T")


class Server(uvicorn.Server):
    """uvicorn on a socket of 127.0.0.1, which says once on standard output where it is ready."""

    url: str

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to serve, then say so."""
        await super().startup(sockets)
        print(self.url, flush=True)

    def end_with_standard_input(self) -> None:
        """Wait for the end of standard input, which a parent's death brings about, then let the server end."""
        # Not sys.stdin: a thread that waits in it makes the interpreter abort at its end.
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        self.should_exit = True


def main() -> None:
    """Serve until SIGINT, SIGTERM or, if asked for, the end of standard input."""
    parser = _parser()
    options = parser.parse_args()
    faults = defaultdict(list)
    for resource, some in options.fault:
        faults[resource].extend(some)
    try:
        academy = Academy(options.seed, options.now, {resource: getattr(options, resource) for resource in SIZES})
        listener = socket.create_server(("127.0.0.1", options.port))
    except ModuleNotFoundError as error:
        parser.exit(1, f"{error}\n")
    except (OSError, OverflowError) as error:
        parser.error(f"port {options.port} cannot be had: {error}")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    api = SampleApi(academy, f"{url}/v1", options.token, options.latency_ms / 1000, dict(options.growth), faults)
    if options.render_first:
        for resource in SIZES:
            for page in range(1, 2 + api.total(resource) // MOST_PER_PAGE):
                api.rendered(resource, page, MOST_PER_PAGE)
    # An answer in progress is dropped at the end: it may be one that a fault keeps waiting for ever.
    config = uvicorn.Config(
        application(api), lifespan="off", ws="none", log_config=None, log_level="critical", access_log=False,
        timeout_graceful_shutdown=0,
    )  # fmt: skip
    server = Server(config)
    server.url = url
    if options.exit_with_parent:
        threading.Thread(target=server.end_with_standard_input, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analytics_assets.sample_api",
        description="A sample of the analytics API on 127.0.0.1. Prints its address when it is ready.",
        epilog="\n  ".join([f"faults: {GRAMMAR}, as in users=status:503@2*3", *help_lines()]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--port", type=int, default=8765, help="0 takes any free port (default: %(default)s)")
    add("--token", default="sample-token", help="the bearer token that is accepted (default: %(default)s)")
    add("--seed", type=int, default=1, help="the same seed gives the same rows (default: %(default)s)")
    add("--now", type=_moment, metavar="ISO", help="when histories end, UTC (default: the start of today)")
    for resource, size in SIZES.items():
        option = f"--{resource.replace('_', '-')}"
        add(option, type=_count, default=size, metavar="ROWS", help="rows at the start (default: %(default)s)")
    add("--latency-ms", type=float, default=0, metavar="MS", help="added to every request (default: %(default)s)")
    add("--growth", type=_for_resource(float), action="append", default=[], metavar="RESOURCE=ROWS_PER_MINUTE",
        help="rows that appear with time; may be given for each resource")  # fmt: skip
    add("--fault", type=_for_resource(parse_faults), action="append", default=[], metavar="RESOURCE=FAULT",
        help="what goes wrong, see below; may be given many times")  # fmt: skip
    add("--render-first", action="store_true", help="render every page of 100 rows before saying ready, to measure")
    add("--exit-with-parent", action="store_true", help="end as soon as standard input reaches its end")
    return parser


def _for_resource(value_of: Callable[[str], T]) -> Callable[[str], tuple[str, T]]:
    def parse(text: str) -> tuple[str, T]:
        resource, equals, value = text.partition("=")
        if not equals or resource not in SIZES:
            raise argparse.ArgumentTypeError(f"{text!r} does not begin with one of {', '.join(SIZES)} and '='")
        try:
            return resource, value_of(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows")
    return int(text)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO 8601 date or time") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


if __name__ == "__main__":
    main()
