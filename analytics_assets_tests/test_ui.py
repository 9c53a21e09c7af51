"""The Dagster UI as `make ui` serves it, seen in a browser (the system's Chromium) and asked by GraphQL."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Page, expect, sync_playwright

from analytics_assets.environment import PROJECT
from analytics_assets.schema import MARTS, RESOURCES, VIEWS
from analytics_assets_tests.contract_api import TOKEN, serving, status
from analytics_assets_tests.webhook import receiving

pytestmark = pytest.mark.ui

ASSETS = [*RESOURCES, *MARTS, *VIEWS, "published_database"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SECONDS = 90
Ask = Callable[[str], Any]


def wait_for(what: Callable[[], Any], why: str, seconds: float = SECONDS) -> Any:
    """What `what` gives once it is true; an error that says `why` if it never is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited in vain: {why}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def messages() -> Iterator[tuple[str, list[str]]]:
    """A webhook's URL, and what it was told."""
    with receiving() as webhook:
        yield webhook


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, messages: tuple[str, list[str]]) -> dict[str, str]:
    """An environment with a Dagster home and an empty warehouse of its own, and no key."""
    folder = tmp_path_factory.mktemp("ui")
    shutil.copy(PROJECT / "dagster_home" / "dagster.yaml", folder)
    return {
        **os.environ,
        "API_KEY": "",
        "FAILURE_WEBHOOK_URL": messages[0],
        "DAGSTER_HOME": str(folder),
        "DLT_DATA_DIR": str(folder / "dlt"),
        "DESTINATION__WAREHOUSE__CREDENTIALS": str(folder / "warehouse.duckdb"),
    }


@pytest.fixture(scope="module")
def url(environment: dict[str, str]) -> Iterator[str]:
    """`make ui` with the sample API, ended by an interrupt."""
    port = free_port()
    folder = Path(environment["DAGSTER_HOME"])
    command = [sys.executable, "-m", "analytics_assets", "ui", "--port", str(port)]
    log = (folder / "log").open("w")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return requests.get(f"{url}/server_info", timeout=5).ok
        except requests.ConnectionError:
            return False

    try:
        wait_for(answers, "the UI does not answer")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def ask(url: str) -> Ask:
    """The data of a GraphQL answer."""

    def query(text: str) -> Any:
        answer = requests.post(f"{url}/graphql", json={"query": text}, timeout=30).json()
        assert not answer.get("errors"), answer
        return answer["data"]

    wait_for(lambda: query("{ assetNodes { id } }")["assetNodes"], "no asset is loaded")
    return query


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.fail("Chromium is missing; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, url: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page at laptop size; `SCREENSHOTS=<folder>` keeps what each test saw last."""
    page = browser.new_page(base_url=url, viewport={"width": 1440, "height": 900})
    page.set_default_timeout(SECONDS * 1000)
    expect.set_options(timeout=SECONDS * 1000)
    yield page
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{request.node.name}.png")
    page.close()


def materialized(ask: Ask) -> dict[str, str]:
    """The run that made each asset last, by asset."""
    nodes = ask("{ assetNodes { assetKey { path } assetMaterializations(limit: 1) { runId } } }")["assetNodes"]
    made = {node["assetKey"]["path"][0]: node["assetMaterializations"] for node in nodes}
    return {name: events[0]["runId"] for name, events in made.items() if events}


def test_every_asset_is_there_before_any_run(page: Page, ask: Ask) -> None:
    """The catalog lists all assets with their descriptions, groups and kinds."""
    page.goto("/assets")
    for name in ASSETS:
        expect(page.get_by_role("link", name=name, exact=False).first).to_be_visible()
    expect(page.get_by_text("analytics_api").first).to_be_visible()
    expect(page.get_by_text("One row a learner account").first).to_be_visible()
    nodes = ask("{ assetNodes { assetKey { path } groupName kinds owners { ... on TeamAssetOwner { team } } } }")
    for node in nodes["assetNodes"]:
        [name] = node["assetKey"]["path"]
        tools = {"dlt"} if name in RESOURCES else set() if name == "published_database" else {"sql"}
        assert node["groupName"] == (
            "analytics_api" if name in RESOURCES else "reference" if name in VIEWS else "marts"
        )
        assert set(node["kinds"]) == {*tools, "duckdb"}
        assert node["owners"] == [{"team": "analytics"}]


def test_only_this_machine_reaches_it(url: str) -> None:
    """The UI has no login, and listens on 127.0.0.1 and no other address of this machine."""
    with pytest.raises(requests.ConnectionError):
        requests.get(url.replace("127.0.0.1", "127.0.0.2"), timeout=5)


def test_an_asset_explains_itself_before_any_run(page: Page) -> None:
    """An asset's page shows its description, its owner, and its columns with meaning and mark of personal data."""
    page.goto("/assets/registrations_enriched")
    expect(page.get_by_text("Only deleted ones are left out").first).to_be_visible()
    expect(page.get_by_text("Days from registration to completion, by UTC date.").first).to_be_visible()
    expect(page.get_by_text("personal_data").first).to_be_visible()
    expect(page.get_by_text("analytics", exact=True).first).to_be_visible()


def test_lineage_leads_from_the_resources_to_the_join(page: Page, ask: Ask) -> None:
    """The lineage graph draws every asset; the join stands on its three parents alone, log and copy on all of them."""
    page.set_viewport_size({"width": 1600, "height": 1500})
    page.goto(
        "/asset-groups?expanded=global%40global%3Amarts%2Cglobal%40global%3Aanalytics_api%2Cglobal%40global%3Areference"
    )
    for name in ASSETS:
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    nodes = ask("{ assetNodes { assetKey { path } dependencyKeys { path } } }")["assetNodes"]
    edges = {(parent["path"][0], node["assetKey"]["path"][0]) for node in nodes for parent in node["dependencyKeys"]}
    assert edges == {
        *((parent, "registrations_enriched") for parent in ("registrations", "trainings", "users")),
        *((table, "published_database") for table in (*RESOURCES, *MARTS)),
        *((table, "sync_log") for table in RESOURCES),
    }


def test_materialize_all_and_one(page: Page, ask: Ask) -> None:
    """Materialize all makes all of them; a selection of one makes that one."""
    page.goto("/asset-groups")
    page.get_by_role("button", name="Materialize all").click()
    wait_for(lambda: set(materialized(ask)) == set(ASSETS), "not all assets were made")
    first = materialized(ask)
    assert len(set(first.values())) == 1
    runs = "{ runsOrError { ... on Runs { results { status } } } }"
    wait_for(lambda: ask(runs)["runsOrError"]["results"][0]["status"] == "SUCCESS", "the run is not green")
    page.goto("/assets/certifications")
    page.get_by_role("button", name="Materialize").first.click()
    wait_for(lambda: materialized(ask)["certifications"] != first["certifications"], "the asset was not made again")
    assert {name for name, run in materialized(ask).items() if run != first[name]} == {"certifications"}
    page.goto("/assets/registrations_enriched")
    expect(page.get_by_text("analytics.registrations_enriched").first).to_be_visible()


def test_preview_and_profile_are_drawn_in_place(page: Page) -> None:
    """An asset's page shows both as tables, without a click, as wide as there is room for them."""
    for name in ("users", "registrations_enriched"):
        page.goto(f"/assets/{name}")
        for header in ("another", "least, greatest"):
            expect(page.get_by_role("columnheader", name=header, exact=True)).to_be_visible()
            box = page.get_by_role("table").filter(has_text=header).last.bounding_box()
            assert box
            assert box["x"] + box["width"] < 264 + 784, "the page ends there"


def test_any_column_is_found_by_its_name(page: Page) -> None:
    """Typed into the filter of `data_dictionary`, a name leads to the column's meaning and to its table's page."""
    page.goto("/assets/data_dictionary")
    page.get_by_placeholder("Filter columns").fill("pass_status")
    expect(page.get_by_text("users.first_name", exact=True)).to_have_count(0)
    expect(page.get_by_text("registrations_enriched.pass_status", exact=True)).to_be_visible()
    expect(page.get_by_text("Result of the assessment, such as passed or failed.").first).to_be_visible()
    page.get_by_role("link", name="registrations_enriched", exact=True).first.click()
    expect(page).to_have_url(re.compile("/assets/registrations_enriched"))


def test_checks_have_their_evidence(page: Page) -> None:
    """The checks of an asset stand on its page with what they found."""
    page.goto("/assets/registrations_enriched?view=checks")
    expect(page.get_by_text("has_every_registration_once").first).to_be_visible()
    page.get_by_text("users_are_matched").first.click()
    expect(page.get_by_text("of 4,000 rows, such as").first).to_be_visible()


def test_automation_is_there_and_ticks(page: Page, ask: Ask) -> None:
    """Schedule and sensors are listed; what does not call the API runs and ticks from the start."""
    page.goto("/automation")
    for name in ("nightly_schedule", "new_rows_sensor", "marts_sensor", "failed_run_sensor", "lost_runs_sensor"):
        expect(page.get_by_text(name).first).to_be_visible()

    def ticks() -> dict[str, tuple[str, bool]]:
        sensors = ask(
            "{ repositoriesOrError { ... on RepositoryConnection { nodes { sensors { name sensorState { status "
            "ticks(limit: 1) { status } } } } } } }"
        )["repositoriesOrError"]["nodes"][0]["sensors"]
        return {s["name"]: (s["sensorState"]["status"], bool(s["sensorState"]["ticks"])) for s in sensors}

    running = ("RUNNING", True)
    wait_for(lambda: ticks()["marts_sensor"] == ticks()["failed_run_sensor"] == running, "a sensor does not tick")
    assert ticks()["new_rows_sensor"] == ("STOPPED", False)


def test_the_join_follows_a_parent_by_itself(ask: Ask) -> None:
    """A training list synced alone makes the join anew, without anybody asking for it."""
    before = materialized(ask)
    job = 'repositoryName: "__repository__", repositoryLocationName: "analytics_assets", pipelineName: "trainings_job"'
    launch = "mutation {{ launchRun(executionParams: {{ selector: {{ {} }}, runConfigData: {{}} }}) {{ __typename }} }}"
    assert ask(launch.format(job))["launchRun"]["__typename"] == "LaunchRunSuccess"
    wait_for(lambda: materialized(ask)["trainings"] != before["trainings"], "trainings were not synced")
    join = "registrations_enriched"
    wait_for(lambda: materialized(ask)[join] != before[join], "the join did not follow")
    changed = {name for name, run in materialized(ask).items() if run != before[name]}
    assert {"trainings", join} <= changed <= {"trainings", join, "sync_log"}


def test_a_failed_make_run_is_reported(ask: Ask, environment: dict[str, str], messages: tuple[str, list[str]]) -> None:
    """The sensor for failed runs sees a run that the UI has not started."""
    with serving() as api:
        api.always["users"] = status(404)
        elsewhere = environment["DESTINATION__WAREHOUSE__CREDENTIALS"] + "-elsewhere"
        real = {"API_KEY": TOKEN, "API_BASE_URL": api.url, "DESTINATION__WAREHOUSE__CREDENTIALS": elsewhere}
        command = [sys.executable, "-m", "analytics_assets", "run"]
        assert (
            subprocess.run(command, env={**environment, **real}, capture_output=True, timeout=SECONDS).returncode == 1
        )
    told = messages[1]
    wait_for(
        lambda: any("users was not loaded: HTTP 404" in message for message in told), "the failure was not reported"
    )
