"""PyAirbyte: a low-code manifest of this API, read into a DuckDB cache.

A page that is not full is the last to it, since the manifest's counter of pages asks no field of the answer.
"""

import os
from typing import Any

from benchmarks.contestants.clock import Task, task, timed
from benchmarks.contestants.json_schema import FIELDS

os.environ.update(DO_NOT_TRACK="1", AIRBYTE_OFFLINE_MODE="1")  # asked for when airbyte is imported

import airbyte as ab
from airbyte.caches import DuckDBCache


def stream(task: Task, name: str) -> dict[str, Any]:
    """One resource, in the manifest's words."""
    return {
        "type": "DeclarativeStream",
        "name": name,
        "primary_key": ["id"],
        "retriever": {
            "type": "SimpleRetriever",
            "requester": {
                "type": "HttpRequester",
                "url_base": f"{task.url}/v1/",
                "path": name,
                "http_method": "GET",
                "authenticator": {"type": "BearerAuthenticator", "api_token": task.token},
            },
            "record_selector": {
                "type": "RecordSelector",
                "extractor": {"type": "DpathExtractor", "field_path": ["data", name]},
            },
            "paginator": {
                "type": "DefaultPaginator",
                "page_token_option": {
                    "type": "RequestOption",
                    "inject_into": "request_parameter",
                    "field_name": "page",
                },
                "page_size_option": {
                    "type": "RequestOption",
                    "inject_into": "request_parameter",
                    "field_name": "per_page",
                },
                "pagination_strategy": {
                    "type": "PageIncrement",
                    "page_size": 100,
                    "start_from_page": 1,
                    "inject_on_first_request": True,
                },
            },
        },
        "schema_loader": {"type": "InlineSchemaLoader", "schema": {"type": "object", "properties": FIELDS[name]}},
    }


def manifest(task: Task) -> dict[str, Any]:
    """The whole source."""
    return {
        "version": "7.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": ["certifications"]},
        "streams": [stream(task, name) for name in FIELDS],
        "spec": {"type": "Spec", "connection_specification": {"type": "object", "properties": {}}},
    }


def main() -> None:
    todo = task()
    with timed():
        source = ab.get_source("source-academy", config={}, source_manifest=manifest(todo))
        source.select_all_streams()
        cache = DuckDBCache(db_path=todo.file, schema_name="analytics", cache_dir=todo.file.parent / "cache")
        source.read(cache)


if __name__ == "__main__":
    main()
