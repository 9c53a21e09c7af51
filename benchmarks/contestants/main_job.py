"""This project's main job in one process, as configured by default: six assets, the join, every check and the history.

The Dagster home is new for each run, and with it dlt's folder, which has the budget of calls, so that no run waits for
the calls of another. It is made before the clock starts, as it is once for an installation; the line of `make run` has
that in it.
"""

import os
import shutil
import tempfile

from analytics_assets.settings import CHECKOUT
from benchmarks.contestants.clock import Task, task, timed


def environment(task: Task) -> dict[str, str]:
    """A folder of its own for all that is written, and the API of the task; all else is configured by default."""
    home = tempfile.mkdtemp(dir=task.file.parent, prefix="dagster_home_")
    shutil.copy(CHECKOUT / "dagster_home" / "dagster.yaml", home)
    return {
        "API_BASE_URL": task.url,
        "API_KEY": task.token,
        "DAGSTER_HOME": home,
        "DESTINATION__WAREHOUSE__CREDENTIALS": str(task.file),
        "DLT_DATA_DIR": f"{home}/dlt",
        "READ_AHEAD": str(task.in_flight),
    }


def main(*names: str) -> None:
    """Run the job, or of its assets those that are named, with their checks."""
    os.environ.update(environment(task()))
    import dagster as dg

    from analytics_assets.definitions import defs

    selection = [dg.AssetKey(name) for name in names] or None
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with dg.DagsterInstance.get() as instance, timed():
        defs.resolve_job_def("analytics_job").execute_in_process(quiet, instance, asset_selection=selection)


if __name__ == "__main__":
    main()
