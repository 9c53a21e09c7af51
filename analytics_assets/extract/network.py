"""The way to the API: its proxy, the certificates to trust, and name lookup."""

import os
import socket
import ssl

import certifi
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from analytics_assets.extract.faults import Fault
from analytics_assets.extract.threads import in_thread


def proxy_url(given: str | None) -> str | None:
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


def certificates(given: str) -> ssl.SSLContext:
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


class Resolver(AbstractResolver):
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
