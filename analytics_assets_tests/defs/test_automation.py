"""Jobs, schedule and sensors, ticked against a real server and a real instance."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from analytics_assets.definitions import defs
from analytics_assets.defs.sensors import failed_run_sensor, look_for_new_rows
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import RESOURCES
from analytics_assets_tests.conftest import Materialize, configured
from analytics_assets_tests.contract_api import ContractApi, body, status
from analytics_assets_tests.defs.webhook import receiving

Tick = Callable[[], dg.RunRequest | dg.SkipReason]


@pytest.fixture
def tick(instance: dg.DagsterInstance) -> Tick:
    """One tick of the sensor for new rows."""

    def evaluate() -> Any:
        with dg.build_sensor_context(instance=instance, definitions=defs) as context:
            return look_for_new_rows(context, configured())

    return evaluate


def selected(request: dg.RunRequest | dg.SkipReason) -> set[str]:
    """The assets that a tick asks to be made; none where it asks for no run."""
    if isinstance(request, dg.SkipReason):
        return set()
    return {key.to_user_string() for key in request.asset_selection or []}


def run(instance: dg.DagsterInstance, request: dg.RunRequest | dg.SkipReason) -> dg.ExecuteInProcessResult:
    """Runs what a tick has asked for, as the daemon would."""
    assert isinstance(request, dg.RunRequest)
    return defs.resolve_job_def("analytics_job").execute_in_process(
        instance=instance,
        asset_selection=list(request.asset_selection or []),
        tags=dict(request.tags),
        raise_on_error=False,
    )


def test_what_was_never_loaded_and_has_rows_is_asked_for(api: ContractApi, tick: Tick) -> None:
    """On an empty warehouse each resource that has a row is asked for."""
    api.rows["users"] = [{"id": 1}]
    assert selected(tick()) == {"users"}


def test_growth_is_asked_for_once(
    api: ContractApi, materialize: Materialize, instance: dg.DagsterInstance, tick: Tick
) -> None:
    """One call per resource finds growth; a run for it is requested once, and not again after that run."""
    api.rows["users"] = [{"id": 1}, {"id": 2}]
    api.rows["trainings"] = [{"id": 1}]
    materialize(*RESOURCES)
    api.calls.clear()
    quiet = tick()
    assert isinstance(quiet, dg.SkipReason)
    assert quiet.skip_message == "No new rows"
    assert api.calls == dict.fromkeys(RESOURCES, 1)

    api.rows["users"].append({"id": 3})
    request = tick()
    assert selected(request) == {"users"}
    assert isinstance(request, dg.RunRequest)
    instance.create_run_for_job(defs.resolve_job_def("users_job"), tags=dict(request.tags))
    assert selected(tick()) == set(), "the run that was asked for is still waiting"
    assert run(instance, request).success
    assert selected(tick()) == set()
    api.rows["users"].append({"id": 4})
    assert selected(tick()) == {"users"}


def test_growth_is_asked_for_again_if_the_run_fails(
    api: ContractApi, materialize: Materialize, instance: dg.DagsterInstance, tick: Tick
) -> None:
    """A failed run leaves the growth to be asked for again."""
    api.rows["users"] = [{"id": 1}]
    materialize(*RESOURCES)
    api.rows["users"].append({"id": 2})
    request = tick()
    api.always["users"] = status(404)
    assert not run(instance, request).success
    del api.always["users"]
    again = tick()
    assert selected(again) == {"users"}
    assert run(instance, again).success
    assert selected(tick()) == set()


def test_a_row_that_never_arrives_is_not_asked_for_for_ever(
    api: ContractApi, materialize: Materialize, instance: dg.DagsterInstance, tick: Tick
) -> None:
    """Where the API counts a row that it does not give, one sync finds that out, and real growth is still seen."""

    def hiding_the_first(resource: str, page: int, size: int) -> Any:
        answer = api.contract_page(resource, page, size)
        if size > 1 and page == 1:
            del answer["data"][resource][:1]
        return answer

    api.page = hiding_the_first
    api.rows["users"] = [{"id": 1}, {"id": 2}]
    assert materialize(*RESOURCES).success
    assert run(instance, tick()).success
    assert selected(tick()) == set()
    api.rows["users"].append({"id": 3})
    assert selected(tick()) == {"users"}


def test_a_shrunk_resource_is_still_watched(
    api: ContractApi, materialize: Materialize, instance: dg.DagsterInstance, tick: Tick
) -> None:
    """A row that was asked for and gone again does not hide what comes later."""
    api.rows["users"] = [{"id": 1}]
    materialize(*RESOURCES)
    api.rows["users"].append({"id": 2})
    request = tick()
    del api.rows["users"][1]
    assert run(instance, request).success
    api.rows["users"] += [{"id": number} for number in range(2, 6)]
    assert selected(tick()) == {"users"}


def test_a_resource_that_fails_again_and_again_is_asked_for_less_often(
    api: ContractApi, materialize: Materialize, instance: dg.DagsterInstance, tick: Tick
) -> None:
    """After the second failed sync the sensor waits, and says so, instead of spending the calls of a sync each tick."""
    materialize(*RESOURCES)
    api.rows["users"] = [{"id": number, "created_at": "?"} for number in range(20)]
    for _ in range(2):
        assert not run(instance, tick()).success
    waiting = tick()
    assert isinstance(waiting, dg.SkipReason)
    assert waiting.skip_message == "No new rows; users: 2 syncs have failed; the next is requested 300 s after the last"


def test_a_failure_in_the_future_is_not_waited_for(
    api: ContractApi,
    materialize: Materialize,
    instance: dg.DagsterInstance,
    tick: Tick,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A sync that failed while a clock was ahead is asked for again by the right clock, and the sensor says why."""
    materialize(*RESOURCES)
    api.rows["users"] = [{"id": number, "created_at": "?"} for number in range(20)]
    failed = [run(instance, tick()) for _ in range(2)]
    assert selected(tick()) == set()
    [end] = instance.all_logs(failed[-1].run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    instance.handle_new_event(end._replace(timestamp=datetime(2100, 1, 1, tzinfo=UTC).timestamp()))
    again = tick()
    assert selected(again) == {"users"}
    assert re.search(r"users: its last run ended \d+ s in the future: a clock was wrong\n", capsys.readouterr().err)
    run(instance, again)
    waiting = tick()
    assert isinstance(waiting, dg.SkipReason)
    assert "users: 3 syncs have failed" in (waiting.skip_message or "")


def test_a_resource_that_is_being_synced_is_said_to_be(
    api: ContractApi, materialize: Materialize, instance: dg.DagsterInstance, tick: Tick
) -> None:
    """A tick during a sync asks for nothing and says why."""
    materialize(*RESOURCES)
    api.rows["users"] = [{"id": 1}]
    job, selection = defs.resolve_job_def("users_job"), frozenset({dg.AssetKey("users")})
    running = instance.create_run_for_job(job, asset_selection=selection)
    skipped = tick()
    assert isinstance(skipped, dg.SkipReason)
    assert skipped.skip_message == f"No new rows; users: being synced by run {running.run_id[:8]}"


def test_a_materialization_reported_by_hand_is_no_sync(
    api: ContractApi, materialize: Materialize, instance: dg.DagsterInstance, tick: Tick
) -> None:
    """Without figures of a sync the resource is asked for."""
    materialize(*RESOURCES)
    api.rows["users"] = [{"id": 1}]
    instance.report_runless_asset_event(dg.AssetMaterialization("users"))
    assert selected(tick()) == {"users"}


def test_a_broken_resource_does_not_silence_the_sensor(api: ContractApi, materialize: Materialize, tick: Tick) -> None:
    """One endpoint that fails costs one call and is named; growth of the others is still found."""
    materialize(*RESOURCES)
    for fault, message in ((status(500), "users: HTTP 500"), (body(b'{"data": {}}'), "users: HTTP 200")):
        api.always["users"] = fault
        api.calls.clear()
        skipped = tick()
        assert isinstance(skipped, dg.SkipReason)
        assert message in (skipped.skip_message or "")
        assert api.calls["users"] == 1
    api.rows["trainings"].append({"id": 1})
    assert selected(tick()) == {"trainings"}


def test_an_api_that_is_down_fails_the_tick(api: ContractApi, tick: Tick) -> None:
    """Where no resource answers, the tick is an error."""
    for name in RESOURCES:
        api.always[name] = status(500)
    with pytest.raises(Exception, match="HTTP 500"):
        tick()


def test_a_missing_key_fails_the_tick(api: ContractApi, tick: Tick, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key the tick is an error that names it, not a quiet skip."""
    monkeypatch.delenv("API_KEY")
    with pytest.raises(Exception, match="API_KEY is not set"):
        tick()


def test_jobs_and_schedule() -> None:
    """A job for everything, one a resource, and a nightly schedule that somebody has to switch on."""
    names = {job.name for job in defs.resolve_all_job_defs()}
    assert {"analytics_job", *(f"{name}_job" for name in RESOURCES)} <= names
    schedule = defs.resolve_schedule_def("nightly_schedule")
    assert schedule.job_name == "analytics_job"
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    stopped = {sensor.name for sensor in defs.sensors or () if sensor.default_status is dg.DefaultSensorStatus.STOPPED}
    assert stopped == {"new_rows_sensor"}


def test_marts_follow_a_sync_once(api: ContractApi, materialize: Materialize, instance: dg.DagsterInstance) -> None:
    """All that is made from a synced table is asked for in one run, and after it, or where a run makes all, nothing."""
    following, cursor = {*MARTS, "sync_log", "published_database"}, None

    def requested() -> set[str]:
        nonlocal cursor
        result = dg.evaluate_automation_conditions(defs, instance, cursor=cursor)
        cursor = result.cursor
        return {name for name in following if result.get_num_requested(dg.AssetKey(name))}

    materialize()
    assert requested() == set()
    materialize("users", "trainings")
    assert requested() == following
    materialize(*following)
    assert requested() == set()
    materialize("registrations")  # its asset fills the history that `progress_by_day` is made from
    assert requested() == following
    materialize(*following)
    assert requested() == set()
    materialize("awarded_certifications")
    assert requested() == {"learner_progress", "sync_log", "published_database"}


def report(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> dg.DagsterRun:
    """Evaluates the sensor for a failed run, as the daemon would."""
    run = instance.get_run_by_id(result.run_id)
    assert run
    event = next(event for event in result.all_events if event.is_failure and not event.is_step_event)
    context = dg.build_run_status_sensor_context("failed_run_sensor", event, instance, run)
    failed_run_sensor(context.for_run_failure())
    return run


def test_a_failed_run_is_reported(
    api: ContractApi, materialize: Materialize, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the failed asset, its cause, and what the table holds, and is sent again if it must be."""
    api.always["users"] = status(404)
    result = materialize("users", "trainings")
    with receiving(503) as (url, messages):
        monkeypatch.setenv("FAILURE_WEBHOOK_URL", url)
        run = report(instance, result)
    [message] = messages
    assert message.startswith(f"Run {run.run_id[:8]} of analytics_job failed.\nusers was not loaded: HTTP 404 from")
    assert message.endswith("It has never been loaded. Materialize it again once that is fixed.")


def test_a_broken_webhook_does_not_give_its_address_away(
    api: ContractApi, materialize: Materialize, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tick's error says what the webhook answered, and not where it is."""
    api.always["users"] = status(404)
    result = materialize("users")
    with receiving(500, 500, 500) as (url, _):
        monkeypatch.setenv("FAILURE_WEBHOOK_URL", url)
        with pytest.raises(ConnectionError, match=r"^the webhook answered HTTP 500$"):
            report(instance, result)
