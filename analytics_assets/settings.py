"""The settings: name, type, default, bounds and description of each, and the project's folder.

A value comes from the environment, else from `.env`, else from dlt's own `.dlt/secrets.toml` and `.dlt/config.toml`,
else it is the default. dlt looks values up, so names and files are those that its users know; pydantic checks types and
bounds. `docs/generate.py` writes the documentation from this file.
"""

import os
import re
from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from dotenv.main import DotEnv
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, ValidationError, model_validator

from analytics_assets.tables.resources import RESOURCES

if TYPE_CHECKING:
    from dlt.common.configuration.providers.provider import ConfigProvider

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent
# The folder of `.env`, `.dlt`, `data` and `dagster_home`. An installed package has the current folder, as its parent
# process had it.
ROOT = CHECKOUT if (CHECKOUT / "pyproject.toml").exists() else Path(os.environ.get("DLT_LOCAL_DIR") or Path.cwd())
KIND, CREDENTIALS = "DESTINATION__WAREHOUSE__DESTINATION_TYPE", "DESTINATION__WAREHOUSE__CREDENTIALS"
WINDOW = "API_WINDOW_"
EXAMPLE_URL = "https://api.example.com"
SAMPLE_TOKEN = "sample-token"

# Defaults of the settings of dlt.
FOR_LIBRARIES = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "CRITICAL",  # dlt's own messages quote rows that cannot be loaded
    "RUNTIME__REQUEST_MAX_ATTEMPTS": "6",
    "RUNTIME__INTERCEPT_SIGNALS": "false",  # Dagster handles them; dlt would end every reading as if it had failed
    "RESTORE_FROM_DESTINATION": "false",  # dlt's state is not used, and fetching it takes time
    "LOAD__TRUNCATE_STAGING_DATASET": "true",  # else a second copy of every row remains
    "LOAD__DELETE_COMPLETED_JOBS": "true",  # else files with learners' data remain
}


class WrongSetting(Exception):
    """A setting has an invalid value; the message is one sentence with its name and the remedy."""


def _folder(path: Path) -> Path:
    try:
        return ROOT / path.expanduser()
    except RuntimeError:
        raise ValueError("no such user") from None


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (LookupError, OSError):  # OSError if it names a folder of the system's zones
        raise ValueError("no such zone") from None
    return name


def _address(url: str) -> str:
    parts = urlsplit(url)
    (parts.hostname or "").encode("idna")
    if parts.scheme not in ("http", "https") or not parts.hostname or (parts.port or 0) < 0:
        raise ValueError("no address")
    return url


def _secret_address(text: Any) -> str:
    return _address(str(text))


def _template(path: str, **values: object) -> str:
    """A path without a host that has at least one of these names in braces, and no others."""
    try:
        filled = path.format(**values)
    except (LookupError, AttributeError):
        raise ValueError("another name in braces") from None
    parts = urlsplit(filled)
    if filled == path or parts.scheme or parts.netloc:
        raise ValueError("no path to be filled in")
    return path


def _not_in_memory(where: Any) -> Any:
    if ":memory:" in str(where):
        raise ValueError("in memory")
    return where


def _resource_path(path: str) -> str:
    return _template(path, resource="users")


def _window_path(path: str) -> str:
    return _template(path, start=1, end=2)


# The last text of each completes the message "must be ..." for a wrong value; {} is the default.
Count = Annotated[int, Field(gt=0), "a whole number above 0, like {}"]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False), "a number like {}"]
Share = Annotated[float, Field(ge=0, le=1), "a number from 0 to 1 like {}"]
Cron = Annotated[str, "five fields like {}"]
Zone = Annotated[str, AfterValidator(_zone), "a time zone like Europe/Berlin"]
Folder = Annotated[Path, AfterValidator(_folder), "a path"]
File = Annotated[Path | None, AfterValidator(_folder), "a path"]
Address = Annotated[str, AfterValidator(_address), "an address like https://api.example.com"]
Secret = Annotated[SecretStr | None, BeforeValidator(str), "a text"]
Key = Annotated[SecretStr | None, Field(min_length=16), BeforeValidator(str), "16 characters long at least"]
SecretAddress = Annotated[
    SecretStr | None, BeforeValidator(_secret_address), "an address like https://chat.example.com/x"
]
Windows = Annotated[
    dict[str, Annotated[str, AfterValidator(_window_path)]], "a path like /v1/users?start={start}&end={end}"
]
Credentials = Annotated[
    Any, BeforeValidator(_not_in_memory), "a file, since a database in memory ends with its process"
]
Flag = Annotated[bool, "true or false"]


def _setting(default: Any, meaning: str, *, shown: bool = False, **options: Any) -> Any:
    """A field; `shown` puts it into the README."""
    return Field(default, description=meaning, json_schema_extra={"shown": shown}, **options)


class Settings(BaseModel, frozen=True, alias_generator=str.upper, coerce_numbers_to_str=True):
    """All settings, by their environment names in lower case."""

    api_key: Secret = _setting(
        None, "Token of the API. Without it, `make run` and `make ui` read a sample API.", shown=True
    )
    api_base_url: Address = _setting(EXAMPLE_URL, "Address of the API: https, or this machine.", shown=True, repr=False)
    api_resource_path: Annotated[str, AfterValidator(_resource_path), "a path like {}"] = _setting(
        "/v1/{resource}", "Path of a resource under that address.", shown=True
    )
    api_page_size: Count = _setting(100, "Rows requested per page; fewer if rows are very wide.")
    api_calls_per_hour: Count = _setting(
        3000, "Calls per hour, shared by all processes of this machine that use the key.", shown=True
    )
    api_calls_burst: Count = _setting(13000, "Calls that may be sent at once before that rate applies.")
    api_budget_url: Secret = _setting(
        None,
        "`postgresql://user:password@host/database` in which several machines with one key share these calls; needs "
        "the extra `postgres`.",
    )
    api_windows: Windows = _setting(
        {},
        "Path of a resource's rows in a window of dates, if the API has one: a sync then reads only the rows since the "
        "last one. `{start}` and `{end}` are seconds since 1970. Deletions, and later changes of older rows, are seen "
        "by the weekly full sync only.",
        examples=[
            "API_WINDOW_REGISTRATIONS=/v1/registrations/by_date_range?start_time={start}&end_time={end}",
            "API_WINDOW_AWARDED_CERTIFICATIONS=/v1/awarded_certifications?start={start}&end={end}",
        ],
    )
    warehouse: str = _setting(
        "duckdb", "Kind of warehouse, as dlt names it, such as `postgres`.", shown=True, alias=KIND
    )
    credentials: Credentials = _setting(
        None,
        "Location of the warehouse: a DuckDB file (default `data/warehouse.duckdb`), or a URL such as "
        "`postgresql://loader:password@host:5432/database`.",
        shown=True,
        alias=CREDENTIALS,
        repr=False,
    )
    duckdb_memory_limit: Annotated[str, Field(pattern=r"(?i)^\d+(\.\d+)? ?([kmgt]i?b|%)$"), "a size like {}"] = (
        _setting(
            "200MB",
            "Memory that the DuckDB file, and the comparison of rows, may use each; beyond that, both write to disk.",
        )
    )
    published_file: File = _setting(None, "The copy for analysts; default `published.duckdb` beside the warehouse.")
    published_mode: Annotated[str, Field(pattern="^[46][046]{2}$"), "a number like {}"] = _setting(
        "600", "Permissions of the copy, as for `chmod`; readers need access to its folder as well."
    )
    masking_key: Key = _setting(
        None,
        "Masks personal data in the copy: email addresses become a hash with their domain, the rest is left out.",
        shown=True,
    )
    automation: Annotated[Literal["running", "stopped"], "running or stopped"] = _setting(
        "stopped", "`running` switches on the schedules and the sensor for new rows.", shown=True
    )
    nightly_cron: Cron = _setting("0 2 * * *", "Cron expression of the nightly schedule.", shown=True)
    nightly_timezone: Zone = _setting("UTC", "Time zone of the schedules.")
    new_rows_seconds: Count = _setting(300, "Seconds between two checks for new rows.")
    failure_webhook_url: SecretAddress = _setting(
        None, 'URL that receives `{"text": ...}` for each failed run.', shown=True
    )
    read_ahead: Count = _setting(8, "Pages in flight at once.")
    resume_hours: Amount = _setting(6, "Hours for which downloaded pages are reused after a crash.")
    most_pages: Count = _setting(100_000, "Pages that a resource may have; if a server promises more, the sync fails.")
    rejected_share: Share = _setting(
        0.01, "A resource fails if more than this share of its rows (and more than ten) cannot be read."
    )
    shrinking_share: Share = _setting(
        0.2,
        "A resource fails if more than this share of its rows (and more than ten) has disappeared since the last sync.",
    )
    accept_fewer_rows: Flag = _setting(
        False, "`true` loads a resource even if more rows are gone, or if the API is another one; for a single run."
    )
    whole_sync: Flag = _setting(False, "`true` reads everything even if there is a window; for a single run.")
    asset_owner: Annotated[str, Field(pattern="^(team:.+|.+@.+)$"), "an address, or a team like {}"] = _setting(
        "team:analytics", "Owner of the tables: an email address or `team:name`."
    )
    fresh_hours: Annotated[Amount, Field(gt=0)] = _setting(
        26, "Hours after its last sync at which a table is late; after twice as many it is stale."
    )
    repository_url: Address = _setting(
        "", "URL of this folder in a browser, such as `https://github.com/you/it/blob/main`, for links to code."
    )
    dagster_home: Folder = _setting(Path("dagster_home"), "Folder of Dagster's settings and history.")
    dlt_data_dir: Folder = _setting(Path("data/dlt"), "Folder of downloaded pages and of the budget of calls.")
    reads_sample_api: Flag = _setting(False, "")  # decided by `_places`

    @model_validator(mode="after")
    def _fit(self) -> "Settings":
        if self.masking_key and self.warehouse != "duckdb":
            raise ValueError("MASKING_KEY masks the published copy, which a server does not have; grant columns there")
        if self.warehouse == "duckdb" and re.match(r"(?!duckdb:)\w+:", str(self.credentials)):
            raise ValueError(f"{CREDENTIALS} is not that of DuckDB; set {KIND} to the kind that it is for")
        return self


NAMES = [str(field.alias) for field in Settings.model_fields.values()]
SECRETS = {str(field.alias) for field in Settings.model_fields.values() if "Secret" in str(field.annotation)}


def load() -> None:
    """Complete the environment for dlt and Dagster, which read it when they are imported. Existing values stay.

    From here on, files that the process writes are private to its user. Raises nothing: `read` reports errors.
    """
    os.umask(0o077)
    with suppress(WrongSetting):
        _load_dotenv()
        _complete()


def read() -> Settings:
    """The current settings. Raises `WrongSetting`."""
    _load_dotenv()
    windows = {name: find(f"{WINDOW}{name.upper()}") for name in RESOURCES}
    found = {name: find(name) for name in NAMES}
    found |= _places(found) | {"API_WINDOWS": {name: path for name, path in windows.items() if path}}
    for name in os.environ:
        if name.upper().startswith(WINDOW) and name not in {f"{WINDOW}{resource.upper()}" for resource in windows}:
            raise WrongSetting(
                f"{name} must end with the name of a resource in capitals: {', '.join(RESOURCES).upper()}"
            )
    try:
        return Settings.model_validate({name: value for name, value in found.items() if value is not None})
    except ValidationError as error:
        raise WrongSetting(_sentence(error)) from None


def find(name: str) -> Any:
    """The value of a setting or of one of dlt's own as dlt finds it; None if it is missing or empty."""
    is_secret = name in SECRETS or name == CREDENTIALS
    if not is_secret and not _is_unset(name, given := os.environ.get(name)):
        return str(given).strip()  # as dlt would, but without importing it, which takes most of a second
    from dlt.common.typing import TSecretValue

    *sections, key = name.lower().split("__")
    for provider in _providers(os.environ["DLT_PROJECT_DIR"]):
        if provider.supports_secrets or not is_secret:
            value, _ = provider.get_value(key, TSecretValue if is_secret else str, None, *sections)
            if not _is_unset(name, value):
                return value.strip() if isinstance(value, str) else value  # files end with a line break
    return None


def _is_unset(name: str, value: Any) -> bool:
    """Empty means not set, but an empty MASKING_KEY must not switch masking off."""
    return value is None or (isinstance(value, str) and not value.strip() and name != "MASKING_KEY")


@cache
def _providers(folder: str) -> "list[ConfigProvider]":
    from dlt.common.configuration.providers.toml import TomlProviderReadException
    from dlt.common.runtime.run_context import RunContext

    try:
        return RunContext(folder).initial_providers()
    except TomlProviderReadException as error:
        where = f"{error.file_name} in {folder}/.dlt"
        raise WrongSetting(f"{where} is not valid TOML: {str(error).splitlines()[-1]}") from None


def use_sample_api(url: str) -> None:
    """Point this process, and those that it starts, to the sample API at `url`."""
    os.environ |= {"API_KEY": SAMPLE_TOKEN, "API_BASE_URL": url, "READS_SAMPLE_API": "true"}


def _load_dotenv() -> None:
    try:
        dotenv = DotEnv(ROOT / ".env", encoding="utf-8-sig", override=False)
        for name in dotenv.dict().keys() - {*NAMES, *FOR_LIBRARIES}:
            others = "__" in name or name.startswith((WINDOW, "DAGSTER_", "DLT_"))  # of dlt, Dagster, or checked later
            if like := not others and get_close_matches(name.upper(), NAMES, 1, 0.9):
                raise WrongSetting(f"{name} in {ROOT}/.env is not a setting; did you mean {like[0]}?")
        dotenv.set_as_environment_variables()
        for name in NAMES:
            if name in os.environ and _is_unset(name, os.environ[name]):
                del os.environ[name]  # for dlt's own look-ups
    except UnicodeDecodeError:
        raise WrongSetting(f"{ROOT}/.env is not in UTF-8; save it in that encoding") from None
    except OSError as error:
        raise WrongSetting(f"{ROOT}/.env cannot be read ({error.strerror}); make it readable or remove it") from None


def _complete() -> None:
    folders = {"DLT_PROJECT_DIR": "", "DLT_LOCAL_DIR": "", "DLT_DATA_DIR": "data/dlt", "DAGSTER_HOME": "dagster_home"}
    for name, default in folders.items():
        os.environ[name] = _absolute(name, os.environ.get(name) or default)
    for name, value in FOR_LIBRARIES.items():
        if find(name) is None:
            os.environ[name] = value


def _places(found: dict[str, Any]) -> dict[str, Any]:
    """Where the tables are: as configured or, if no API is, in files of their own for the sample API."""
    kind, file = found[KIND] or "duckdb", found[CREDENTIALS] or "data/warehouse.duckdb"
    is_in_parts = any(name.startswith(f"{CREDENTIALS}__") for name in os.environ)  # which dlt puts together
    is_file = kind == "duckdb" and isinstance(file, str) and not re.match(r"\w+:|:memory:", file)
    path = Path(_absolute(CREDENTIALS, file if is_file else "data/warehouse.duckdb"))
    is_begun = found["API_KEY"] == SAMPLE_TOKEN and str(found["READS_SAMPLE_API"]).lower() == "true"
    if is_begun or (not found["API_KEY"] and found["API_BASE_URL"] in (None, EXAMPLE_URL)):
        # Always in a folder of its own, so that sample rows are never mixed with those of a real API.
        folder = path.parent / "sample"
        sample = {"READS_SAMPLE_API": True, KIND: "duckdb", "PUBLISHED_FILE": folder / "published.duckdb"}
        return {**sample, CREDENTIALS: str(folder / path.name)}
    places = {CREDENTIALS: str(path)} if is_file and not is_in_parts else {}
    return {**places, "READS_SAMPLE_API": False}


def _absolute(name: str, path: str) -> str:
    try:
        return str(_folder(Path(path)))
    except ValueError as error:
        raise WrongSetting(f"{name} is {path!r}, and must be a path: {error}") from None


def _sentence(error: ValidationError) -> str:
    """The first error as a sentence with the setting's name and the remedy, without secrets."""
    wrong = error.errors(include_url=False)[0]
    if not wrong["loc"]:
        return wrong["msg"].removeprefix("Value error, ")
    name, *inner = map(str, wrong["loc"])
    field = next(field for field in Settings.model_fields.values() if field.alias == name)
    name = f"{WINDOW}{inner[0].upper()}" if inner else name
    given = str(wrong["input"])
    is_hidden = field.alias in SECRETS or isinstance(wrong["input"], dict) or "@" in given or "?" in given
    shape = next(text for text in field.metadata if isinstance(text, str)).replace("{}", str(field.default))
    return f"{name} must be {shape}" if is_hidden else f"{name} is {wrong['input']!r}, and must be {shape}"
