"""Runs blocking calls for an event loop."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

Answer = TypeVar("Answer")


async def in_thread(work: Callable[..., Answer], *arguments: Any) -> Answer:
    """The result of `work(*arguments)`, which runs in a daemon thread.

    Neither cancellation nor the end of the process waits for the thread, unlike for an executor's threads: a name
    server or a database may never answer.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Answer] = loop.create_future()

    def settle(result: Answer | None, error: BaseException | None) -> None:
        if not answer.done():
            answer.set_exception(error) if error else answer.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work(*arguments)
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    thread = threading.Thread(target=run, name=work.__name__, daemon=True)
    thread.start()
    try:
        return await answer
    finally:
        if not answer.cancelled():
            thread.join()  # it ends just now; if it outlived the interpreter, DuckDB would print pages of leaks
