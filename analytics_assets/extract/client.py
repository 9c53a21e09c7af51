"""Requests to the API: limits on their time, size and number in flight, and retries.

This module knows neither resources nor tables. `faults` says which faults are retried.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Self, TypeVar

import aiohttp
import requests
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
from analytics_assets.extract.body import ENCODINGS, body_of
from analytics_assets.extract.budget import Budget, budget
from analytics_assets.extract.faults import Fault, Impatient
from analytics_assets.extract.network import Resolver, certificates, proxy_url
from analytics_assets.extract.threads import in_thread
from analytics_assets.settings import Settings
from analytics_assets.tables.sync import Sync

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
MOST_HEADER_BYTES = 1 << 16  # of one header; some proxies add policies beyond the usual 8 kB
MOST_FAILURES = 100  # calls of one sync; after these, a sync stops if more than half of its calls have failed
EARLIEST, LATEST = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (2000, 2100))  # of a believable `Date`
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
        self._proxy = proxy_url(requests.utils.select_proxy(settings.api_base_url, found["proxies"]))
        trusted = found["verify"] if isinstance(found["verify"], str) else ""
        self._certificates = certificates(trusted) if settings.api_base_url.startswith("https:") else True
        self._settings, self._in_flight = settings, settings.read_ahead
        self._slots = asyncio.Semaphore(self._in_flight)
        self._budget: Budget | None = None
        self._turn = asyncio.Lock()
        self._has_warned = False

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._in_flight, resolver=Resolver(), ssl=self._certificates),
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
                    self._note_clock(answer, sync)
                    if answer.status >= 300:
                        raise faults.of_status(answer.status, shown, _asked_wait(answer), self._patience)
                    body = await body_of(answer, shown)
            except faults.NETWORK as error:
                raise faults.of_error(error, shown, self._seconds) from None
        where = f"HTTP {answer.status} from {shown}"
        try:
            if not body and answer.status != 204:
                raise ValueError
            return body, meaning(body, where)
        except (ValueError, RecursionError):
            raise Fault(f"{where}: the body is not JSON", again=True) from None

    def _note_clock(self, answer: aiohttp.ClientResponse, sync: Sync) -> None:
        """Tell the sync the time of the API, from each answer that has a readable `Date`."""
        api_time = _seconds(answer.headers.get("Date", ""))
        if api_time is None or not EARLIEST <= api_time < LATEST:
            return
        sync.set_clock(datetime.fromtimestamp(api_time + 0.5, UTC))  # the middle of its second
        if sync.clock_ahead and not self._has_warned:
            self._has_warned = True
            direction = "ahead of" if sync.clock_ahead > 0 else "behind"
            logger.warning(
                "the clock of this machine is %s %s that of the API; times are taken from the API",
                timedelta(seconds=abs(sync.clock_ahead)),
                direction,
            )

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


def _asked_wait(answer: aiohttp.ClientResponse) -> float | None:
    """The seconds to wait from `Retry-After`, a number or a date; None if it is missing or unreadable.

    A date is compared with the server's own clock, the answer's `Date`, if that is readable.
    """
    header = answer.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", header):
        return float(header)
    until, sent = _seconds(header), _seconds(answer.headers.get("Date", ""))
    return None if until is None else max(0.0, until - (time.time() if sent is None else sent))


def _seconds(date: str) -> float | None:
    """An HTTP date in seconds since 1970; None if it is unreadable."""
    try:
        read = parsedate_to_datetime(date)
        return read.replace(tzinfo=read.tzinfo or UTC).timestamp()  # asctime's form names no zone (RFC 9110, 5.6.7)
    except (TypeError, ValueError, OverflowError):
        return None
