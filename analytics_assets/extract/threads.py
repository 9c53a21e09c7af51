"""Work that blocks, for an event loop that must not."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

Answer = TypeVar("Answer")


async def in_thread(work: Callable[..., Answer], *arguments: Any) -> Answer:
    """What `work(*arguments)` gives, from a thread of its own.

    Who is cancelled does not wait for it, and neither does the end of the process, as with an executor's threads: it
    may hang in a name server or a database.
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

    threading.Thread(target=run, name=work.__name__, daemon=True).start()
    return await answer
