"""The pages of a reading that is under way, on disk: after a crash they need not be requested again.

A page is kept as the body of its answer. What it means, and whether it still holds, is asked elsewhere.
"""

import os
import shutil
import struct
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

LENGTHS = struct.Struct("<II")  # of a body, and of what it is compressed to
CODEC = pa.Codec("lz4")


class PageLog:
    """The bodies of pages 1, 2, 3 ... in `file`, in a folder of its own, each behind its lengths.

    A page that a crash has torn is cut off, and what nobody has gone on with for `seconds`, here and in the folders
    beside it, is removed.
    """

    def __init__(self, file: Path, seconds: float) -> None:
        for old in file.parent.parent.glob("*/*"):
            with suppress(FileNotFoundError):  # another process does the same
                if time.time() - old.stat().st_mtime > seconds:
                    old.unlink()
        file.parent.mkdir(parents=True, exist_ok=True)
        self._folder = file.parent
        self._file = file.open("a+b")
        self._ends = [0]
        size = os.fstat(self._file.fileno()).st_size
        while (start := self._ends[-1] + LENGTHS.size) <= size:
            self._ends.append(start + self._lengths(start)[1])
        if self._ends[-1] > size:
            self._ends.pop()
        self.keep(len(self))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, page: int) -> bytes:
        """The body of a page, from 1."""
        start = self._ends[page - 1] + LENGTHS.size
        length, compressed = self._lengths(start)
        body: bytes = CODEC.decompress(os.pread(self._file.fileno(), compressed, start), length, asbytes=True)
        return body

    def append(self, body: bytes) -> None:
        """Add the page behind the last one."""
        compressed = CODEC.compress(body)
        self._file.write(LENGTHS.pack(len(body), len(compressed)) + compressed)
        self._file.flush()
        self._ends.append(self._ends[-1] + LENGTHS.size + len(compressed))

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

    def _lengths(self, start: int) -> tuple[int, int]:
        length, compressed = LENGTHS.unpack(os.pread(self._file.fileno(), LENGTHS.size, start - LENGTHS.size))
        return length, compressed
