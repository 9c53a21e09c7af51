"""What `make run` prints: one line per asset, then the failed checks, and last the failures."""

import sys
from collections.abc import Sequence

import dagster as dg

from analytics_assets.defs import history
from analytics_assets.load.warehouse import Warehouse

QUERY = "SELECT status, count(*) AS registrations FROM analytics.registrations_enriched GROUP BY status ORDER BY status"


def report(names: Sequence[str], results: Sequence[dg.ExecuteInProcessResult], warehouse: Warehouse) -> int:
    """Print one line per asset of `names`, the failed checks and the failures; return the exit status."""
    made = {event.materialization.asset_key.path[-1]: event.materialization.metadata
            for result in results for event in result.get_asset_materialization_events()}  # fmt: skip
    failed = {event.step_key for result in results for event in result.all_events if event.is_step_failure}
    print(f"\n{'asset':<26}{'rows':>12}{'pages':>9}{'seconds':>9}")
    for name in names:
        entries = [made.get(name, {}).get(label) for label in ("dagster/row_count", "pages", "seconds")]
        rows, pages, seconds = (f"{entry.value:,}" if entry else "" for entry in entries)
        shown = rows if name in made else "failed" if name in failed else "skipped"
        print(f"{name:<26}{shown:>12}{pages:>9}{seconds:>9}".rstrip())
    found = {(check.asset_key.path[-1], check.check_name): check
             for result in results for check in result.get_asset_check_evaluations()}  # fmt: skip
    broken = [check for check in found.values() if not check.passed]
    for check in broken:
        print(f"{check.severity.value}: {check.asset_key.to_user_string()}.{check.check_name}: {check.description}")
    file = warehouse.published_file
    if file and "published_database" in made:
        ask = f"import duckdb; duckdb.connect('{file}', read_only=True).sql('{QUERY}').show()"
        print(f'\nThe data is in {file}. A query to try:\n  {sys.executable} -c "{ask}"')
    elif not file and "registrations_enriched" in made:
        print(f"\nThe data is in {warehouse}. A query to try:\n  {QUERY}")
    failures = [text for result in results for text in failures_of(result)]
    failures += [f"check {check.check_name}" for check in broken if check.severity is dg.AssetCheckSeverity.ERROR]
    if failures or made.keys() != set(names):
        print("\nFAILED:", *dict.fromkeys(failures), sep="\n  ", flush=True)
        return 1
    return 0


def failures_of(result: dg.ExecuteInProcessResult) -> list[str]:
    """One text per cause of failed steps, with the names of the steps if several share it."""
    by_cause: dict[str, list[dg.DagsterEvent]] = {}
    for event in result.all_events:
        if event.is_step_failure:
            by_cause.setdefault(history.failure_cause(event), []).append(event)
    return [
        history.failure_text(*events)
        if len(events) == 1
        else f"{', '.join(sorted(str(e.step_key) for e in events))}: {cause}"
        for cause, events in by_cause.items()
    ]
