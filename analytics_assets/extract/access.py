"""The API's token, and the rule that it is never sent unencrypted."""

from urllib.parse import urlsplit

import dlt
import requests
from dlt.common.configuration import configspec
from dlt.sources.helpers.rest_client.auth import AuthConfigBase

from analytics_assets.extract.faults import Fault

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class MissingKey(Fault):
    """There is no usable token."""


class InsecureUrl(Fault):
    """The token would be sent unencrypted."""


def shown(url: str | None) -> str:
    """`url` without its user name and password."""
    parts = urlsplit(url or "")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def token() -> str:
    """dlt's secret `api_key`. Raises `MissingKey` if it is missing, empty or invalid in an HTTP header."""
    found = str(dlt.secrets.get("api_key") or "").strip()
    if not found:
        raise MissingKey("API_KEY is not set; put it in .env (see .env.example)")
    if not (found.isascii() and found.isprintable()):
        raise MissingKey("API_KEY holds characters that no HTTP header can carry; copy it again")
    return found


def check(url: str) -> None:
    """Raise `InsecureUrl` if the token would leave this machine over plain http."""
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise InsecureUrl(f"API_BASE_URL is plain http ({shown(url)}); only https keeps the token secret")


@configspec
class BearerToken(AuthConfigBase):
    """Looks up the token for each request, so building a source needs no secret and a new token is used at once."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        check(request.url or "")
        request.headers["Authorization"] = f"Bearer {token()}"
        return request
