"""The path under which the `dagster.yaml` of a Dagster home names the event log; the class is in `defs`."""

from analytics_assets.defs.event_log import EventLog

__all__ = ["EventLog"]
