"""dlt as its documentation has it: a REST API configuration, merged on the id, everything else as it comes.

Only that the times are text has to be said: they come in several formats, and dlt by itself ends with an error there.
"""

import os
from typing import Any

import dlt
from dlt.sources.rest_api import rest_api_source
from dlt.sources.rest_api.typing import RESTAPIConfig

from benchmarks.contestants.clock import Task, task, timed
from benchmarks.contestants.json_schema import TIMES


def configuration(task: Task) -> RESTAPIConfig:
    """The API in dlt's own words."""
    pages: Any = {
        "type": "page_number",
        "base_page": 1,
        "page_param": "page",
        "total_path": None,
        "has_more_path": "has_more",
    }
    return {
        "client": {
            "base_url": f"{task.url}/v1/",
            "auth": {"type": "bearer", "token": task.token},
            "paginator": pages,
        },
        "resource_defaults": {
            "primary_key": "id",
            "write_disposition": "merge",
            "endpoint": {"params": {"per_page": 100}},
        },
        "resources": [
            {
                "name": name,
                "columns": {time: {"data_type": "text"} for time in times},
                "endpoint": {"path": name, "data_selector": f"data.{name}"},
            }
            for name, times in TIMES.items()
        ],
    }


def main(**options: Any) -> None:
    """Load everything; `options` are those of the pipeline's run."""
    todo = task()
    os.environ.update(DLT_DATA_DIR=str(todo.file.parent / "dlt"), RUNTIME__DLTHUB_TELEMETRY="false")
    with timed():
        pipeline = dlt.pipeline("plain", destination=dlt.destinations.duckdb(str(todo.file)), dataset_name="analytics")
        pipeline.run(rest_api_source(configuration(todo)), **options)


if __name__ == "__main__":
    main()
