"""The sample API as a process beside the code that reads it: for the first run, the tests and the benchmark."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile


@contextmanager
def running(*options: str) -> Iterator[str]:
    """The base URL of a sample API that runs, with these options and on a free port, until the block is left.

    It ends with this process too, however this one ends. Raises RuntimeError, with what the server wrote on standard
    error, where it does not start.
    """
    command = [sys.executable, "-m", "analytics_assets.sample_api", "--port", "0", "--exit-with-parent", *options]
    pipe = subprocess.PIPE
    # A session of its own, so that an interrupt from the terminal reaches only the reader, which then ends the server.
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True, start_new_session=True) as process,
    ):
        assert process.stdout
        url = process.stdout.readline().strip()
        if not url:
            process.wait()
            errors.seek(0)
            raise RuntimeError(f"the sample API did not start:\n{errors.read()}")
        yield url  # at the end standard input is closed, and with that the server ends
