"""The sample API as a process of its own beside the code that reads it: the first run, the tests, the benchmark.

What the process serves belongs in `server`, its options in `__main__`.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS_TO_END = 5


@contextmanager
def running(*options: str) -> Iterator[str]:
    """The base URL of a sample API that runs, with these options and on a free port, until the block is left.

    It ends with this process too, however this one ends. Raises RuntimeError, with what the server wrote on standard
    error, where it does not start.
    """
    command = [sys.executable, "-m", "analytics_assets.sample_api", "--port", "0", "--exit-with-parent", *options]
    # A session of its own, so that an interrupt from the terminal reaches only the reader, which then ends the server.
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                process.wait(SECONDS_TO_END)
                errors.seek(0)
                raise RuntimeError(f"the sample API did not start:\n{errors.read()}")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
