"""The pictures of the documentation, taken from a real browser on the sample data: `make screenshots`.

Before them two nights pass: in both some trainings cannot be read, in the second the API refuses `users`.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Error, FloatRect, Locator, Page, expect

from analytics_assets.__main__ import LINKS
from analytics_assets.settings import CHECKOUT
from analytics_assets_tests.defs.browsing import LAPTOP, Ui, chromium, home, serving, wait_for

FOLDER = CHECKOUT / "docs"
JOB = {
    "repositoryName": "__repository__",
    "repositoryLocationName": "analytics_assets",
    "pipelineName": "analytics_job",
}
LAUNCH = "mutation($job: ExecutionParams!) { launchRun(executionParams: $job) { __typename } }"


def night(ui: Ui) -> None:
    """One run of everything, until also the marts have followed it."""
    known = ui.runs()
    ui.ask(LAUNCH, job={"selector": JOB, "runConfigData": {}})
    _, outcome = ui.ended(known)
    if outcome != "SUCCESS":
        wait_for(
            lambda: len(ui.runs()) > len(known) + 1 and {*ui.runs().values()} <= {"SUCCESS", "FAILURE"}, "the marts"
        )


def section(title: str) -> Callable[[Page], None]:
    """Scrolls to the part of an asset's page that has this title."""

    def scroll(page: Page) -> None:
        page.get_by_role("button", name=title).first.evaluate("title => title.scrollIntoView()")

    return scroll


def column(name: str) -> Callable[[Page], None]:
    """Types the name of a column above the columns."""

    def find(page: Page) -> None:
        section("Columns")(page)
        page.get_by_placeholder("Filter columns").fill(name)
        expect(page.get_by_text(name).first).to_be_visible()

    return find


def failure(page: Page) -> Locator:
    """The two clicks that lead to the reason; what is behind it shows the folders of whoever takes the picture."""
    page.get_by_role("tab", name="Events").click()
    page.get_by_role("button", name="View logs").click()
    expect(page.get_by_text("users was not loaded").first).to_be_visible()
    return page.get_by_text("Stack Trace").first


def steps(page: Page) -> None:
    """Gives the steps the whole height."""
    page.get_by_role("button", name="Re-execute").locator("xpath=preceding::button[1]").click()


# What to open, a text that is there when it is drawn, what to do then, and above what the picture ends if it does.
PICTURES: dict[str, tuple[str, str, Callable[[Page], Locator | None] | None]] = {
    "catalog": ("/assets", "Failed", None),
    "lineage": (LINKS["Lineage:"], "Materialized", None),
    "asset": ("/assets/registrations_enriched", "Passing", None),
    "run": ("/runs/RUN", "RUN_SUCCESS", steps),
    "column": ("/assets/registrations_enriched", "Passing", column("days_to_complete")),
    "overdue": ("/assets/training_outcomes", "Passing", section("Metadata")),
    "failure": ("/assets/users", "Failed in", failure),
    "meaning": ("/assets/data_dictionary", "Passing", column("pass_status")),
    "email": ("/assets/data_dictionary", "Passing", column("email")),
    "set_aside": ("/assets/sync_log", "Passing", section("Metadata")),
}


def take(page: Page, name: str, first_run: str) -> None:
    """Take one picture."""
    path, text, then = PICTURES[name]
    page.goto(path.replace("RUN", first_run, 1))
    expect(page.get_by_text(text).first).to_be_visible()
    expect(page.get_by_text("Loading")).to_have_count(0)
    foot = then(page) if then else None
    page.wait_for_load_state("networkidle")
    box = foot.bounding_box() if foot else None
    height = box["y"] if box else LAPTOP["height"]
    clip: FloatRect = {"x": 0, "y": 0, "width": LAPTOP["width"], "height": height}
    page.screenshot(path=FOLDER / f"{name}.png", animations="disabled", clip=clip)


def main() -> int:
    """Take all pictures, or those that are named; 0 only if each was taken."""
    FOLDER.mkdir(exist_ok=True)
    missing = []
    # In the project's folder: a page shows the path of a file that is elsewhere.
    data = CHECKOUT / "data"
    data.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=data, prefix="") as folder,
        serving(home(Path(folder))) as ui,
        chromium() as browser,
    ):
        ui.steer("faults", trainings="odd_values")
        night(ui)
        [first_run] = ui.runs()
        ui.steer("faults", users="status:403")
        night(ui)
        expect.set_options(timeout=20_000)
        for name in sys.argv[1:] or PICTURES:
            page = browser.new_page(base_url=ui.url, viewport=LAPTOP)
            try:
                take(page, name, first_run)
            except (AssertionError, Error) as error:
                missing.append(f"{name}: {str(error).splitlines()[0]}")
            page.close()
    print("\n".join([f"not taken: {line}" for line in missing] or [f"The pictures are in {FOLDER}"]))
    return len(missing) > 0


if __name__ == "__main__":
    sys.exit(main())
