"""The command `python -m analytics_assets.sample_api`: its options, its socket, and when it ends.

What is served belongs in `server`.
"""

import argparse
import contextlib
import logging
import os
import socket
import threading
from datetime import datetime

import uvicorn

from analytics_assets.sample_api.academy import ALL_SIZES, Academy
from analytics_assets.sample_api.faults import HELP, Fault, parse_faults
from analytics_assets.sample_api.server import SampleApi


def main() -> None:
    """Serve until SIGINT, SIGTERM or, if asked for, the end of standard input."""
    parser = _parser()
    options = parser.parse_args()
    logging.disable()  # `process` reads no further than the address
    faults: dict[str, list[Fault]] = {}
    try:
        for resource, text in options.fault:
            faults.setdefault(resource, []).extend(parse_faults(text))
        growth = {resource: float(rows) for resource, rows in options.growth}
        academy = Academy(options.seed, options.now, {name: getattr(options, name) for name in ALL_SIZES})
        listener = socket.create_server(("127.0.0.1", options.port))
    except ModuleNotFoundError as error:
        parser.exit(1, f"{error}: pip install 'analytics-assets[sample]'\n")
    except (ValueError, OSError, OverflowError) as error:
        parser.error(str(error))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    api = SampleApi(academy, url, options.token, options.latency_ms / 1000, growth, faults)
    # An answer in progress is dropped at the end: it may be one that a fault keeps waiting for ever.
    config = uvicorn.Config(api.application(), ws="none", log_config=None, timeout_graceful_shutdown=0)
    server = uvicorn.Server(config)
    if options.exit_with_parent:
        threading.Thread(target=_end_with_standard_input, args=[server], daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        print(url, flush=True)  # the socket already takes connections
        server.run(sockets=[listener])


def _end_with_standard_input(server: uvicorn.Server) -> None:
    """Wait for the end of standard input, which a parent's death brings about, then let the server end."""
    # Not sys.stdin: a thread that waits in it makes the interpreter abort at its end.
    while os.read(0, 4096):
        pass
    server.should_exit = True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analytics_assets.sample_api",
        description="A sample of the analytics API on 127.0.0.1. Prints its address when it is ready.",
        epilog="\n  ".join(HELP),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--port", type=int, default=8765, help="0 takes any free port (default: %(default)s)")
    add("--token", default="sample-token", help="the bearer token that is accepted (default: %(default)s)")
    add("--seed", type=int, default=1, help="the same seed gives the same rows (default: %(default)s)")
    add("--now", type=datetime.fromisoformat, metavar="ISO", help="when histories end, UTC (default: start of today)")
    for resource, size in ALL_SIZES.items():
        option = f"--{resource.replace('_', '-')}"
        add(option, type=int, default=size, metavar="ROWS", help="rows at the start (default: %(default)s)")
    add("--latency-ms", type=float, default=0, metavar="MS", help="added to every request (default: %(default)s)")
    add("--growth", type=_assignment, action="append", default=[], metavar="RESOURCE=ROWS_PER_MINUTE",
        help="rows that appear with time; may be given for each resource")  # fmt: skip
    add("--fault", type=_assignment, action="append", default=[], metavar="RESOURCE=FAULT",
        help="what goes wrong, see below; may be given many times")  # fmt: skip
    add("--exit-with-parent", action="store_true", help="end as soon as standard input reaches its end")
    return parser


def _assignment(text: str) -> tuple[str, str]:
    resource, equals, value = text.partition("=")
    if not equals or resource not in ALL_SIZES:
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with one of {', '.join(ALL_SIZES)} and '='")
    return resource, value


if __name__ == "__main__":
    main()
