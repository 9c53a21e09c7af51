"""`make run`, as a process of its own: what it prints, its exit status, and what a killed one leaves behind."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from analytics_assets.defs import history
from analytics_assets.tables.resources import RESOURCES
from analytics_assets_tests.conftest import Query, run, start
from analytics_assets_tests.contract_api import ContractApi, status

pytestmark = pytest.mark.usefixtures("dagster_home")


def test_a_run_prints_what_was_made(api: ContractApi, query: Query) -> None:
    """A row an asset, where the data is, and a query that works; progress shows on the way."""
    api.rows["registrations"] = [{"id": number} for number in range(250)]
    code, output, progress = run()
    assert code == 0, progress
    assert re.search(r"^registrations +250 +3 +[\d.]+$", output, re.MULTILINE)
    assert re.search(r"^registrations_enriched +250 +[\d.]+$", output, re.MULTILINE)
    assert "registrations: 250 rows read, 3 pages" in progress
    [command] = re.findall(r"^  (\S+python\S* -c .*)$", output, re.MULTILINE)
    answer = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert "not_started" in answer.stdout
    assert query("SELECT count(*) FROM registrations_enriched") == [(250,)]


def test_a_broken_resource_is_named_last(api: ContractApi, query: Query) -> None:
    """The exit status is not 0, and the last lines name the resource, the status and the URL, but not the token."""
    assert run()[0] == 0
    api.rows["trainings"] = [{"id": 1}]
    api.rows["registrations"] = [{"id": 1}]
    api.always["users"] = status(403)
    code, output, progress = run()
    assert code == 1
    assert re.search(r"^users +failed$", output, re.MULTILINE)
    assert re.search(r"^registrations_enriched +1 ", output, re.MULTILINE), "the join is made from what is there"
    assert "WARN: registrations_enriched.parents_are_up_to_date: users was not updated on 20" in output
    last = output.rstrip().splitlines()[-1]
    assert last.strip().startswith(f"users was not loaded: HTTP 403 from {api.url}/v1/users?per_page=100&page=1; check")
    assert os.environ["API_KEY"] not in output + progress
    assert query("SELECT count(*) FROM trainings") == [(1,)]


def test_what_all_have_failed_of_is_said_once(api: ContractApi, warehouse_file: Path) -> None:
    """A cause that is the same for all resources stands in one line, with their names."""
    warehouse_file.write_text("This is no database. " * 1000)
    code, output, _ = run()
    assert code == 1
    failed = output.partition("FAILED:\n")[2].splitlines()
    named = {line.strip().partition(": ")[0] for line in failed}
    assert any(RESOURCES.keys() <= set(line.split(", ")) for line in named)
    assert not named & RESOURCES.keys()
    assert "was not loaded" not in "".join(failed)


def test_without_a_key_the_sample_api_is_read(
    monkeypatch: pytest.MonkeyPatch, query: Query, warehouse_file: Path, api: ContractApi
) -> None:
    """Two runs on the sample API give the same counts, in a file of their own; a configured warehouse is left alone."""
    api.rows["users"] = [{"id": 1}]
    code, output, progress = run()
    assert code == 0, progress
    with monkeypatch.context() as without:
        without.setenv("API_KEY", "")
        without.delenv("API_BASE_URL")
        counts = "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM registrations_enriched)"
        code, output, progress = run()
        assert code == 0, progress
        assert "Reading the sample API at http://127.0.0.1:" in output
        sample = warehouse_file.parent / "sample"
        assert f"The data is in {sample / 'published.duckdb'}" in output
        without.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", str(sample / warehouse_file.name))
        first = query(counts)
        assert first[0][0] > 100
        assert first[0][1] > 1000
        without.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", str(warehouse_file))
        assert run()[0] == 0
        without.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", str(sample / warehouse_file.name))
        assert query(counts) == first
    assert query("SELECT count(*) FROM users") == [(1,)]


@pytest.mark.parametrize(
    "url", ["https://me:secret@[::1", "https://me:secret@a..b.example", "https://me:secret@a:port"]
)
def test_an_address_that_cannot_be_read_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """With one line that names the setting and shows no password."""
    monkeypatch.setenv("API_BASE_URL", url)
    monkeypatch.setenv("API_KEY", "key")
    code, _, error = run()
    assert (code, error) == (2, "API_BASE_URL must be an address like https://api.example.com\n")


@pytest.mark.parametrize("setting", ["DAGSTER_HOME", "DLT_DATA_DIR"])
def test_a_folder_that_cannot_be_made_is_named(
    api: ContractApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """One sentence with the setting, before anything starts."""
    (tmp_path / "file").touch()
    monkeypatch.setenv(setting, str(tmp_path / "file" / "folder"))
    code, _, error = run()
    assert (code, error.startswith(f"{setting} is {tmp_path}/file/folder, which cannot be created (")) == (2, True)


@pytest.mark.parametrize(("missing", "given"), [("API_KEY", "API_BASE_URL"), ("API_BASE_URL", "API_KEY")])
def test_half_a_configuration_is_refused(
    api: ContractApi, monkeypatch: pytest.MonkeyPatch, missing: str, given: str
) -> None:
    """Who has set the address but not the key gets no sample data, and a key goes to no address by default."""
    monkeypatch.delenv(missing)
    code, _, error = run()
    assert code == 2
    assert f"{given} is set, but {missing} is not" in error
    assert not api.calls


def test_another_home_has_the_same_settings(api: ContractApi, dagster_home: Path) -> None:
    """A Dagster home without settings gets this project's, which send nothing to anybody."""
    (dagster_home / "dagster.yaml").unlink()
    assert run()[0] == 0
    assert "telemetry:\n  enabled: false" in (dagster_home / "dagster.yaml").read_text()
    assert not (dagster_home / ".telemetry").exists()


def test_a_killed_run_loses_and_doubles_nothing(api: ContractApi, query: Query, dagster_home: Path) -> None:
    """After kill -9 in the middle of a read no run stays started, and the next starts at once with exact counts."""
    api.rows["registrations"] = [{"id": number} for number in range(1500)]
    assert run()[0] == 0
    api.rows["registrations"] += [{"id": number} for number in range(1500, 3000)]
    process = start("run")

    def killing_page(resource: str, page: int, size: int) -> Any:
        if resource == "registrations" and page == 20:
            process.kill()
            process.wait()
        return api.contract_page(resource, page, size)

    api.page = killing_page
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert query("SELECT count(*) FROM registrations") == [(1500,)]
    api.page = api.contract_page
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        [lost] = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        assert history.end_lost_runs(instance) == [lost.run_id]
        assert not instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    code, _, progress = run()
    assert code == 0, progress
    assert query("SELECT count(*), count(DISTINCT id) FROM registrations") == [(3000, 3000)]
    assert query("SELECT count(*) FROM registrations_enriched") == [(3000,)]


def test_a_lost_pipelines_folder_and_a_lost_warehouse_are_made_anew(
    api: ContractApi, query: Query, warehouse_file: Path, tmp_path: Path
) -> None:
    """Neither dlt's folder nor the warehouse needs the other to be there."""
    api.rows["users"] = [{"id": 1}]
    assert run()[0] == 0
    shutil.rmtree(tmp_path / "dlt")
    assert run()[0] == 0
    assert query("SELECT count(*) FROM users") == [(1,)]
    warehouse_file.unlink()
    assert run()[0] == 0
    assert query("SELECT count(*) FROM users") == [(1,)]


def test_two_runs_at_once_queue(api: ContractApi, query: Query) -> None:
    """A second run waits for the first where both write, and both end well."""
    for name in RESOURCES:
        api.rows[name] = [{"id": number} for number in range(500)]
    processes = [start("run"), start("run")]
    for process in processes:
        _, progress = process.communicate(timeout=120)
        assert process.returncode == 0, progress
    assert query("SELECT count(*), count(DISTINCT id) FROM registrations") == [(500, 500)]
