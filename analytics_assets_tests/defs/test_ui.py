"""The Dagster UI as `make ui` serves it, seen in a browser (the system's Chromium) and asked by GraphQL.

The tests are one story, in this order: an empty warehouse, a first run, a fault and its end, rows that come in.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from analytics_assets.definitions import defs
from analytics_assets.marts import lineage
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import RESOURCES
from analytics_assets_tests.contract_api import TOKEN, status
from analytics_assets_tests.contract_api import serving as serving_contract
from analytics_assets_tests.defs.browsing import LAPTOP, SECONDS, Ui, chromium, home, serving, wait_for
from analytics_assets_tests.defs.webhook import receiving

pytestmark = pytest.mark.ui

ASSETS = sorted(key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys())
ALONE = "data_dictionary"  # made from nothing but the declaration
MADE = [name for name in ASSETS if name not in RESOURCES and name != ALONE]
OF_USERS = ["users", *(name for name in MADE if name not in MARTS or "users" in lineage.sources(name))]


@pytest.fixture(scope="module")
def messages() -> Iterator[tuple[str, list[str]]]:
    """A webhook's URL, and what it was told."""
    with receiving() as webhook:
        yield webhook


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, messages: tuple[str, list[str]]) -> dict[str, str]:
    """An environment with a Dagster home and an empty warehouse of its own, and no key."""
    told = {"FAILURE_WEBHOOK_URL": messages[0], "REPOSITORY_URL": "https://git.example/blob/main"}
    return home(tmp_path_factory.mktemp("ui")) | told


@pytest.fixture(scope="module")
def ui(environment: dict[str, str]) -> Iterator[Ui]:
    """The engineer's UI, on the sample API."""
    with serving(environment) as ui:
        yield ui


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, ui: Ui, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page at laptop size; `SCREENSHOTS=<folder>` keeps what each test saw last."""
    page = browser.new_page(base_url=ui.url, viewport=LAPTOP)
    page.set_default_timeout(SECONDS * 1000)
    yield page
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{request.node.name}.png")
    page.close()


def newest(ui: Ui) -> dict[str, str]:
    """The run that made each asset last."""
    return {name: runs[0] for name, runs in ui.materialized().items() if runs}


def test_the_printed_links_lead_to_something(page: Page, ui: Ui) -> None:
    """Of the two addresses that `make ui` prints, one shows every asset and the other what the marts are made from."""
    links = ui.links()
    page.goto(links["Tables"])
    for name in ASSETS:
        expect(page.get_by_role("link", name=name, exact=False).first).to_be_visible()
    expect(page.get_by_text("One row per learner account").first).to_be_visible()
    page.goto(links["Lineage"])
    for name in (*MARTS, "users"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_every_asset_is_described_before_any_run(ui: Ui) -> None:
    """All assets have their group, owner, criticality, freshness policy and code; the tables also their kinds."""
    nodes = ui.ask(
        "{ assetNodes { assetKey { path } groupName kinds tags { key value } owners { ... on TeamAssetOwner { team } } "
        "internalFreshnessPolicy { __typename } metadataEntries { __typename } } }"
    )["assetNodes"]
    for node in nodes:
        [name] = node["assetKey"]["path"]
        assert node["groupName"] == (
            "analytics_api" if name in RESOURCES else "marts" if name in MARTS else "reference"
        )
        assert node["owners"] == [{"team": "analytics"}]
        assert node["internalFreshnessPolicy"]
        assert "criticality" in {tag["key"] for tag in node["tags"]}
        assert {"__typename": "CodeReferencesMetadataEntry"} in node["metadataEntries"]
        if name in (*RESOURCES, *MARTS):
            assert set(node["kinds"]) == {"dlt" if name in RESOURCES else "sql", "duckdb"}


def test_only_this_machine_reaches_it(ui: Ui) -> None:
    """The UI has no login, and listens on 127.0.0.1 and no other address of this machine."""
    with pytest.raises(requests.ConnectionError):
        requests.get(ui.url.replace("127.0.0.1", "127.0.0.2"), timeout=5)


def test_an_asset_explains_itself_before_any_run(page: Page) -> None:
    """An asset's page shows its description, owner, code, and its columns with meaning and mark of personal data."""
    page.goto("/assets/registrations_enriched")
    expect(page.get_by_text("Deleted registrations are left out").first).to_be_visible()
    expect(page.get_by_text("Days from registration to completion, by UTC date.").first).to_be_visible()
    expect(page.get_by_text("personal_data").first).to_be_visible()
    expect(page.get_by_text("analytics", exact=True).first).to_be_visible()
    expect(page.locator("a[href$='/blob/main/analytics_assets/marts/registrations_enriched.sql']")).to_be_visible()


def test_lineage_leads_from_the_resources_to_the_marts(page: Page, ui: Ui) -> None:
    """The lineage graph draws every asset; a mart stands on the tables that its SQL reads, the copy on all of them."""
    page.set_viewport_size({"width": 2200, "height": 6000})
    page.goto(
        "/asset-groups?expanded=global%40global%3Amarts%2Cglobal%40global%3Aanalytics_api%2Cglobal%40global%3Areference"
    )
    for name in ASSETS:
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    nodes = ui.ask("{ assetNodes { assetKey { path } dependencyKeys { path } } }")["assetNodes"]
    parents = {node["assetKey"]["path"][0]: {key["path"][0] for key in node["dependencyKeys"]} for node in nodes}
    assert parents["registrations_enriched"] == {"registrations", "trainings", "users"}
    assert parents["published_database"] >= {*RESOURCES, *MARTS}
    assert not any(parents[name] for name in RESOURCES)


def test_materialize_all(page: Page, ui: Ui) -> None:
    """One click makes all assets in one run, which ends well."""
    page.goto("/asset-groups")
    page.get_by_role("button", name="Materialize all").click()
    run, outcome = ui.ended({})
    assert outcome == "SUCCESS"
    assert newest(ui) == dict.fromkeys(ASSETS, run)


def fresh(ui: Ui, name: str) -> bool:
    """Whether the daemon has found the asset to be as fresh as it is to be."""
    query = f'{{ assetNodes(assetKeys: [{{path: ["{name}"]}}]) {{ freshnessStatusInfo {{ freshnessStatus }} }} }}'
    return bool(ui.ask(query)["assetNodes"][0]["freshnessStatusInfo"]["freshnessStatus"] == "HEALTHY")


# The texts of tables of which a part stands beyond the box they are in.
CUT_OFF = """tables => tables.filter(table => {
    for (let box = table; box; box = box.parentElement)
        if (getComputedStyle(box).overflowX !== "visible" && box.scrollWidth > box.clientWidth) return true
    return false
}).map(table => table.textContent)"""


@pytest.mark.parametrize("name", ASSETS)
def test_an_asset_says_whether_to_trust_it(page: Page, ui: Ui, name: str) -> None:
    """A made asset's page shows description, columns, every figure and picture, freshness and checks."""
    [node] = ui.ask(
        f'{{ assetNodes(assetKeys: [{{path: ["{name}"]}}]) {{ description metadataEntries {{ ...entry }} '
        "assetMaterializations(limit: 1) { metadataEntries { ...entry } } "
        "assetChecksOrError { ... on AssetChecks { checks { name } } } } } "
        "fragment entry on MetadataEntry { label ... on MarkdownMetadataEntry { mdStr } "
        "... on TableSchemaMetadataEntry { schema { columns { name } } } }"
    )["assetNodes"]
    entries = [*node["assetMaterializations"][0]["metadataEntries"], *node["metadataEntries"]]
    columns = [column["name"] for entry in entries for column in entry.get("schema", {}).get("columns", [])]
    wait_for(lambda: fresh(ui, name), "how fresh it is was not evaluated")
    page.goto(f"/assets/{name}")
    expect(page.get_by_text("Passing").first).to_be_visible()
    expect(page.get_by_text(re.split(r"[.`]", node["description"])[0]).first).to_be_visible()
    for text in (*columns, *(entry["label"] for entry in entries if not entry["label"].startswith("dagster/"))):
        expect(page.get_by_text(text, exact=True).first).to_be_attached()
    assert not page.get_by_role("table").evaluate_all(CUT_OFF)
    pictures = [entry["label"] for entry in entries if "data:image" in entry.get("mdStr", "")]
    assert len(pictures) == {"training_outcomes": 1}.get(name, 2 * (name in MARTS))
    expect(page.get_by_text("[Show Markdown]")).to_have_count(len(pictures))
    for link in page.get_by_text("[Show Markdown]").all():
        link.click()
        picture = page.get_by_role("dialog").locator("img")
        assert picture.evaluate("picture => picture.decode().then(() => picture.naturalWidth)") > 500
        page.get_by_role("button", name="Close").click()
        expect(picture).to_have_count(0)
    page.goto(f"/assets/{name}?view=checks")
    for check in node["assetChecksOrError"].get("checks", []):
        expect(page.get_by_text(check["name"], exact=True).first).to_be_attached()


def test_preview_and_profile_are_drawn_in_place(page: Page) -> None:
    """An asset's page shows both, and the most overdue trainings, as tables, without a click and within the page."""
    for name, *headers in (("users",), ("registrations_enriched",), ("training_outcomes", "overdue")):
        page.goto(f"/assets/{name}")
        for header in (*headers, "another", "least, greatest"):
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
    expect(page.get_by_text("Result of the assessment in the API's words").first).to_be_visible()
    page.get_by_role("link", name="registrations_enriched", exact=True).first.click()
    expect(page).to_have_url(re.compile("/assets/registrations_enriched"))


def test_checks_have_their_evidence(page: Page) -> None:
    """The checks of an asset stand on its page with what they found."""
    page.goto("/assets/registrations_enriched?view=checks")
    expect(page.get_by_text("has_every_registration_once").first).to_be_visible()
    page.get_by_text("users_are_matched").first.click()
    expect(page.get_by_text("of 4,000 rows, such as").first).to_be_visible()


def test_a_selection_makes_just_that(page: Page, ui: Ui) -> None:
    """Two ticks in the catalog and a click make these two and ask for no YAML."""
    before, known = newest(ui), ui.runs()
    page.goto("/assets")
    for name in ("certifications", "paths_users"):
        page.get_by_test_id(f"checkbox-{name}").locator("xpath=..").click()
    page.get_by_role("button", name="Materialize selected").click()
    run, outcome = ui.ended(known)
    assert outcome == "SUCCESS"
    assert {name for name, made_by in newest(ui).items() if made_by == run} == {"certifications", "paths_users"}
    assert {name for name, made_by in newest(ui).items() if made_by != before[name]} >= {"certifications"}


def test_automation_is_there_and_ticks(page: Page, ui: Ui) -> None:
    """Schedule and sensors are listed; what does not call the API runs and ticks from the start."""
    page.goto("/automation")
    for name in ("nightly_schedule", "new_rows_sensor", "marts_sensor", "failed_run_sensor", "lost_runs_sensor"):
        expect(page.get_by_text(name).first).to_be_visible()

    def ticks() -> dict[str, tuple[str, bool]]:
        sensors = ui.ask(
            "{ repositoriesOrError { ... on RepositoryConnection { nodes { sensors { name sensorState { status "
            "ticks(limit: 1) { status } } } } } } }"
        )["repositoriesOrError"]["nodes"][0]["sensors"]
        return {s["name"]: (s["sensorState"]["status"], bool(s["sensorState"]["ticks"])) for s in sensors}

    running = ("RUNNING", True)
    wait_for(lambda: ticks()["marts_sensor"] == ticks()["failed_run_sensor"] == running, "a sensor does not tick")
    assert ticks()["new_rows_sensor"] == ("STOPPED", False)


def settled(ui: Ui, *names: str, since: dict[str, str]) -> None:
    """Waits until all these assets have been made again, by a run that has ended."""
    wait_for(lambda: all(newest(ui)[name] != since[name] for name in names), f"{names} were not all made again")
    wait_for(lambda: {*ui.runs().values()} <= {"SUCCESS", "FAILURE"}, "a run does not end")


def test_a_failed_resource_says_why(page: Page, ui: Ui) -> None:
    """From its page two clicks lead to asset, cause, what the table holds and what to do; the others are green."""
    before, known = newest(ui), ui.runs()
    ui.steer("faults", users="status:403")
    page.goto("/asset-groups")
    page.get_by_role("button", name="Materialize all").click()
    run, outcome = ui.ended(known)
    assert outcome == "FAILURE"
    page.goto("/assets/users")
    expect(page.get_by_text("Failed in").first).to_be_visible()
    page.get_by_role("tab", name="Events").click()
    page.get_by_role("button", name="View logs").click()
    told = page.get_by_text(
        re.compile(r"users was not loaded: HTTP 403 from .*/v1/users.* check what API_KEY may read")
    )
    expect(told.first).to_be_visible()
    expect(told.first).to_contain_text("The table still holds 400 rows")
    expect(told.first).to_contain_text("Materialize it again once that is fixed.")
    assert {name for name, made_by in newest(ui).items() if made_by == run} == {
        *RESOURCES,
        "progress_by_day",
        ALONE,
    } - {"users"}
    settled(ui, *(name for name in ASSETS if name != "users"), since=before)


@pytest.mark.parametrize("name", [name for name in OF_USERS if name in MARTS])
def test_what_depends_on_a_failed_resource_names_it(page: Page, name: str) -> None:
    """A mart that has been made without its newest parent is green, and says which parent is how old."""
    page.goto(f"/assets/{name}?view=checks&checkDetail=parents_are_up_to_date")
    expect(
        page.get_by_text(re.compile(r"users was not updated on .* UTC; its rows are from .* UTC\.")).first
    ).to_be_visible()


def test_only_what_failed_is_repeated(page: Page, ui: Ui) -> None:
    """ "From asset failure" makes the failed resource and what it has blocked, and asks the API for nothing else."""
    before, known = newest(ui), ui.runs()
    ui.steer("faults", users=None)
    [failed] = [run for run, outcome in known.items() if outcome == "FAILURE"]
    page.goto(f"/runs/{failed}")
    again = page.get_by_role("button", name=re.compile("Re-execute"))
    again.locator("xpath=following::button[1]").click()
    page.get_by_role("menuitem", name="From asset failure").click()
    run, outcome = ui.ended(known)
    assert outcome == "SUCCESS"
    assert {name for name, made_by in newest(ui).items() if made_by == run} == {*OF_USERS}
    assert {name for name in RESOURCES if newest(ui)[name] != before[name]} == {"users"}


def test_new_rows_are_fetched_and_the_marts_follow_once(page: Page, ui: Ui) -> None:
    """Switched on, the sensor has what has grown synced; what is made from it follows by itself, once."""
    before, counts = newest(ui), {name: len(runs) for name, runs in ui.materialized().items()}
    ui.ask(f"mutation {{ startSensor(sensorSelector: {SENSOR}) {{ __typename }} }}")
    ui.steer("rows", trainings=3)
    followers = [name for name in MADE if name not in MARTS or "trainings" in lineage.sources(name)]
    settled(ui, "trainings", *followers, since=before)
    page.goto("/runs")
    expect(page.get_by_text("grown/trainings").first).to_be_visible()
    tick = (
        "{ repositoriesOrError { ... on RepositoryConnection { nodes { sensors { name sensorState { ticks { id } } } } "
    )
    tick += "} } }"

    def ticks() -> int:
        [node] = ui.ask(tick)["repositoriesOrError"]["nodes"]
        return next(len(s["sensorState"]["ticks"]) for s in node["sensors"] if s["name"] == "lost_runs_sensor")

    so_far = ticks()
    wait_for(lambda: ticks() > so_far, "the daemon has stopped")
    made = {name: len(runs) - counts[name] for name, runs in ui.materialized().items() if len(runs) > counts[name]}
    assert made == dict.fromkeys(("trainings", *followers), 1)


def test_a_failed_make_run_is_reported_and_repeated(
    environment: dict[str, str], messages: tuple[str, list[str]], page: Page, ui: Ui
) -> None:
    """A run that the UI has not started is told to the webhook, listed under its job, and repeated like any other.

    Its repetition does not end with the process of the first, which is gone.
    """
    known = ui.runs()
    with serving_contract() as api:
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
    *_, failed = [run for run in ui.runs() if run not in known]  # and after it one of the marts, which fails too
    page.goto("/locations/analytics_assets/jobs/analytics_job/runs")
    page.get_by_text(failed[:8]).first.click()
    page.get_by_role("button", name=re.compile("Re-execute")).locator("xpath=following::button[1]").click()
    page.get_by_role("menuitem", name="From asset failure").click()
    query = "query($run: ID!) { runOrError(runId: $run) { ... on Run { parentRunId } } }"

    def repeated() -> bool:
        made_by = newest(ui).get("users")
        return made_by is not None and ui.ask(query, run=made_by)["runOrError"]["parentRunId"] == failed

    wait_for(repeated, "what has failed was not made by a repetition")
    made = {name for name, made_by in newest(ui).items() if made_by == newest(ui)["users"]}
    assert not made & RESOURCES.keys() - {"users"}


HERE = 'repositoryName: "__repository__", repositoryLocationName: "analytics_assets"'
JOB = f'{{selector: {{{HERE}, pipelineName: "users_job"}}, runConfigData: {{}}}}'
SENSOR = f'{{{HERE}, sensorName: "new_rows_sensor"}}'
CHANGES = [
    f"launchRun(executionParams: {JOB}) {{ __typename }}",
    f"launchMultipleRuns(executionParamsList: [{JOB}]) {{ __typename ... on LaunchMultipleRunsResult {{ "
    "launchMultipleRunsResult { __typename } } }",
    'launchRunReexecution(reexecutionParams: {parentRunId: "RUN", strategy: FROM_ASSET_FAILURE}) { __typename }',
    'launchPartitionBackfill(backfillParams: {assetSelection: [{path: ["users"]}]}) { __typename }',
    f"startSensor(sensorSelector: {SENSOR}) {{ __typename }}",
    f'setSensorCursor(sensorSelector: {SENSOR}, cursor: "") {{ __typename }}',
    f'startSchedule(scheduleSelector: {{{HERE}, scheduleName: "nightly_schedule"}}) {{ __typename }}',
    'terminateRun(runId: "RUN") { __typename ... on TerminateRunFailure { message } }',
    'deleteRun(runId: "RUN") { __typename }',
    'wipeAssets(assetPartitionRanges: [{assetKey: {path: ["users"]}}]) { __typename }',
    'reportRunlessAssetEvents(eventParams: {eventType: ASSET_MATERIALIZATION, assetKey: {path: ["users"]}}) '
    "{ __typename }",
    "reloadWorkspace { __typename }",
    'shutdownRepositoryLocation(repositoryLocationName: "analytics_assets") { __typename }',
    "setAutoMaterializePaused(paused: true)",
    'setConcurrencyLimit(concurrencyKey: "users", limit: 0)',
    'freeConcurrencySlots(runId: "RUN")',
]


def test_analysts_can_only_look(browser: Browser, ui: Ui, environment: dict[str, str]) -> None:
    """The read-only UI beside the engineer's has the same history, and neither its buttons nor GraphQL change any."""
    with serving(environment, "--read-only") as looking:
        assert looking.materialized() == ui.materialized()
        page = browser.new_page(base_url=looking.url, viewport=LAPTOP)
        page.goto(looking.links()["Lineage"])
        expect(page.get_by_role("button", name="Materialize all")).to_be_disabled()
        wait_for(lambda: fresh(ui, "users"), "how fresh it is was not evaluated")
        page.goto("/assets/users")
        expect(page.get_by_text("Passing").first).to_be_visible()
        expect(page.get_by_role("button", name="Materialize").first).to_be_disabled()
        page.close()
        runs, made, started = ui.runs(), ui.materialized(), by_hand(ui)
        for change in CHANGES:
            answer = str(looking.post(f"mutation {{ {change.replace('RUN', newest(ui)['paths_users'])} }}"))
            assert "UnauthorizedError" in answer or "permission" in answer, (change, answer)
        now = ui.materialized()
        assert by_hand(ui) == started
        assert runs.keys() <= ui.runs().keys()
        assert all(now[name][len(now[name]) - len(before) :] == before for name, before in made.items())
        assert {run for of_one in now.values() for run in of_one} <= ui.runs().keys()  # none without a run


def by_hand(ui: Ui) -> set[str]:
    """The runs that no sensor has asked for; those go on beside a test."""
    runs = ui.ask("{ runsOrError { ... on Runs { results { runId tags { key } } } } }")["runsOrError"]["results"]
    asked = {"dagster/sensor_name", "dagster/from_automation_condition"}
    return {run["runId"] for run in runs if not asked & {tag["key"] for tag in run["tags"]}}
