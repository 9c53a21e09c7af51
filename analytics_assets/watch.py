"""A limit on the time of each exchange with a server, whatever the server does; urllib3 limits only its single steps.

How much an answer may hold belongs in `answer`, how often it is tried in `client`.
"""

import contextlib
import os
import socket
import threading
import time
from typing import Any
from weakref import WeakKeyDictionary

import urllib3
from urllib3.connection import HTTPConnection


class Watch:
    """Shuts the socket of an exchange that takes longer than `seconds`, and of all at its own end.

    Whoever waits for such a socket gets the error of a broken connection, or an answer that is cut short.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends: WeakKeyDictionary[HTTPConnection, tuple[float, Any]] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def over(self, manager: urllib3.PoolManager) -> None:
        """Watch all connections that `manager` opens from now on."""
        classes = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {scheme: self._watched(pool) for scheme, pool in classes.items()}

    def close(self) -> None:
        """Shut all sockets; an exchange that begins later raises OSError."""
        self._closing.set()
        self._shut(float("inf"))

    def _watched(self, pool: Any) -> Any:
        watch = self

        class Connection(pool.ConnectionCls):  # type: ignore[misc]
            def connect(self) -> None:
                watch._begin(self, None)
                super().connect()

            def getresponse(self) -> Any:
                watch._begin(self, self.sock)  # kept: a connection that the server will close forgets its socket
                return super().getresponse()

        return type(pool.__name__, (pool,), {"ConnectionCls": Connection})

    def _begin(self, connection: HTTPConnection, opened: Any) -> None:
        with self._lock:
            self._ends[connection] = time.monotonic() + self.seconds, opened
            if self._closing.is_set():
                raise ConnectionAbortedError("it is not needed any more")
            if self._thread.ident is None:
                self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(self.seconds / 10):
            self._shut(time.monotonic())

    def _shut(self, until: float) -> None:
        with self._lock:
            over = [opened or connection.sock for connection, (end, opened) in self._ends.items() if end <= until]
        for one in filter(None, over):
            # A duplicate, because a socket with TLS is to be shut without a word to TLS, which another thread is in.
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(one.fileno())) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)
