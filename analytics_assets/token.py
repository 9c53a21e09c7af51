"""The token: where it comes from, and where it may go."""

from urllib.parse import urlsplit

import dlt
import requests
from requests.auth import AuthBase


class MissingKey(Exception):
    """There is no usable token."""


class InsecureUrl(Exception):
    """The token would travel in the clear."""


def shown(url: str | None) -> str:
    """`url` without the user name and password that may stand in it."""
    parts = urlsplit(url or "")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class BearerToken(AuthBase):
    """Sends dlt's secret `api_key`, looked up for each request, so that building a source needs no secret.

    Raises `MissingKey` where it is absent, empty or no header could carry it, and `InsecureUrl` where it would leave
    this machine over plain http.
    """

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        token = str(dlt.secrets.get("api_key") or "").strip()
        if not token:
            raise MissingKey("API_KEY is not set; put it in .env (see .env.example)")
        if not (token.isascii() and token.isprintable()):
            raise MissingKey("API_KEY holds characters that no HTTP header can carry; copy it again")
        self.check(request.url or "")
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    @staticmethod
    def check(url: str) -> None:
        """Raise `InsecureUrl` where the token must not go to."""
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
            raise InsecureUrl(f"API_BASE_URL is plain http ({shown(url)}); only https keeps the token secret")
