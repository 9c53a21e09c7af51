"""The faults of requests as data: which are retried, and the remedy in the message."""

import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import aiohttp


class Fault(Exception):
    """A request failed; `again` says whether a retry may help.

    The message names the URL and contains no value of the answer. `status` is the HTTP status of a failure, else 0;
    `wait` is the number of seconds that the API asks to wait.
    """

    def __init__(self, message: str, again: bool = False, status: int = 0, wait: float = 0) -> None:
        super().__init__(message)
        self.again, self.status, self.wait = again, status, wait


class UnexpectedAnswer(Fault):
    """The answer is not a page of rows."""


class Impatient(Fault):
    """The API asks for too long a wait, or too many calls fail."""


class AnswerTooLarge(Fault):
    """The answer exceeds the limits on a page."""


class Kind(NamedTuple):
    """Whether a retry may help, and the remedy or, for an error without a status, the cause."""

    again: bool
    text: str = ""

    def beside(self, what: str) -> str:
        """The message of a fault: `what` happened, and the remedy if there is one."""
        return f"{what}; {self.text}" if self.text else what


ADDRESS = "check API_BASE_URL and API_RESOURCE_PATH"
PASSES, STAYS = Kind(True), Kind(False)
STATUSES: Mapping[int, Kind] = {
    **dict.fromkeys((301, 302, 303, 307, 308), Kind(False, f"redirects are not followed; {ADDRESS}")),
    401: Kind(False, "check API_KEY"),
    403: Kind(False, "check what API_KEY may read"),
    404: Kind(False, ADDRESS),
    407: Kind(False, "check the user and the password of the proxy"),
    408: PASSES,
    425: PASSES,
    429: Kind(True, "if it goes on, lower API_CALLS_PER_HOUR or API_CALLS_BURST"),
    **dict.fromkeys(range(500, 600), PASSES),  # including 52x and 530, which CDNs send
    **dict.fromkeys((501, 505, 506, 510, 511), STAYS),  # unsupported, or a login page
}
GONE = frozenset({404, 410})  # possible statuses of a page after the last one

# The first match counts. Messages show the operating system's text, but not the server's, which may quote rows.
ERRORS: Sequence[tuple[type[BaseException], Kind]] = (
    (ssl.SSLEOFError, Kind(True, "the connection broke off")),
    (ssl.SSLError, Kind(False, "no secure connection")),
    (aiohttp.InvalidURL, Kind(False, f"no URL; {ADDRESS}")),
    (aiohttp.NonHttpUrlClientError, Kind(False, f"no URL; {ADDRESS}")),
    (aiohttp.ServerTimeoutError, Kind(True, "timed out: no connection, or nothing more came")),
    (TimeoutError, Kind(True, "it took longer than {seconds:g} s")),
    (aiohttp.ClientPayloadError, Kind(True, "the body was cut short, or is not what its headers say")),
    (aiohttp.ClientResponseError, Kind(True, "the answer is not HTTP")),
    (aiohttp.ServerDisconnectedError, Kind(True, "the connection was closed")),
    (aiohttp.ClientError, Kind(True, "the connection failed")),
    (OSError, Kind(True, "the connection failed")),
    (MemoryError, Kind(False, "there is too little memory; lower READ_AHEAD or API_PAGE_SIZE")),
)
NETWORK = (aiohttp.ClientError, OSError, MemoryError)  # what the client turns into a `Fault`


def of_status(status: int, url: str, asked: float | None, patience: float) -> Fault:
    """The fault for a status of 300 or more; `asked` is the wait in seconds that the answer asks for, if any.

    An answer with `Retry-After` is retried whatever its status (RFC 9110, 10.2.3), unless the wait exceeds `patience`
    seconds.
    """
    kind = STATUSES.get(status, STAYS)
    where = f"HTTP {status} from {url}"
    if asked is None or status < 400:  # a redirect asks to wait before it is followed
        return Fault(kind.beside(where), kind.again, status)
    if asked > patience:
        wait = f"it asks to wait {asked:.0f} s, longer than {patience:.0f} s"
        return Impatient(f"{where}: {wait}; run again later", status=status)
    return Fault(kind.beside(where) if kind.again else where, True, status, asked)


def of_error(error: BaseException, url: str, seconds: float) -> Fault:
    """The fault for an exchange that ended with an error; `seconds` is the time limit of an exchange."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        kind = STATUSES.get(error.status, STAYS)
        return Fault(kind.beside(f"{url}: the proxy refused (HTTP {error.status})"), kind.again)
    chain = [link for link in (error, error.__cause__, getattr(error, "os_error", None)) if link]
    kind = next(kind for error_class, kind in ERRORS if any(isinstance(link, error_class) for link in chain))
    system = getattr(error, "os_error", None) if isinstance(error, aiohttp.ClientConnectorError) else error
    detail = None
    if isinstance(system, OSError) and not isinstance(system, TimeoutError):
        # asyncio's text omits the reason; these two have their own error numbers.
        number = None if isinstance(system, ssl.SSLError | socket.gaierror) else system.errno
        detail = os.strerror(number) if number else system.strerror
    return Fault(f"{url}: {kind.text.format(seconds=seconds)}{f' ({detail})' if detail else ''}", kind.again)
