"""The HTTP session: time limits, decoding, and the retries of one page. It knows neither resources nor tables."""

import json
import logging
import math
import os
import threading
from typing import Any

import dlt
import orjson
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

from analytics_assets.budget import budget
from analytics_assets.token import BearerToken, shown

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
TRANSIENT_STATUS = frozenset({429, 500, 502, 503, 504})
REMEDIES = {
    401: "check API_KEY",
    403: "check what API_KEY may read",
    404: "check API_BASE_URL and API_RESOURCE_PATH",
}


class PatienceExceeded(requests.HTTPError):
    """The API asks for a longer wait than is acceptable."""


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
        | requests.exceptions.ChunkedEncodingError
        | requests.exceptions.ContentDecodingError
        | requests.exceptions.InvalidJSONError,
    )


class JsonResponse(requests.Response):
    """A response whose body has been read and decoded once."""

    body: Any = None

    @classmethod
    def of(cls, response: requests.Response, body: Any) -> "JsonResponse":
        """`response` with this body instead of its own."""
        decoded = cls()
        decoded.__dict__.update(response.__dict__)
        decoded.body = body
        return decoded

    def json(self, **_: Any) -> Any:
        return self.body


class JsonAdapter(HTTPAdapter):
    """Sends a request, reads and decodes the answer, and tries all of that again where it may help.

    `calls` counts the requests sent. The tries, the back-off and the longest wait are dlt's own settings
    (`RUNTIME__REQUEST_MAX_ATTEMPTS`, `RUNTIME__REQUEST_BACKOFF_FACTOR`, `RUNTIME__REQUEST_MAX_RETRY_DELAY`).
    """

    def __init__(self, attempts: int | None = None, connections: int = 1) -> None:
        super().__init__(pool_maxsize=connections)
        settings = resolve_configuration(RuntimeConfiguration())
        self.calls = 0
        self._counting = threading.Lock()
        self._closing = threading.Event()
        self._timeout = (CONNECT_SECONDS, settings.request_timeout)
        self._longest_wait = settings.request_max_retry_delay
        factor = settings.request_backoff_factor
        self._backoff = wait_exponential(multiplier=factor, max=self._longest_wait) + wait_random(0, factor)
        self._retrying = Retrying(
            stop=stop_after_attempt(attempts or settings.request_max_attempts) | stop_when_event_set(self._closing),
            retry=retry_if_exception(is_transient),
            wait=self._wait,
            sleep=sleep_using_event(self._closing),
            before_sleep=self._log,
            reraise=True,
        )

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        return self._retrying.copy()(self._send_once, request, *args, **{**kwargs, "timeout": self._timeout})

    def close(self) -> None:
        """End: nothing is tried again from here on."""
        self._closing.set()
        super().close()

    def _send_once(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        budget().take(self._closing)
        with self._counting:
            self.calls += 1
        try:
            response = super().send(request, *args, **kwargs)
            content = response.content  # read here: a body that is cut short is a failed try
        except requests.RequestException as error:
            what = f"{type(error).__name__} at {shown(request.url)} ({_reason(error)})"
            raise type(error)(what, request=request) from None
        if response.is_redirect:
            return response
        where = f"HTTP {response.status_code} from {shown(response.url)}"
        if response.status_code >= 400:
            remedy = REMEDIES.get(response.status_code)
            self._check_patience(response, where)
            raise requests.HTTPError(f"{where}; {remedy}" if remedy else where, response=response)
        try:
            return JsonResponse.of(response, decoded(content))
        except (ValueError, RecursionError):
            raise requests.exceptions.InvalidJSONError(f"{where}: the body is not JSON", response=response) from None

    def _check_patience(self, response: requests.Response, where: str) -> None:
        asked = _retry_after(response)
        if asked and asked > self._longest_wait:
            wait = f"it asks to wait {asked:.0f} s, longer than {self._longest_wait:.0f} s"
            raise PatienceExceeded(f"{where}: {wait}; run again later", response=response)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        response = error.response if isinstance(error, requests.RequestException) else None
        return max(self._backoff(state), _retry_after(response) or 0)

    def _log(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.warning("%s; trying again in %.1f s", error, state.upcoming_sleep)


def _reason(error: BaseException) -> BaseException:
    """What is at the bottom of an error that requests has wrapped more than once."""
    below = error.__cause__ or error.__context__
    return _reason(below) if below else error


class NotANumber:
    """Stands for NaN or an infinity, which JSON does not have; no column can read it, so that its row is set aside."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


def decoded(content: bytes) -> Any:
    """What a body of JSON says; single values may be NaN, numbers beyond a double, or bytes that are no UTF-8."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        pass  # the slower way takes more

    def number(text: str) -> float | NotANumber:
        return value if math.isfinite(value := float(text)) else NotANumber(text)

    text = content.decode("utf-8", "surrogateescape")
    return json.loads(text, parse_constant=NotANumber, parse_float=number)


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
