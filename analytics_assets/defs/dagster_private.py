"""The only imports of Dagster's private modules. When Dagster is upgraded, look here first."""

import dagster as dg

# The origin of a run. No public API sets it, and without it the UI neither lists a run of `make run` under its job nor
# re-executes it from failure.
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

# The base of `defs.event_log`, which saves 1.7 seconds of CPU time per run; no public storage keeps its files open.
from dagster._core.storage.event_log import SqliteEventLogStorage as SqliteEventLogStorage


def job_origin(location: str, job: str) -> RemoteJobOrigin:
    """The origin that Dagster gives to runs of this job that it launches itself."""
    return RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "__repository__").get_job_origin(job)


def code_server_has(run: dg.DagsterRun, host: str, port: int) -> bool:
    """Whether the code server executes the run; no public API asks it. Raises `DagsterError` if it does not answer."""
    from dagster._grpc.client import DagsterGrpcClient  # here, because it takes 0.15 s and is needed only after a crash
    from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult

    client = DagsterGrpcClient(host=host, port=port)
    answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=5)
    return dg.deserialize_value(answer, CanCancelExecutionResult).can_cancel
