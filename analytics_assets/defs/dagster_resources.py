"""Dagster resources of the ops, checks and sensors: settings, warehouse, and the reader of a run."""

import gc
from collections.abc import Iterator
from contextlib import closing, contextmanager

import dagster as dg

from analytics_assets import settings
from analytics_assets.extract.reader import Reader
from analytics_assets.load.warehouse import Warehouse


@dg.resource(description="The settings, read when the run begins.")
def current_settings(_: dg.InitResourceContext) -> settings.Settings:
    return settings.read()


@dg.resource(required_resource_keys={"settings"}, description="The warehouse, to which one process writes at a time.")
def warehouse(context: dg.InitResourceContext) -> Warehouse:
    return Warehouse(context.resources.settings)


@dg.resource(
    required_resource_keys={"settings", "warehouse"},
    description="Reads resources while others are loaded, and keeps the warehouse open meanwhile.",
)
def reader(context: dg.InitResourceContext) -> Iterator[Reader]:
    """One object for the whole run, since all its steps are executed in one process."""
    # On exit, the file is released to other processes before readings are ended.
    with (
        _collecting_less_garbage(),
        closing(Reader(context.resources.settings)) as reader,
        context.resources.warehouse.kept_open(),
    ):
        yield reader


@contextmanager
def _collecting_less_garbage() -> Iterator[None]:
    """Inside, Python's garbage collector runs rarely: it takes long over millions of rows, none of them garbage."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


DAGSTER_RESOURCES = {"settings": current_settings, "warehouse": warehouse, "reader": reader}
