"""Files that must agree with each other, and what importing costs."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from analytics_assets import settings
from analytics_assets.defs.checked_settings import checked_settings
from analytics_assets.settings import CHECKOUT, CREDENTIALS, KIND
from analytics_assets.tables.bookkeeping import VIEWS
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import RESOURCES
from analytics_assets_tests.defs.screenshots import PICTURES

PYPROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())


def test_both_ways_of_loading_name_the_same_module() -> None:
    """`workspace.yaml` and `[tool.dg]` load the same definitions under the same name; the package has copies."""
    for file in (CHECKOUT / "workspace.yaml", CHECKOUT / "dagster_home" / "dagster.yaml"):
        assert (CHECKOUT / "analytics_assets" / "defs" / file.name).read_text() == file.read_text()
    [location] = yaml.safe_load((CHECKOUT / "workspace.yaml").read_text())["load_from"]
    dg = PYPROJECT["tool"]["dg"]["project"]
    assert (
        location["python_module"]["module_name"] == dg["code_location_target_module"] == "analytics_assets.definitions"
    )
    assert location["python_module"]["location_name"] == dg["code_location_name"] == "analytics_assets"


def test_every_package_is_installed() -> None:
    """`setup.cfg` names every package there is."""
    config = configparser.ConfigParser()
    config.read(CHECKOUT / "setup.cfg")
    found = {
        ".".join(init.parent.relative_to(CHECKOUT).parts) for init in CHECKOUT.glob("analytics_assets/**/__init__.py")
    }
    assert set(config["options"]["packages"].split()) == found


def test_the_constraints_name_versions_only() -> None:
    """A package and a version a line: no address, no path."""
    for line in (CHECKOUT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line), line


def test_the_documentation_says_what_the_code_says(tmp_path: Path) -> None:
    """`make docs` changes nothing: tables, settings, `.env.example` and the README's table are current."""
    shutil.copy(CHECKOUT / "README.md", tmp_path)
    subprocess.run([sys.executable, str(CHECKOUT / "docs" / "generate.py"), str(tmp_path)], check=True)
    written = [file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()]
    assert len(written) == 4
    for file in written:
        assert (CHECKOUT / file).read_text() == (tmp_path / file).read_text(), file


def test_each_promise_has_its_tests() -> None:
    """The table of promises links to tests that are there under that name."""
    promises = (CHECKOUT / "docs" / "promises.md").read_text()
    links = re.findall(r"\[([^]]+)\]\(\.\./(analytics_assets_tests/[\w/]+\.py)\)", promises)
    assert len(links) > 9
    for title, file in links:
        assert f"def test_{title.replace(' ', '_')}(" in (CHECKOUT / file).read_text(), title


def test_importing_needs_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    """Definitions load without any configuration, and write no file."""
    code = "import analytics_assets.definitions as d; print(len(d.defs.resolve_asset_graph().get_all_asset_keys()))"
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DLT_DATA_DIR": str(tmp_path / "dlt")}
    bare["DAGSTER_HOME"] = str(tmp_path)
    answer = subprocess.run([sys.executable, "-c", code], env=bare, cwd=tmp_path, capture_output=True, text=True)
    assert answer.stdout.strip() == str(len({**RESOURCES, **MARTS, **VIEWS, "published_database": None})), answer.stderr
    assert not list(tmp_path.iterdir())


SETTINGS = """
import sys
from analytics_assets import settings
try:
    given = settings.read()
    print(*[getattr(given, name) for name in sys.argv[1:]])
except settings.WrongSetting as wrong:
    print(wrong)
"""


def settings_in(folder: Path, *names: str, **environment: str) -> str:
    """What the package reads of these settings, or what is wrong, where it is installed and started in this folder."""
    site = folder / "site" / "analytics_assets"
    if not site.exists():
        shutil.copytree(CHECKOUT / "analytics_assets", site, ignore=shutil.ignore_patterns("__pycache__"))
    bare = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(site.parent), **environment}
    command = [sys.executable, "-c", SETTINGS, *names]
    answer = subprocess.run(command, env=bare, cwd=folder, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip().replace(str(folder), "<root>")


def test_the_environment_goes_before_dotenv_before_dlt_s_files_before_defaults(tmp_path: Path) -> None:
    """What is set stays; what `.env` says comes next, then dlt's own files; what none says has its default."""
    (tmp_path / ".env").write_text("NIGHTLY_CRON=1 1 1 1 1\nREAD_AHEAD=2\nNEW_ROWS_SECONDS=\n")
    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt" / "config.toml").write_text(
        'nightly_cron = "3 3 3 3 3"\nread_ahead = 3\nnew_rows_seconds = 3\napi_base_url = "https://a.example"\n'
        'api_window_users = "/u?start={start}"\n[runtime]\nrequest_max_attempts = 2\n'
        '[destination.warehouse]\ndestination_type = "postgres"\n'
    )
    (tmp_path / ".dlt" / "secrets.toml").write_text('[destination.warehouse.credentials]\ndatabase = "mine"\n')
    names = ("nightly_cron", "read_ahead", "new_rows_seconds", "api_base_url", "api_windows", "warehouse")
    found = settings_in(tmp_path, *names, "nightly_timezone", NIGHTLY_CRON="5 5 5 5 5")
    assert found == "5 5 5 5 5 2 3 https://a.example {'users': '/u?start={start}'} postgres UTC"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (".env", "API_KEY=ä".encode("utf-16"), "<root>/.env is not in UTF-8; save it in that encoding"),
        (".env", b"MASKNG_KEY=abc", "MASKNG_KEY in <root>/.env is not a setting; did you mean MASKING_KEY?"),
        (".dlt/config.toml", b"read_ahead = ", "config.toml in <root>/.dlt is not valid TOML: "),
    ],
)
def test_a_file_of_settings_that_cannot_be_read_is_named(
    tmp_path: Path, file: str, content: bytes, message: str
) -> None:
    """One sentence with the file and the remedy."""
    (tmp_path / ".dlt").mkdir()
    (tmp_path / file).write_bytes(content)
    assert settings_in(tmp_path).startswith(message)


def test_paths_are_those_of_the_root(tmp_path: Path) -> None:
    """A relative path, and one of the user's home, become absolute: Dagster and dlt would take them otherwise."""
    places = {"DAGSTER_HOME": "home", "DLT_DATA_DIR": "~/dlt", "PUBLISHED_FILE": "~/copy.duckdb", "API_KEY": "k"}
    places["DESTINATION__WAREHOUSE__CREDENTIALS"] = "~/warehouse.duckdb"
    found = settings_in(tmp_path, "dagster_home", "dlt_data_dir", "published_file", "credentials", **places)
    assert found == "<root>/home <root>/dlt <root>/copy.duckdb <root>/warehouse.duckdb"


def test_names_of_other_tools_are_left_alone(tmp_path: Path) -> None:
    """What only resembles a setting, is dlt's or names a window is no misspelling; what differs in a letter is."""
    others = ("APP_KEY", "MY_API_KEY", "API_KEY_2", "DAGSTER_HOST", "PAGE_SIZE", "GIT_REPOSITORY_URL")
    dlt = ("DESTINATION__WAREHOUSE__CREDENTIALS__PASSWORD", "DESTINATION__WAREHOUSE__LOCATION")
    lines = [*(f"{name}=x" for name in (*others, *dlt)), "API_WINDOW_USERS=/u?start={start}&end={end}"]
    (tmp_path / ".env").write_text("\n".join(lines))
    assert settings_in(tmp_path, "api_windows") == "{'users': '/u?start={start}&end={end}'}"
    (tmp_path / ".env").write_text("masking_key=0123456789abcdef")
    assert "did you mean MASKING_KEY?" in settings_in(tmp_path)


def test_a_secret_file_s_line_break_is_no_part_of_it(tmp_path: Path) -> None:
    """Blank values of a TOML file and spaces around a value count as little."""
    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt" / "config.toml").write_text('published_file = ""\nread_ahead = " "\n')
    found = settings_in(
        tmp_path, "credentials", "published_file", "read_ahead", API_KEY="k", **{CREDENTIALS: " w.db\n"}
    )
    assert found == "<root>/w.db None 8"


@pytest.mark.parametrize("url", ["postgresql://me:secret@host/db", "md:db?motherduck_token=secret"])
def test_a_url_without_its_kind_of_warehouse_is_refused(tmp_path: Path, url: str) -> None:
    """Else its rows would get into a file that is called like the database; no password is shown."""
    message = settings_in(tmp_path, API_KEY="k", **{CREDENTIALS: url})
    assert message == f"{CREDENTIALS} is not that of DuckDB; set {KIND} to the kind that it is for"


def test_a_leftover_mark_of_the_sample_api_changes_nothing(tmp_path: Path) -> None:
    """Only with the sample API's own token is that API read."""
    found = settings_in(tmp_path, "reads_sample_api", "credentials", API_KEY="k", READS_SAMPLE_API="true")
    assert found == "False <root>/data/warehouse.duckdb"


def test_sample_data_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """Whatever warehouse is configured, nothing of the sample API gets into it; with a key all is as configured."""
    names = ("warehouse", "credentials", "published_file")
    sample = "duckdb <root>/data/sample/warehouse.duckdb <root>/data/sample/published.duckdb"
    assert settings_in(tmp_path, *names) == sample
    assert settings_in(tmp_path, *names, **{KIND: "postgres", CREDENTIALS: "postgresql://me@host/db"}) == sample
    beside = settings_in(tmp_path, *names, **{CREDENTIALS: "mine/w.duckdb", "PUBLISHED_FILE": "p.duckdb"})
    assert beside == "duckdb <root>/mine/sample/w.duckdb <root>/mine/sample/published.duckdb"
    assert settings_in(tmp_path, *names, API_KEY="k") == "duckdb <root>/data/warehouse.duckdb None"


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("REJECTED_SHARE", "5%", "a number from 0 to 1 like 0.01"),
        ("SHRINKING_SHARE", "5", "a number from 0 to 1 like 0.2"),
        ("READ_AHEAD", "0", "a whole number above 0, like 8"),
        ("NEW_ROWS_SECONDS", "0.5", "a whole number above 0, like 300"),
        ("PUBLISHED_MODE", "abc", "a number like 600"),
        ("FRESH_HOURS", "-1", "a number like 26"),
        ("MOST_PAGES", "1.5", "a whole number above 0, like 100000"),
        ("ACCEPT_FEWER_ROWS", "perhaps", "true or false"),
        ("API_BASE_URL", "api.example.com", "an address like https://api.example.com"),
        ("DESTINATION__WAREHOUSE__CREDENTIALS", ":memory:", "a file, since a database in memory ends with its process"),
        ("DUCKDB_MEMORY_LIMIT", "lots", "a size like 200MB"),
        ("AUTOMATION", "yes", "running or stopped"),
        ("ASSET_OWNER", "nobody", "an address, or a team like team:analytics"),
        ("NIGHTLY_CRON", "2 o'clock", "five fields like 0 2 * * *"),
        ("NIGHTLY_CRON", "99 2 * * *", "five fields like 0 2 * * *"),
        ("NIGHTLY_TIMEZONE", "Mars/Base", "a time zone like Europe/Berlin"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, what: str) -> None:
    """What cannot mean anything is refused with the name of the setting and what it must be; the defaults are not."""
    monkeypatch.setenv("API_KEY", "key")
    checked_settings()
    monkeypatch.setenv(name, value)
    with pytest.raises(settings.WrongSetting, match=f"^{re.escape(f'{name} is {value!r}, and must be {what}')}$"):
        checked_settings()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MASKING_KEY", "short", "must be 16 characters long at least"),
        ("FAILURE_WEBHOOK_URL", "hook", "must be an address like https://"),
        ("API_RESOURCE_PATH", "/v1/users", "is '/v1/users', and must be a path like /v1/"),
        ("API_RESOURCE_PATH", "https://127.0.0.1/{resource}", "is .*, and must be a path like /v1/"),
    ],
)
def test_what_cannot_mean_anything_is_refused_before_a_sync(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """A key that masks nothing, or one path for all resources, is said before anything is read."""
    monkeypatch.setenv(name, value)
    with pytest.raises(settings.WrongSetting, match=f"^{name} {message}"):
        checked_settings()


def test_every_picture_is_taken_by_the_command() -> None:
    """What the documentation shows is what `make screenshots` takes, no more and no less, and quick to load."""
    shown = {name for page in CHECKOUT.glob("*.md") for name in re.findall(r"\(docs/(\w+)\.png\)", page.read_text())}
    assert shown == set(PICTURES)
    for picture in (CHECKOUT / "docs").glob("*.png"):
        assert picture.stat().st_size < 250_000, picture
