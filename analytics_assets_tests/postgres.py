"""A real Postgres server of the tests' own: on a free port of loopback, in a folder that goes when it ends.

It is set up as one in another country may be: its time zone and its order of texts are not DuckDB's.
"""

import os
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import psycopg2
import pytest
import sqlglot
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

MISSING = (
    "Postgres 15 or newer is not installed: apt-get install postgresql (for `make test-postgres` and `make test-long`)"
)
ADMIN, LOADER, READER = "postgres", "loader", "reader"
PASSWORD = "pass:word@/%?#"  # what has to be escaped in a URL
OPTIONS = (
    "--auth=scram-sha-256",
    "--no-sync",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=icu",
    "--icu-locale=en-US",
)
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "Asia/Kolkata",
    "max_connections": "50",
    **dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes"), "off"),  # nothing of it is to last
}


@dataclass(frozen=True)
class Server:
    """Where a server is. `loader` may make what it likes in its databases, `reader` only what it is allowed to."""

    port: int

    def url(self, database: str, user: str = LOADER, password: str = PASSWORD) -> str:
        """The address of a database as dlt and SQLAlchemy take it."""
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str, user: str = LOADER) -> Any:
        """A connection, to be closed; each of its statements is a transaction until `autocommit` is switched off."""
        connection = psycopg2.connect(self.url(database, user))
        connection.autocommit = True
        return connection

    def new_database(self) -> str:
        """The name of a new and empty database, that of `loader`."""
        name = f"test_{uuid4().hex}"
        with closing(self.connect("postgres", ADMIN)) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} OWNER {LOADER}")
        return name


def ask(url: str, query: str) -> list[tuple[Any, ...]]:
    """The rows that a query in DuckDB's SQL gives; what it does not qualify is in the dataset."""
    with closing(psycopg2.connect(url, options="-csearch_path=analytics")) as connection, connection.cursor() as cursor:
        cursor.execute(sqlglot.transpile(query, read="duckdb", write="postgres")[0])
        return list(cursor.fetchall())


def _program(name: str) -> str:
    """The path of a program of Postgres's; Debian keeps them by version, out of the search path."""
    by_version = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    path = shutil.which(name, path=os.pathsep.join([*map(str, reversed(by_version)), os.environ["PATH"]]))
    return path or pytest.fail(MISSING)


@contextmanager
def serving() -> Iterator[Server]:
    """A server, until the block ends, or the process does."""
    # It refuses to run as root, and where Debian's package is, there is its user.
    as_user: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder, data = Path(name), Path(name) / "data"
        secret, log = folder / "password", folder / "log"
        secret.write_text(PASSWORD)
        log.touch()
        if as_user:
            for path in (folder, secret, log):
                shutil.chown(path, as_user["user"])
        init = [_program("initdb"), f"--pgdata={data}", f"--username={ADMIN}", f"--pwfile={secret}", *OPTIONS]
        subprocess.run(init, cwd=folder, check=True, stdout=subprocess.DEVNULL, **as_user)
        server = Server(_free_port())
        options = [f"-c{name}={value}" for name, value in {**SETTINGS, "port": server.port}.items()]
        command = [_program("postgres"), f"-D{data}", *options]
        if shutil.which("setpriv"):  # which has it end with a process that is killed
            command = ["setpriv", "--pdeathsig", "INT", *command]
        with log.open("ab") as output:
            process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, **as_user)
        try:
            _set_up(server, process, log)
            yield server
        finally:
            process.send_signal(2)  # ends the connections that are left, too
            process.wait()


def _free_port() -> int:
    """A port that nobody listens on, and that no connection to another server is given in the meantime."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def _set_up(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait for the server, and make its users."""
    retrying = Retrying(retry=retry_if_exception_type(psycopg2.OperationalError), stop=stop_after_delay(60),
                        wait=wait_fixed(0.05), reraise=True)  # fmt: skip

    def connect() -> Any:
        if process.poll() is not None:
            pytest.fail(f"Postgres has not started: {log.read_text()}")
        return server.connect("postgres", ADMIN)

    with closing(retrying(connect)) as connection, connection.cursor() as cursor:
        for user in (LOADER, READER):
            cursor.execute(f"CREATE ROLE {user} LOGIN PASSWORD %s", [PASSWORD])
