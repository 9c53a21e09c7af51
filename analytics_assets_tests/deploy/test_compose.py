"""A team on one server: the processes of `deploy/compose` work together as its files say, seen through its proxy.

The tests are one story, in this order: an empty server, a first run, workers and servers that are lost.
"""

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest
import requests
from websockets.sync.client import connect

from analytics_assets.defs import history
from analytics_assets.sample_api.academy import SIZES
from analytics_assets.sample_api.process import running
from analytics_assets.tables.bookkeeping import REJECTED_ROWS, SYNCS, VIEWS
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import HISTORIES, RESOURCES
from analytics_assets_tests import postgres
from analytics_assets_tests.defs.browsing import wait_for
from analytics_assets_tests.defs.webhook import receiving
from analytics_assets_tests.deploy.containers import DEPLOY, pages_kept
from analytics_assets_tests.deploy.team import ENGINEER, READER, Team, config, team

pytestmark = pytest.mark.deploy

KEY = "the-token-of-the-api"
LAUNCH = """mutation($job: String!) { launchRun(executionParams: {runConfigData: {}, selector: {
    repositoryLocationName: "analytics_assets", repositoryName: "__repository__", jobName: $job}}) {
    __typename ... on LaunchRunSuccess { run { runId } } } }"""
RUNS = """{ runsOrError { ... on Runs { results { runId parentRunId status } } } }"""
MESSAGES = """query($run: ID!) { logsForRun(runId: $run) {
    ... on EventConnection { events { ... on MessageEvent { message } } } } }"""
LOGS = """subscription($run: ID!) { pipelineRunLogs(runId: $run, cursor: null) {
    __typename ... on PipelineRunLogsSubscriptionSuccess { messages { ... on MessageEvent { message } } } } }"""


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    """The sample API."""
    with running("--token", KEY) as url:
        yield url


@pytest.fixture(scope="module")
def webhook() -> Iterator[tuple[str, list[str]]]:
    """Where failed runs are told of, and what was."""
    with receiving() as webhook:
        yield webhook


@pytest.fixture(scope="module")
def server(api: str, webhook: tuple[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """The whole deployment, each of its services started as soon as those are healthy that it waits for."""
    settings = {"API_BASE_URL": api, "ENGINEERS": f"{ENGINEER[0]} nobody", "IMAGE": "none"}
    secrets = {"api-key": KEY, "failure-webhook-url": webhook[0]}
    with team(tmp_path_factory.mktemp("team"), settings, secrets) as server:
        for name in ("code-server", "web", "web-readonly", "proxy"):
            server.start(name)
        for name in ("code-server", "web", "web-readonly"):
            wait_for(lambda name=name: server.healthy(name), f"{name} is not healthy")  # type: ignore[misc]
        server.start("daemon")
        wait_for(lambda: server.healthy("daemon"), "the daemon is not healthy")
        yield server


class Person:
    """Somebody with a login, who asks through the proxy."""

    def __init__(self, server: Team, login: tuple[str, str] | None) -> None:
        self.url = f"https://localhost:{server.ports['https']}"
        self.authority = server.folder / "volumes/certificates/caddy/pki/authorities/local/root.crt"
        self.session = requests.Session()
        self.session.trust_env = False  # or another authority may be named there
        self.session.auth, self.session.verify = login, str(self.authority)

    def post(self, query: str, headers: dict[str, str] | None = None, **variables: Any) -> requests.Response:
        asked = {"query": query, "variables": variables}
        return self.session.post(f"{self.url}/graphql", json=asked, headers=headers, timeout=30)

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of an answer without errors."""
        answer = self.post(query, **variables).json()
        assert not answer.get("errors"), answer
        return answer["data"]

    def launch(self, job: str) -> str:
        """The id of a run of this job, which goes to the queue, once the UI knows a code server."""
        return str(wait_for(lambda: self.ask(LAUNCH, job=job)["launchRun"].get("run"), "no launch")["runId"])

    def runs(self) -> dict[str, dict[str, Any]]:
        return {run["runId"]: run for run in self.ask(RUNS)["runsOrError"]["results"]}

    def status(self, run: str) -> str:
        return str(self.runs()[run]["status"])

    def wait(self, run: str, *statuses: str) -> None:
        """Wait for the run to have one of these statuses."""
        wait_for(lambda: self.status(run) in statuses, f"run {run} does not get to {statuses}", 180)

    def retry_of(self, run: str) -> str:
        """The run that Dagster has started in the place of this one."""

        def found() -> list[str]:
            return [other for other, it in self.runs().items() if it["parentRunId"] == run]

        return str(wait_for(found, f"run {run} is not tried again", 180)[0])

    def messages(self, run: str) -> str:
        events = self.ask(MESSAGES, run=run)["logsForRun"]["events"]
        return "\n".join(event.get("message") or "" for event in events)

    def subscribe(self, query: str, **variables: Any) -> Any:
        """The first answer to a subscription, over a websocket."""
        headers = {"Authorization": requests.auth._basic_auth_str(*self.session.auth)}  # type: ignore[misc]
        secure = ssl.create_default_context(cafile=str(self.authority))
        url = self.url.replace("https", "wss") + "/graphql"
        with connect(url, ssl=secure, additional_headers=headers, subprotocols=["graphql-ws"]) as socket:  # type: ignore[list-item]
            socket.send(json.dumps({"type": "connection_init"}))
            asked = {"query": query, "variables": variables}
            socket.send(json.dumps({"type": "start", "id": "1", "payload": asked}))
            while (answer := json.loads(socket.recv(timeout=30)))["type"] != "data":
                pass
            return answer["payload"]["data"]


@pytest.fixture
def engineer(server: Team) -> Person:
    return Person(server, ENGINEER)


def rows(server: Team, query: str) -> list[tuple[Any, ...]]:
    """What the warehouse answers."""
    url = (server.folder / "secrets" / "destination--warehouse--credentials").read_text()
    return postgres.ask(url, query)


def exact(server: Team) -> bool:
    """Whether every table has the rows that the API has, each once, and the marts follow."""
    wanted = {**SIZES, "registrations_enriched": SIZES["registrations"], "training_outcomes": SIZES["trainings"]}
    counts = {name: rows(server, f"SELECT count(*) FROM {name}")[0][0] for name in wanted}
    ids = {name: rows(server, f"SELECT count(DISTINCT id) FROM {name}")[0][0] for name in SIZES}
    return (counts, ids) == (wanted, SIZES)


def steer(api: str, **faults: str | None) -> None:
    """Have the API answer with these faults."""
    requests.post(f"{api}/faults", json=faults, timeout=30).raise_for_status()


def test_nobody_gets_in_without_a_login(server: Team) -> None:
    """Without a login, or with a wrong one, the proxy gives nothing, and plain http is sent on to https."""
    for login in (None, (ENGINEER[0], "wrong"), ("nobody", "pass")):
        for path in ("/", "/graphql", "/server_info"):
            stranger = Person(server, login)
            assert stranger.session.get(f"{stranger.url}{path}", timeout=30).status_code == 401
    plain = requests.get(f"http://localhost:{server.ports['http']}/", allow_redirects=False, timeout=30)
    assert plain.status_code == 308
    assert plain.headers["Location"].startswith("https://")


def test_a_run_goes_through_queue_and_code_server_into_postgres(server: Team, api: str, engineer: Person) -> None:
    """A run that an engineer launches is queued, executed beside the code server, and fills every table exactly."""
    run = engineer.launch("analytics_job")
    assert engineer.status(run) == "QUEUED"
    engineer.wait(run, "SUCCESS", "FAILURE")
    assert engineer.status(run) == "SUCCESS", engineer.messages(run)
    assert exact(server)
    assert rows(server, "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'analytics'") == [("loader",)]


def test_analysts_read_the_warehouse(server: Team) -> None:
    """A member of `analysts` reads what analysts.sql names and no more, changes nothing, and enters no history."""
    with closing(server.postgres.connect("warehouse", postgres.ADMIN)) as admin, admin.cursor() as cursor:
        cursor.execute((server.folder / "analysts.sql").read_text())
        cursor.execute("CREATE ROLE ann LOGIN PASSWORD 'secret' IN ROLE analysts")
    analysts_read(server)


def analysts_read(server: Team) -> None:
    """Make sure of what the analyst `ann` can do and what not."""
    url = server.postgres.url("warehouse", "ann", "secret")
    there = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'analytics'"
    assert {name for (name,) in postgres.ask(url, there)} == {
        *(*RESOURCES, *MARTS, *VIEWS, SYNCS.name),
        *(history.name for history in HISTORIES.values()),
    }
    for table, count in (("users", SIZES["users"]), ("registrations_enriched", SIZES["registrations"])):
        assert postgres.ask(url, f"SELECT count(*) FROM {table}") == [(count,)]
    for table in (REJECTED_ROWS.name, "_dlt_loads"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            postgres.ask(url, f"SELECT 1 FROM {table}")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        postgres.ask(url, "DELETE FROM users RETURNING 1")
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        postgres.ask(server.postgres.url("dagster", "ann", "secret"), "SELECT 1")


def test_everybody_else_only_reads(server: Team, engineer: Person) -> None:
    """A reader sees what engineers see and can change nothing; an engineer's browser is not steered by other sites."""
    reader = Person(server, READER)
    assert reader.runs() == engineer.runs()
    assert reader.ask(LAUNCH, job="analytics_job")["launchRun"]["__typename"] == "UnauthorizedError"
    for site in ("cross-site", "same-site"):
        foreign = {"Sec-Fetch-Site": site}
        assert engineer.post(LAUNCH, foreign, job="analytics_job").status_code == 403
        for path in ("/graphql", "/report_asset_materialization/users", "/report_asset_check/users"):
            asked = engineer.session.post(f"{engineer.url}{path}", headers=foreign, timeout=30)
            assert asked.status_code == 403, path
        assert engineer.session.get(f"{engineer.url}/graphql", headers=foreign, timeout=30).status_code == 403
        assert engineer.session.get(f"{engineer.url}/assets", headers=foreign, timeout=30).status_code == 200
    assert reader.runs() == engineer.runs()


@pytest.mark.parametrize("login", [ENGINEER, READER])
def test_a_run_is_followed_live(server: Team, login: tuple[str, str]) -> None:
    """The events of a run come over a websocket through the proxy."""
    person = Person(server, login)
    [run, *_] = person.runs()
    answer = person.subscribe(LOGS, run=run)["pipelineRunLogs"]
    assert answer["__typename"] == "PipelineRunLogsSubscriptionSuccess"
    assert any("analytics_job" in (event.get("message") or "") for event in answer["messages"])


def test_a_killed_worker_is_replaced_and_others_wait(
    server: Team, api: str, webhook: tuple[str, list[str]], engineer: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two runs at once one waits; the first is killed in a reading, told of and tried again, and reads on."""
    steer(api, registrations="hang@30")
    first, second = engineer.launch("registrations_job"), engineer.launch("users_job")
    wait_for(lambda: pages_kept(server.folder / "volumes" / "state"), "no page is kept")
    assert (engineer.status(first), engineer.status(second)) == ("STARTED", "QUEUED")
    for name, value in server.environment("web").items():
        monkeypatch.setenv(name, value.replace("/run", str(server.folder)))
    with dg.DagsterInstance.from_config(str(server.folder)) as instance:
        assert not history.end_lost_runs(instance)  # its code server knows it
    [worker] = server.workers()
    steer(api, registrations=None)
    os.kill(worker, signal.SIGKILL)
    engineer.wait(first, "FAILURE")
    told = f"Run {first[:8]} of registrations_job failed."
    wait_for(lambda: any(message.startswith(told) for message in webhook[1]), "nobody is told")
    retry = engineer.retry_of(first)
    engineer.wait(retry, "SUCCESS", "FAILURE")
    engineer.wait(second, "SUCCESS", "FAILURE")
    assert {engineer.status(retry), engineer.status(second)} == {"SUCCESS"}, engineer.messages(retry)
    resumed = "SELECT resumed_pages FROM syncs WHERE resource = 'registrations' ORDER BY started_at DESC LIMIT 1"
    assert rows(server, resumed)[0][0] > 0
    assert exact(server)


def test_a_stopped_code_server_lets_its_run_finish(server: Team, api: str, engineer: Person) -> None:
    """When the container of the code server is to stop, the run under way ends well before it does."""
    steer(api, users="retry_after:8@1*1")
    run = engineer.launch("users_job")
    engineer.wait(run, "STARTED")
    wait_for(server.workers, "no worker")
    server.stop("code-server")
    assert engineer.status(run) == "SUCCESS"
    server.start("code-server")
    wait_for(lambda: server.healthy("code-server"), "the code server is not healthy again")


def test_what_a_lost_code_server_has_left_is_done_again(server: Team, api: str, engineer: Person) -> None:
    """A run whose code server was killed is ended when the next starts, tried again, and ends exact."""
    steer(api, registrations="hang@30")
    run = engineer.launch("analytics_job")
    wait_for(lambda: pages_kept(server.folder / "volumes" / "state"), "no page is kept")
    server.processes["code-server"].kill()
    server.processes["code-server"].wait()
    wait_for(lambda: not server.healthy("code-server"), "a dead code server is called healthy")
    steer(api, registrations=None)
    assert engineer.status(run) == "STARTED"
    server.start("code-server")
    retry = engineer.retry_of(run)
    assert "The code server that executed this run ended before it did" in engineer.messages(run)
    engineer.wait(retry, "SUCCESS", "FAILURE")
    assert engineer.status(retry) == "SUCCESS", engineer.messages(retry)
    assert exact(server)


def test_restored_databases_are_gone_on_with(
    server: Team, engineer: Person, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the README's commands both databases come back as they were, also who may enter which, and syncs go on."""
    text = (DEPLOY / "README.md").read_text().partition("## Backing up")[2]
    backup, restore = (block for block in re.findall("```\n(.*?)```", text, re.DOTALL) if " exec -T postgres" in block)
    names = {"HOST": "127.0.0.1", "PORT": str(server.ports["postgres"]), "USER": postgres.ADMIN}
    for name, value in {**names, "PASSWORD": postgres.PASSWORD}.items():
        monkeypatch.setenv(f"PG{name}", value)
    (tmp_path / "backup").mkdir()
    before = engineer.runs()
    stop, *commands, start = restore.splitlines()
    assert set(stop.split()[3:]) == server.compose["services"].keys() - {"postgres"}
    assert start == "docker compose up --detach"
    for command in [*backup.splitlines(), stop, *commands]:
        if command == stop:
            for name in stop.split()[3:]:
                server.stop(name)
        else:
            called = command.removeprefix("docker compose exec -T postgres ")
            assert called != command
            subprocess.run(["bash", "-c", called], cwd=tmp_path, check=True)
    analysts_read(server)
    for user, database in (("dagster", "warehouse"), ("loader", "dagster")):
        password = (server.folder / "secrets" / f"{user}-password").read_text().strip()
        with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
            postgres.ask(server.postgres.url(database, user, password), "SELECT 1")
    for name in ("code-server", "web", "web-readonly", "proxy"):
        server.start(name)
    for name in ("code-server", "web"):
        wait_for(lambda name=name: server.healthy(name), f"{name} is not healthy")  # type: ignore[misc]
    server.start("daemon")
    assert {run: before[run]["status"] for run in before} == {
        run: it["status"] for run, it in engineer.runs().items() if run in before
    }
    run = engineer.launch("users_job")
    engineer.wait(run, "SUCCESS", "FAILURE")
    assert engineer.status(run) == "SUCCESS", engineer.messages(run)
    assert exact(server)


def compose_home(folder: Path, **settings: str) -> Path:
    """A copy of `deploy/compose` with the settings of its example, and these."""
    home = folder / "compose"
    shutil.copytree(DEPLOY / "compose", home, ignore=shutil.ignore_patterns("secrets", ".env"))
    lines = [f"{name}={value}\n" for name, value in settings.items()]
    (home / ".env").write_text((home / ".env.example").read_text() + "".join(lines))
    return home


def test_a_second_deployment_has_names_and_ports_of_its_own(tmp_path: Path) -> None:
    """Two on one server share no volume, network or port, as far as Compose says so."""
    found = config(compose_home(tmp_path, COMPOSE_PROJECT_NAME="second", HTTP_PORT="8080", HTTPS_PORT="8443"))
    assert {it["name"].partition("_")[0] for kind in ("volumes", "networks") for it in found[kind].values()} == {
        "second"
    }
    proxy = found["services"]["proxy"]
    assert [(port["published"], port["target"]) for port in proxy["ports"]] == [
        ("8080", 8080),
        ("8443", 8443),
        ("8443", 8443),
    ]
    assert (proxy["environment"]["HTTP_PORT"], proxy["environment"]["HTTPS_PORT"]) == ("8080", "8443")


def test_an_override_opens_postgres_to_analysts(tmp_path: Path) -> None:
    """What the README gives to be written into `compose.override.yaml` has Compose publish Postgres on loopback."""
    [override] = re.findall("```yaml\n(.*?)```", (DEPLOY / "README.md").read_text(), re.DOTALL)
    home = compose_home(tmp_path)
    (home / "compose.override.yaml").write_text(override)
    found = config(home)
    service = found["services"]["postgres"]
    assert [network for network in service["networks"] if not found["networks"][network].get("internal")] == ["outside"]
    assert "database" in service["networks"]
    assert [(port["host_ip"], port["published"], port["target"]) for port in service["ports"]] == [
        ("127.0.0.1", "5432", 5432)
    ]


def test_secrets_stay_where_they_are_needed(server: Team) -> None:
    """The token and the passwords stand in no environment at the start of a process, no command and no log."""
    secrets = [file.read_text().strip() for file in (server.folder / "secrets").iterdir() if file.name != "logins"]
    for name, process in server.processes.items():
        written = server.log(name) + Path(f"/proc/{process.pid}/cmdline").read_text()
        written += Path(f"/proc/{process.pid}/environ").read_text()
        for secret in secrets:
            assert secret not in written, name
    assert not {"api-key", "loader-password"} & {it["source"] for it in server.compose["services"]["web"]["secrets"]}
