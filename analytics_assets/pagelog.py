"""The pages of a reading that is under way, on disk: after a crash they need not be requested again.

A page is kept as the body of its answer. What it means, and whether it still holds, is asked elsewhere.
"""

import os
import shutil
import struct
import time
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import pyarrow as pa

STARTED = struct.Struct("<d")  # seconds since 1970, at the beginning of the file
LENGTHS = struct.Struct("<III")  # of a body, and of what it is compressed to, whose checksum follows
CODEC = pa.Codec("lz4")


class PageLog:
    """The bodies of pages 1, 2, 3 ... in `file`, in a folder of its own, each behind its lengths and its checksum.

    Pages behind one that a crash has torn are cut off. A log that was started more than `seconds` ago, here or in the
    folders beside it, is removed.
    """

    def __init__(self, file: Path, seconds: float) -> None:
        for old in file.parent.parent.glob("*/*"):
            with suppress(FileNotFoundError):  # another process does the same
                if time.time() - _started(old) > seconds:
                    old.unlink()
        file.parent.mkdir(parents=True, exist_ok=True)
        self._folder = file.parent
        self._file = file.open("a+b")
        self._ends = [STARTED.size]
        while end := self._end_of_page(self._ends[-1]):
            self._ends.append(end)
        self.keep(len(self))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, page: int) -> bytes:
        """The body of a page, from 1."""
        length, compressed, _ = self._lengths(self._ends[page - 1])
        body: bytes = CODEC.decompress(self._read(self._ends[page] - compressed, compressed), length, asbytes=True)
        return body

    def append(self, body: bytes) -> None:
        """Add the page behind the last one."""
        compressed = CODEC.compress(body, asbytes=True)
        self._file.write(LENGTHS.pack(len(body), len(compressed), crc32(compressed)) + compressed)
        self._file.flush()
        self._ends.append(self._ends[-1] + LENGTHS.size + len(compressed))

    def keep(self, pages: int) -> None:
        """Drop what is behind so many pages; a log without any starts now."""
        del self._ends[pages + 1 :]
        self._file.truncate(self._ends[-1] if pages else 0)
        if not pages:
            self._file.write(STARTED.pack(time.time()))
            self._file.flush()

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        """Leave nothing on the disk, nor of what lies beside it: the log of the same rows with another token."""
        self.close()
        shutil.rmtree(self._folder)

    def _end_of_page(self, start: int) -> int | None:
        """Where the page ends that starts there, if it is whole."""
        with suppress(struct.error):
            _, compressed, checksum = self._lengths(start)
            body = self._read(start + LENGTHS.size, compressed)
            if body and len(body) == compressed and crc32(body) == checksum:
                return start + LENGTHS.size + compressed
        return None

    def _lengths(self, start: int) -> tuple[int, ...]:
        return LENGTHS.unpack(self._read(start, LENGTHS.size))

    def _read(self, start: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length, start)


def _started(file: Path) -> float:
    """When the log in this file was started; long ago where it does not say."""
    with file.open("rb") as opened:
        head = opened.read(STARTED.size)
    return float(STARTED.unpack(head)[0]) if len(head) == STARTED.size else 0.0
