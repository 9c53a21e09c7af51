"""Requests to the API: limits on their time, size and number in flight, and retries.

This module knows neither resources nor tables. `faults` says which faults are retried.
"""

import asyncio
import logging
import os
import re
import socket
import ssl
import time
import zlib
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Self, TypeVar

import aiohttp
import certifi
import requests
from aiohttp.abc import AbstractResolver, ResolveResult
from dlt.common.configuration import resolve_configuration
from dlt.common.configuration.specs import RuntimeConfiguration
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)
from yarl import URL

from analytics_assets.extract import access, faults
from analytics_assets.extract.budget import Budget, budget
from analytics_assets.extract.faults import AnswerTooLarge, Fault, Impatient
from analytics_assets.extract.threads import in_thread
from analytics_assets.settings import Settings
from analytics_assets.tables.sync import Sync

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
MOST_BYTES = 16 << 20  # of a body, before and after decompression; a page of 100 rows has about 50 kB
MOST_HEADER_BYTES = 1 << 16  # of one header; some proxies add policies beyond the usual 8 kB
MOST_OBJECTS = 100_000  # objects and lists in a body; each takes many times the memory of its text
MOST_FAILURES = 100  # calls of one sync; after these, a sync stops if more than half of its calls have failed
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # a JSON parser may ignore it (RFC 8259, 8.1)
ENCODINGS = ("gzip", "deflate")
KNOWN_ENCODINGS = (*ENCODINGS, "identity", "br", "zstd", "compress")  # messages quote no others
MOST_LAYERS = 2
MOST_MEMBERS = 16
GZIP = b"\x1f\x8b"
SMALLER = "ask for fewer rows at once: API_PAGE_SIZE"
Meaning = TypeVar("Meaning")


class Client:
    """Sends requests to the API, for one run or one question; enter it in the event loop that uses it.

    Attempts, backoff and the longest wait are dlt's own settings (`RUNTIME__REQUEST_MAX_ATTEMPTS`,
    `RUNTIME__REQUEST_BACKOFF_FACTOR`, `RUNTIME__REQUEST_MAX_RETRY_DELAY`), and so is the timeout for a silent server
    (`RUNTIME__REQUEST_TIMEOUT`); an exchange as a whole, name lookup included, may take twice as long. Proxies and
    certificates come from the environment, which is read once, because that takes longer than a request.
    """

    def __init__(self, settings: Settings, attempts: int | None = None) -> None:
        limits = resolve_configuration(RuntimeConfiguration())
        silence, factor = limits.request_timeout, limits.request_backoff_factor
        self._seconds = 2 * silence
        self._limits = aiohttp.ClientTimeout(self._seconds, sock_connect=CONNECT_SECONDS, sock_read=silence)
        self._patience = limits.request_max_retry_delay
        self._backoff = wait_exponential(multiplier=factor, max=self._patience) + wait_random(0, factor)
        self._retrying = AsyncRetrying(
            stop=stop_after_attempt(attempts or limits.request_max_attempts),
            retry=retry_if_exception(lambda error: isinstance(error, Fault) and error.again),
            wait=self._wait,
            before_sleep=_count_failure,
            reraise=True,
        )
        # The proxy and the certificates that requests, and so dlt, would use.
        found = requests.Session().merge_environment_settings(settings.api_base_url, {}, None, None, None)
        self._proxy = _proxy(requests.utils.select_proxy(settings.api_base_url, found["proxies"]))
        trusted = found["verify"] if isinstance(found["verify"], str) else ""
        self._certificates = _certificates(trusted) if settings.api_base_url.startswith("https:") else True
        self._settings, self._in_flight = settings, settings.read_ahead
        self._slots = asyncio.Semaphore(self._in_flight)
        self._budget: Budget | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._in_flight, resolver=_Resolver(), ssl=self._certificates),
            timeout=self._limits,
            headers={"Accept": "application/json", "Accept-Encoding": ", ".join(ENCODINGS)},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # it would also accept encodings that were not requested
            max_line_size=MOST_HEADER_BYTES,
            max_field_size=MOST_HEADER_BYTES,
        )
        self._session._retry_connection = False  # else aiohttp resends a failed request uncounted
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, url: str, sync: Sync, meaning: Callable[[bytes, str], Meaning]) -> tuple[bytes, Meaning]:
        """The body at `url`, and the result of `meaning(body, origin)`. Only HTTP 204 has an empty body.

        Counts calls and failures in `sync`. Raises `Fault` or an error of `meaning`; a ValueError or RecursionError of
        `meaning` says that the body is not JSON, and the request is retried.
        """
        return await self._retrying(self._once, URL(url).with_user(None), sync, meaning)

    async def _once(self, url: URL, sync: Sync, meaning: Callable[[bytes, str], Meaning]) -> tuple[bytes, Meaning]:
        """One attempt of `get`, which first waits for a slot and for the budget."""
        shown = str(url)
        access.check(shown)
        async with self._slots:
            async with self._turn:  # one task at a time asks; a task that is cancelled before takes no call
                if self._budget is None:
                    self._budget = await in_thread(budget, self._settings)
                await self._budget.take()
            headers = {"Authorization": f"Bearer {access.token()}"}
            sync.calls += 1
            try:
                async with self._session.get(url, headers=headers, proxy=self._proxy, allow_redirects=False) as answer:
                    if answer.status >= 300:
                        raise faults.of_status(answer.status, shown, _asked_wait(answer), self._patience)
                    body = await _body(answer, shown)
            except faults.NETWORK as error:
                raise faults.of_error(error, shown, self._seconds) from None
        where = f"HTTP {answer.status} from {shown}"
        try:
            if not body and answer.status != 204:
                raise ValueError
            return body, meaning(body, where)
        except (ValueError, RecursionError):
            raise Fault(f"{where}: the body is not JSON", again=True) from None

    def _wait(self, state: RetryCallState) -> float:
        error = _error(state)
        return max(self._backoff(state), error.wait if isinstance(error, Fault) else 0)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _count_failure(state: RetryCallState) -> None:
    """Count a failure and log the retry. Raises `Impatient` after too many failures."""
    error, (_, sync, _) = _error(state), state.args
    sync.failures += 1
    if sync.failures > max(MOST_FAILURES, sync.calls / 2):
        raise Impatient(f"{error}; {sync.failures} of {sync.calls} calls failed; run again later") from None
    logger.warning("%s; trying again in %.1f s", error, state.upcoming_sleep)


async def _body(answer: aiohttp.ClientResponse, shown: str) -> bytes:
    """Read the body of an answer and decode it as its `Content-Encoding` says."""
    named = ",".join(answer.headers.getall("Content-Encoding", ())).lower().split(",")
    packed = [name.strip().removeprefix("x-") for name in named if name.strip()]  # the old names (RFC 9110, 8.4.1)
    if len(packed) > MOST_LAYERS or any(name not in (*ENCODINGS, "identity") for name in packed):
        names = ", ".join(name if name in KNOWN_ENCODINGS else "something unknown" for name in packed[:MOST_LAYERS])
        raise Fault(f"{shown}: the body is encoded as {names}, which was not asked for")
    chunks, size = [], 0
    async for chunk in answer.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        _check_size(size, shown)
    body = b"".join(chunks)
    for name in reversed(packed):
        body = _unpacked(body, name, shown)
    body = body.removeprefix(BYTE_ORDER_MARK)
    if len(body) > MOST_OBJECTS and body.count(b"{") + body.count(b"[") > MOST_OBJECTS:
        raise AnswerTooLarge(f"{shown}: the body holds more than {MOST_OBJECTS:,} objects and lists; {SMALLER}")
    return body


def _unpacked(body: bytes, encoding: str, shown: str) -> bytes:
    """The decoded body. Raises `AnswerTooLarge` as soon as it exceeds the limit."""
    if encoding == "identity" or not body:
        return body
    unpacked = b""
    for _ in range(MOST_MEMBERS):  # gzip may have several members, one after the other (RFC 1952, 2.2)
        # Some servers omit the two-byte zlib header of `deflate` (RFC 9110, 8.4.1.2), which has 8 in four bits.
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS if encoding == "deflate" and body[0] & 15 != 8 else 47)
        try:
            unpacked += unpacker.decompress(body, MOST_BYTES + 1 - len(unpacked))
        except zlib.error as error:
            raise Fault(f"{shown}: the body cannot be unpacked ({error})", again=True) from None
        _check_size(len(unpacked), shown)
        if not unpacker.eof:
            raise Fault(f"{shown}: the body was cut short", again=True)
        body = unpacker.unused_data
        if not body.startswith(GZIP):
            return unpacked
    raise Fault(f"{shown}: the body is packed in more than {MOST_MEMBERS} parts", again=True)


def _check_size(size: int, shown: str) -> None:
    if size > MOST_BYTES:
        raise AnswerTooLarge(f"{shown}: the body is larger than {MOST_BYTES >> 20} MB; {SMALLER}")


def _asked_wait(answer: aiohttp.ClientResponse) -> float | None:
    """The seconds to wait from `Retry-After`, a number or a date; None if it is missing or unreadable."""
    header = answer.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", header):
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _proxy(given: str | None) -> str | None:
    """The URL of the proxy that the environment names. Raises `Fault`."""
    if not given:
        return None
    try:
        proxy = URL(given if "://" in given else f"http://{given}")
    except ValueError:  # its message quotes the password
        what = "the address of the proxy cannot be read; write it like http://user:password@host:port"
        raise Fault(f"{what}, with / as %2F, @ as %40 and # as %23, or add the API's host to NO_PROXY") from None
    if proxy.scheme not in ("http", "https") or not proxy.host:
        what = f"the proxy {proxy.scheme}://{proxy.host or ''} does not speak HTTP"
        raise Fault(f"{what}; name another, or add the API's host to NO_PROXY")
    return str(proxy)


def _certificates(given: str) -> ssl.SSLContext:
    """The trusted certificate authorities: from a file or folder, else from the system and certifi."""
    folder, file = (given, None) if os.path.isdir(given) else (None, given or None)
    try:
        context = ssl.create_default_context(cafile=file, capath=folder)
    except OSError as error:
        what = f"REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names {given}, which holds no certificates"
        raise Fault(f"{what} ({error.strerror})") from None
    if not given:
        context.load_verify_locations(certifi.where())
    return context


class _Resolver(AbstractResolver):
    """Looks names up as the system does. aiohttp's own resolver blocks exit until a name server answers."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await in_thread(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=kind, proto=proto, flags=socket.AI_NUMERICHOST
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """There is nothing to close."""
