"""The whole process that `make run` starts: the interpreter, the imports, the main job and its report."""

import os
import subprocess
import sys

from benchmarks.contestants.clock import task, timed
from benchmarks.contestants.main_job import environment


def main() -> None:
    command = [sys.executable, "-m", "analytics_assets", "run"]
    variables = os.environ | environment(task())
    with timed():
        subprocess.run(command, env=variables, stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main()
