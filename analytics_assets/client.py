"""The HTTP session: time limits and the retries of one page. It knows neither resources nor tables.

How an answer is read belongs in `answer`, how an exchange that takes too long is ended in `watch`.
"""

import logging
import os
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat
from typing import Any, NoReturn

import dlt
import requests
import urllib3
from dlt.common.configuration import resolve_configuration
from dlt.common.configuration.specs import RuntimeConfiguration
from requests.adapters import HTTPAdapter
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential,
    wait_random,
)
from tenacity.nap import sleep_using_event

from analytics_assets.answer import AnswerTooLarge, JsonResponse, content, decoded
from analytics_assets.budget import budget, turn
from analytics_assets.token import BearerToken, shown
from analytics_assets.watch import Watch

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
TRANSIENT_STATUS = frozenset({429, 500, 502, 503, 504})
MOST_FAILURES = 100  # of the calls of one sync, beyond which more must work than fail
SLOTS: dict[int, threading.Semaphore] = {}  # for the requests in flight, by how many there may be
NO_RETRIES = urllib3.Retry(False)  # as an object: of `False` urllib3 would make one for each request
# What a user of requests knows an error of urllib3 as: the first that fits, or else a `ConnectionError`.
KINDS: dict[type[Exception], type[requests.RequestException]] = {
    AnswerTooLarge: AnswerTooLarge,
    urllib3.exceptions.LocationValueError: requests.exceptions.InvalidURL,
    urllib3.exceptions.InvalidHeader: requests.exceptions.InvalidHeader,
    urllib3.exceptions.ProxyError: requests.exceptions.ProxyError,
    urllib3.exceptions.SSLError: requests.exceptions.SSLError,
    urllib3.exceptions.DecodeError: requests.exceptions.ContentDecodingError,
    urllib3.exceptions.NewConnectionError: requests.ConnectionError,
    urllib3.exceptions.TimeoutError: requests.Timeout,
    TimeoutError: requests.Timeout,
}
QUOTABLE = (OSError, zlib.error, urllib3.exceptions.IncompleteRead, urllib3.exceptions.TimeoutError)
REMEDIES = {
    **dict.fromkeys((301, 302, 303, 307, 308), "redirects are not followed; check API_BASE_URL and API_RESOURCE_PATH"),
    401: "check API_KEY",
    403: "check what API_KEY may read",
    404: "check API_BASE_URL and API_RESOURCE_PATH",
}


class PatienceExceeded(requests.HTTPError):
    """The API asks for a longer wait than is acceptable, or fails more often."""


def is_transient(error: BaseException | None) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, PatienceExceeded | requests.exceptions.SSLError):
        return False
    if isinstance(error, requests.HTTPError):
        return error.response is not None and error.response.status_code in TRANSIENT_STATUS
    return isinstance(
        error,
        requests.ConnectionError
        | requests.Timeout
        | requests.exceptions.ContentDecodingError
        | requests.exceptions.InvalidJSONError,
    )


@dataclass(frozen=True)
class Call:
    """A request that is ready to be sent through `pool`: its target is what HTTP calls so, its URL is for messages."""

    pool: urllib3.HTTPConnectionPool
    target: str
    headers: dict[str, str] = field(repr=False)  # the token is among them
    url: str


class JsonAdapter(HTTPAdapter):
    """Asks for what is at a URL, reads and decodes the answer, and tries all of that again where it may help.

    It asks urllib3 itself: with what requests adds for each request, a page takes a quarter longer.

    `calls` counts the requests sent. The tries, the back-off and the longest wait are dlt's own settings
    (`RUNTIME__REQUEST_MAX_ATTEMPTS`, `RUNTIME__REQUEST_BACKOFF_FACTOR`, `RUNTIME__REQUEST_MAX_RETRY_DELAY`), and so is
    the longest silence of a server (`RUNTIME__REQUEST_TIMEOUT`), twice which a whole answer may take. No more than
    `in_flight` requests are on their way at once, those of other adapters of the process with the same limit included.
    """

    def __init__(self, attempts: int | None = None, in_flight: int = 1) -> None:
        super().__init__(pool_maxsize=in_flight)
        settings = resolve_configuration(RuntimeConfiguration())
        self.calls = 0
        self._slots = SLOTS.setdefault(in_flight, threading.Semaphore(in_flight))
        self._failures = 0
        self._counting = threading.Lock()
        self._closing = threading.Event()
        self._timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=settings.request_timeout)
        self._watch = Watch(2 * settings.request_timeout)
        self._watch.over(self.poolmanager)
        self._longest_wait = settings.request_max_retry_delay
        factor = settings.request_backoff_factor
        self._backoff = wait_exponential(multiplier=factor, max=self._longest_wait) + wait_random(0, factor)
        self._retrying = Retrying(
            stop=stop_after_attempt(attempts or settings.request_max_attempts) | stop_when_event_set(self._closing),
            retry=retry_if_exception(is_transient),
            wait=self._wait,
            sleep=sleep_using_event(self._closing),
            before_sleep=self._note_failure,
            reraise=True,
        )

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> JsonResponse:
        return self.exchange(self.call(request, *args, **kwargs))

    def call(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Call:
        """The request as it goes over the line, with the proxy and the certificates that are to be used."""
        url = str(request.url)
        try:
            pool: Any = self.get_connection_with_tls_context(request, verify, proxies, cert)
        except urllib3.exceptions.HTTPError as error:
            raise _named(error, shown(url)) from None
        self.cert_verify(pool, url, verify, cert)  # type: ignore[no-untyped-call]
        return Call(pool, self.request_url(request, proxies), dict(request.headers), shown(url))

    def exchange(self, call: Call) -> JsonResponse:
        """The answer to a call, or the error that stays however often it is tried."""
        once = partial(self._exchange_once, call)
        try:
            return once()
        except requests.RequestException as error:
            tries: Iterator[Callable[[], JsonResponse]]
            tries = chain([partial(_fail, error)], repeat(once))  # counted only now, which takes time
        return self._retrying.copy()(lambda: next(tries)())

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not known:
            self._watch.over(manager)
        return manager

    def give_up(self) -> None:
        """Have what is in flight fail, and nothing be tried again from here on; waits for none of it."""
        self._closing.set()
        self._watch.close()

    def close(self) -> None:
        """End."""
        self.give_up()
        super().close()

    def _exchange_once(self, call: Call) -> JsonResponse:
        budget().take(self._closing)
        with turn(self._slots, self._closing):
            if self._closing.is_set():
                raise requests.ConnectionError(f"{call.url} is not needed any more")
            return self._exchange_now(call)

    def _exchange_now(self, call: Call) -> JsonResponse:
        with self._counting:
            self.calls += 1
        started, longest = time.monotonic(), self._watch.seconds
        try:
            answer = call.pool.urlopen(
                "GET",
                call.target,
                headers=call.headers,
                retries=NO_RETRIES,
                redirect=False,
                assert_same_host=False,  # a proxy is another
                timeout=self._timeout,
                preload_content=False,
            )
            body = content(answer)  # read here: a body that is cut short is a failed try
            if time.monotonic() - started > longest:  # headers that the watch has cut short look whole
                raise TimeoutError
        except (urllib3.exceptions.HTTPError, OSError) as error:
            late = time.monotonic() - started > longest
            raise _named(error, call.url, f"it took longer than {longest:g} s" if late else None) from None
        response = JsonResponse(call.url, answer.status, answer.headers)
        if response.status_code >= 300:
            where = _where(response)
            remedy = REMEDIES.get(response.status_code)
            self._check_patience(response, where)
            raise requests.HTTPError(f"{where}; {remedy}" if remedy else where, response=response)
        try:
            response.body, response.content = decoded(body), body
        except (ValueError, RecursionError):
            what = f"{_where(response)}: the body is not JSON"
            raise requests.exceptions.InvalidJSONError(what, response=response) from None
        return response

    def _check_patience(self, response: requests.Response, where: str) -> None:
        asked = _retry_after(response)
        if asked and asked > self._longest_wait:
            wait = f"it asks to wait {asked:.0f} s, longer than {self._longest_wait:.0f} s"
            raise PatienceExceeded(f"{where}: {wait}; run again later")

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        response = error.response if isinstance(error, requests.RequestException) else None
        return max(self._backoff(state), _retry_after(response) or 0)

    def _note_failure(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        with self._counting:
            self._failures += 1
        if self._failures > max(MOST_FAILURES, self.calls / 2):
            raise PatienceExceeded(f"{error}; {self._failures} of {self.calls} calls failed; run again later") from None
        logger.warning("%s; trying again in %.1f s", error, state.upcoming_sleep)


def _where(response: requests.Response) -> str:
    return f"HTTP {response.status_code} from {response.url}"


def _fail(error: BaseException) -> NoReturn:
    raise error


def _named(error: Exception, url: str, reason: str | None = None) -> requests.RequestException:
    """The error as a user of requests knows it, with the URL and without what the server said."""
    kind = next((kind for theirs, kind in KINDS.items() if isinstance(error, theirs)), requests.ConnectionError)
    if isinstance(_bottom(error), ssl.SSLEOFError):
        kind = requests.ConnectionError  # a handshake that broke off passes, other errors of TLS do not
    return kind(f"{kind.__name__} at {url} ({reason or _reason(error)})")


def _bottom(error: BaseException) -> BaseException:
    """What is at the bottom of an error that urllib3 has wrapped more than once."""
    below = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return _bottom(below) if below else error


def _reason(error: BaseException) -> str:
    """Why there was an error, but for what the server said."""
    bottom = _bottom(error)
    return str(bottom) if isinstance(bottom, QUOTABLE) else type(bottom).__name__


def _retry_after(response: requests.Response | None) -> float | None:
    """Seconds that the answer asks to wait, from seconds or a date; None where it does not or cannot be read."""
    header = response.headers.get("Retry-After") if response is not None else None
    try:
        return urllib3.Retry().parse_retry_after(header) if header else None
    except urllib3.exceptions.InvalidHeader:
        return None


def session(adapter: HTTPAdapter) -> requests.Session:
    """A session that sends everything through `adapter`, with the token; proxies and certificates as configured.

    The environment is asked once and not for each request, which takes longer than many an answer.
    """
    session = requests.Session()
    base_url = str(dlt.config["api_base_url"])
    session.proxies.update(requests.utils.get_environ_proxies(base_url))
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    session.trust_env = False
    session.auth = BearerToken()
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
