"""The pages of a reading on disk: the queue between fetching and typing, and the checkpoint for resuming a sync.

A page is kept as the body of its answer, uncompressed, because compressing takes longer than fetching. This module
knows neither the contents of a page nor whether it is up to date.
"""

import logging
import os
import shutil
import struct
import time
from contextlib import suppress
from datetime import UTC, datetime
from errno import ENOSPC
from pathlib import Path
from typing import Any
from zlib import crc32

logger = logging.getLogger(__name__)

HEAD = struct.Struct("<dII")  # time in seconds since 1970, length and checksum of a body
TIME = struct.Struct("<d")  # the first part of a head


class PageLog:
    """The bodies of pages 1, 2, 3 ... in `file`, in a folder of its own, each after its time, length and checksum.

    A page torn by a crash is cut off, with all pages after it. A log that has not grown for `seconds` counts as empty;
    a reading may take days as long as its log grows. The last page does not count as growth, since each resumed sync
    requests it again. Logs in the neighbouring folders that have not changed for as long are removed. What is dated in
    the future, by a clock that was ahead, counts as written now.
    """

    def __init__(self, file: Path, seconds: float) -> None:
        with suppress(FileNotFoundError):  # another run may remove its own log meanwhile; the next log removes the rest
            for old in file.parent.parent.glob("*/*"):
                age = time.time() - old.stat().st_mtime
                if age > seconds:
                    old.unlink()
                elif age < 0:
                    os.utime(old)
        file.parent.mkdir(parents=True, exist_ok=True)
        self._folder = file.parent
        self._file = file.open("a+b", buffering=0)  # so that closing writes nothing
        self._is_cut = False
        self._ends = [0]
        while end := self._end_of_page(self._ends[-1]):
            self._ends.append(end)
        self._date_back(file)
        grown = self._head(self._ends[max(0, len(self) - 2)])[0] if len(self) else 0.0
        if time.time() - grown > seconds:
            del self._ends[1:]

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, page: int) -> bytes:
        """The body of a page, from 1."""
        start = self._ends[page - 1] + HEAD.size
        return self._read(start, self._ends[page] - start)

    @property
    def started_at(self) -> datetime:
        """When its first page was read."""
        return datetime.fromtimestamp(self._head(0)[0], UTC)

    def append(self, body: bytes) -> None:
        """Add a page after the last one."""
        if not self._is_cut:  # not earlier: opening a log must not change it
            self.keep(len(self))
        page = HEAD.pack(time.time(), len(body), crc32(body)) + body
        if self._file.write(page) < len(page):
            raise OSError(ENOSPC, os.strerror(ENOSPC), self._file.name)
        self._ends.append(self._ends[-1] + HEAD.size + len(body))

    def keep(self, pages: int) -> None:
        """Keep only the first `pages` pages."""
        del self._ends[pages + 1 :]
        self._file.truncate(self._ends[-1])
        self._is_cut = True

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        """Remove the folder, and with it the logs of the same resource that were read with another token."""
        self.close()
        shutil.rmtree(self._folder)

    def _date_back(self, file: Path) -> None:
        """Date the newest page now if its time is in the future, and all that are in the future earlier by as much.

        In the file, since otherwise the log would count as written now until that time comes.
        """
        times = [self._head(start)[0] for start in self._ends[:-1]]
        now = time.time()
        ahead = max(times, default=now) - now
        if ahead > 0:
            logger.warning("%s: kept pages are dated %.0f s in the future: a clock was wrong", self._folder.name, ahead)
            with file.open("r+b", buffering=0) as dated:  # `self._file` can only append
                for start, read in zip(self._ends[:-1], times, strict=True):
                    if read > now:
                        os.pwrite(dated.fileno(), TIME.pack(read - ahead), start)

    def _end_of_page(self, start: int) -> int | None:
        """The end of the page at offset `start`; None if the page is not complete."""
        with suppress(struct.error):
            _, length, checksum = self._head(start)
            body = self._read(start + HEAD.size, length)
            if body and len(body) == length and crc32(body) == checksum:
                return start + HEAD.size + int(length)
        return None

    def _head(self, start: int) -> tuple[Any, ...]:
        return HEAD.unpack(self._read(start, HEAD.size))

    def _read(self, start: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length, start)
