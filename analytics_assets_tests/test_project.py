"""Files that must agree with each other, and what importing costs."""

import configparser
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from analytics_assets import settings
from analytics_assets.defs import checked
from analytics_assets.settings import DEFAULTS, PROJECT
from analytics_assets.tables.bookkeeping import LEDGER, VIEWS
from analytics_assets.tables.document import as_markdown
from analytics_assets.tables.marts import MARTS
from analytics_assets.tables.resources import RESOURCES
from analytics_assets_tests.defs.screenshots import PICTURES

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())


def test_both_ways_of_loading_name_the_same_module() -> None:
    """`workspace.yaml` and `[tool.dg]` load the same definitions under the same name."""
    [location] = yaml.safe_load((PROJECT / "workspace.yaml").read_text())["load_from"]
    dg = PYPROJECT["tool"]["dg"]["project"]
    assert (
        location["python_module"]["module_name"] == dg["code_location_target_module"] == "analytics_assets.definitions"
    )
    assert location["python_module"]["location_name"] == dg["code_location_name"] == "analytics_assets"


def test_every_package_is_installed() -> None:
    """`setup.cfg` names every package there is."""
    config = configparser.ConfigParser()
    config.read(PROJECT / "setup.cfg")
    found = {
        ".".join(init.parent.relative_to(PROJECT).parts) for init in PROJECT.glob("analytics_assets/**/__init__.py")
    }
    assert set(config["options"]["packages"].split()) == found


def test_the_constraints_name_versions_only() -> None:
    """A package and a version a line: no address, no path."""
    for line in (PROJECT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line), line


def test_the_documentation_of_the_tables_is_current() -> None:
    """docs/tables.md says what the declaration says; `make docs` writes it."""
    assert as_markdown({**RESOURCES, **MARTS, **LEDGER, **VIEWS}) in (PROJECT / "docs" / "tables.md").read_text()


def test_the_readme_names_every_setting() -> None:
    """Each setting of this project that has a default stands in the README with it."""
    readme = (PROJECT / "README.md").read_text()
    for name, value in DEFAULTS.items():
        if not name.startswith(("DLT_", "LOAD__", "RESTORE_", "RUNTIME__DLT", "RUNTIME__INTERCEPT", "DAGSTER_HOME")):
            assert f"| `{name}` | `{value}` |" in readme, name


def test_each_promise_has_its_tests() -> None:
    """The table of promises links to tests that are there under that name."""
    promises = (PROJECT / "docs" / "promises.md").read_text()
    links = re.findall(r"\[([^]]+)\]\(\.\./(analytics_assets_tests/[\w/]+\.py)\)", promises)
    assert len(links) > 9
    for title, file in links:
        assert f"def test_{title.replace(' ', '_')}(" in (PROJECT / file).read_text(), title


def test_importing_needs_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    """Definitions load without any configuration, and write no file."""
    code = "import analytics_assets.definitions as d; print(len(d.defs.resolve_asset_graph().get_all_asset_keys()))"
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DLT_DATA_DIR": str(tmp_path / "dlt")}
    bare["DAGSTER_HOME"] = str(tmp_path)
    answer = subprocess.run([sys.executable, "-c", code], env=bare, cwd=tmp_path, capture_output=True, text=True)
    assert answer.stdout.strip() == str(len({**RESOURCES, **MARTS, **VIEWS, "published_database": None})), answer.stderr
    assert not list(tmp_path.iterdir())


def test_the_environment_goes_before_dotenv_before_defaults(tmp_path: Path) -> None:
    """What is set stays; what `.env` says comes next; what neither says has its default."""
    code = (
        "import os; from pathlib import Path; from analytics_assets import settings as e; "
        "e.PROJECT = Path.cwd(); os.environ.pop('API_KEY', None); os.environ['NIGHTLY_CRON'] = 'set'; e.load(); "
        "print(os.environ['API_KEY'], os.environ['NIGHTLY_CRON'], os.environ['NIGHTLY_TIMEZONE'])"
    )
    (tmp_path / ".env").write_text("API_KEY=from-dotenv\nNIGHTLY_CRON=from-dotenv\n")
    bare = {"PATH": os.environ["PATH"]}
    answer = subprocess.run([sys.executable, "-c", code], env=bare, cwd=tmp_path, capture_output=True, text=True)
    assert answer.stdout.split() == ["from-dotenv", "set", "UTC"], answer.stderr


def test_a_relative_home_is_one_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster would end with a traceback."""
    monkeypatch.setenv("DAGSTER_HOME", "dagster_home")
    settings.load()
    assert os.environ["DAGSTER_HOME"] == str(PROJECT / "dagster_home")


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("REJECTED_SHARE", "5%", "a number from 0 to 1 like 0.01"),
        ("SHRINKING_SHARE", "5", "a number from 0 to 1 like 0.2"),
        ("READ_AHEAD", "0", "a whole number like 8"),
        ("NEW_ROWS_SECONDS", "0.5", "a whole number like 300"),
        ("PUBLISHED_MODE", "abc", "a number like 600"),
        ("RESUME_HOURS", "-1", "a number like 6"),
        ("DUCKDB_MEMORY_LIMIT", "lots", "a size like 200MB"),
        ("AUTOMATION", "yes", "running or stopped"),
        ("ASSET_OWNER", "nobody", "an address, or a team like team:analytics"),
        ("NIGHTLY_CRON", "2 o'clock", "five fields like 0 2 * * *"),
        ("RECONCILIATION_CRON", "", "five fields like 0 2 * * *"),
        ("NIGHTLY_CRON", "99 2 * * *", "five fields like 0 2 * * *"),
        ("NIGHTLY_TIMEZONE", "Mars/Base", "a time zone like Europe/Berlin"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, what: str) -> None:
    """What cannot mean anything is refused with the name of the setting and what it must be; the defaults are not."""
    checked.check()
    monkeypatch.setenv(name, value)
    with pytest.raises(settings.WrongSetting, match=f"^{re.escape(f'{name} is {value!r}, and must be {what}')}$"):
        checked.check()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MASKING_KEY", "short", "has 5 characters, and 16 are the least"),
        ("API_RESOURCE_PATH", "/v1/users", "must be a path like /v1/"),
        ("API_RESOURCE_PATH", "https://127.0.0.1/{resource}", "must be a path like /v1/"),
    ],
)
def test_what_cannot_mean_anything_is_refused_before_a_sync(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """A key that masks nothing, or one path for all resources, is said before anything is read."""
    monkeypatch.setenv(name, value)
    with pytest.raises(settings.WrongSetting, match=f"^{name} {message}"):
        checked.check()


def test_every_picture_is_taken_by_the_command() -> None:
    """What the documentation shows is what `make screenshots` takes, no more and no less, and quick to load."""
    shown = {name for page in PROJECT.glob("*.md") for name in re.findall(r"\(docs/(\w+)\.png\)", page.read_text())}
    assert shown == set(PICTURES)
    for picture in (PROJECT / "docs").glob("*.png"):
        assert picture.stat().st_size < 250_000, picture
