"""What a contestant is told, and the clock around its work, which leaves out imports."""

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Task(argparse.Namespace):
    """Where to read from and how many pages at once, and the DuckDB file to write, whose folder is the contestant's."""

    url: str
    token: str
    file: Path
    in_flight: int


def task() -> Task:
    """The task on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("token")
    parser.add_argument("file", type=Path)
    parser.add_argument("--in-flight", type=int, default=8)
    return parser.parse_args(namespace=Task())


@contextmanager
def timed() -> Iterator[None]:
    """Print, as a line of JSON, the seconds that the block took, and those of processors, its children's included."""
    processor, started = sum(os.times()[:4]), time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "processor_seconds": sum(os.times()[:4]) - processor}), flush=True)
