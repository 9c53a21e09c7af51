"""The pages of a reading that is under way, on disk: after a crash they need not be requested again.

A page is kept as the body of its answer. What it means, and whether it still holds, is asked elsewhere.
"""

import os
import shutil
import struct
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import pyarrow as pa

# When, in seconds since 1970; length of a body, and of what it is compressed to; checksum of that.
HEAD = struct.Struct("<dIII")
CODEC = pa.Codec("lz4")


class PageLog:
    """The bodies of pages 1, 2, 3 ... in `file`, in a folder of its own, each behind its time, lengths and checksum.

    Pages behind one that a crash has torn are cut off. A log that has not grown for `seconds` holds nothing any more:
    the reading itself may take days. The last page says nothing about that, since each try to go on asks for it again.
    Logs in the folders beside it that nobody has written to for as long are removed.
    """

    def __init__(self, file: Path, seconds: float) -> None:
        with suppress(FileNotFoundError):  # what is loaded meanwhile removes its own; the next log sees to the rest
            for old in file.parent.parent.glob("*/*"):
                if time.time() - old.stat().st_mtime > seconds:
                    old.unlink()
        file.parent.mkdir(parents=True, exist_ok=True)
        self._folder = file.parent
        self._file = file.open("a+b")
        self._ends = [0]
        while end := self._end_of_page(self._ends[-1]):
            self._ends.append(end)
        grown = self._head(self._ends[max(0, len(self) - 2)])[0] if len(self) else 0.0
        self.keep(len(self) if time.time() - grown <= seconds else 0)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, page: int) -> bytes:
        """The body of a page, from 1."""
        _, length, compressed, _ = self._head(self._ends[page - 1])
        body: bytes = CODEC.decompress(self._read(self._ends[page] - compressed, compressed), length, asbytes=True)
        return body

    @property
    def started_at(self) -> datetime:
        """When its first page was read."""
        return datetime.fromtimestamp(self._head(0)[0], UTC)

    def append(self, body: bytes) -> None:
        """Add the page behind the last one."""
        compressed = CODEC.compress(body, asbytes=True)
        self._file.write(HEAD.pack(time.time(), len(body), len(compressed), crc32(compressed)) + compressed)
        self._file.flush()
        self._ends.append(self._ends[-1] + HEAD.size + len(compressed))

    def keep(self, pages: int) -> None:
        """Drop what is behind so many pages."""
        del self._ends[pages + 1 :]
        self._file.truncate(self._ends[-1])

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        """Leave nothing on the disk, nor of what lies beside it: the log of the same rows with another token."""
        self.close()
        shutil.rmtree(self._folder)

    def _end_of_page(self, start: int) -> int | None:
        """Where the page ends that starts there, if it is whole."""
        with suppress(struct.error):
            _, _, compressed, checksum = self._head(start)
            body = self._read(start + HEAD.size, compressed)
            if body and len(body) == compressed and crc32(body) == checksum:
                return start + HEAD.size + int(compressed)
        return None

    def _head(self, start: int) -> tuple[Any, ...]:
        return HEAD.unpack(self._read(start, HEAD.size))

    def _read(self, start: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length, start)
