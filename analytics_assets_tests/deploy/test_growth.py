"""The table of what grows: the README has the formulas' numbers, and the formulas agree with the pacing library."""

import asyncio

import pytest
from pyrate_limiter import InMemoryStateStore

from analytics_assets.extract.budget import Budget
from analytics_assets.sample_api.academy import SIZES, Academy
from analytics_assets.sample_api.data import rows
from analytics_assets.settings import CHECKOUT
from analytics_assets_tests.extract.virtual import Time
from deploy import growth

README = (CHECKOUT / "deploy" / "README.md").read_text()


async def spend(budget: Budget, time: Time, calls: int) -> float:
    """Hours that a reader takes for so many calls, each of which has its own time."""
    started = time.seconds
    for _ in range(calls):
        await budget.take()
        await time.sleep(1 / growth.PAGES_A_SECOND)
    return (time.seconds - started) / 3600


@pytest.mark.parametrize("of", [growth.calls, growth.calls_with_windows])
@pytest.mark.parametrize("registrations", growth.REGISTRATIONS[:-1])  # the last is in the regime of the one before
def test_hours_are_those_of_the_pacing_library(registrations: int, of: growth.Calls) -> None:
    """On a virtual clock: the first load, and syncs behind it that begin each night, or one after the other."""
    calls, time = of(registrations), Time()
    budget = Budget(InMemoryStateStore(), growth.AN_HOUR, growth.BURST, time, time.sleep)
    hours = [asyncio.run(spend(budget, time, calls))]
    for night in (1,) if calls > growth.A_DAY else (1, 2):
        time.seconds = max(time.seconds, night * 86_400)
        hours.append(asyncio.run(spend(budget, time, calls)))
    assert hours[0] == pytest.approx(growth.first_load(calls), rel=0.01, abs=0.01)
    assert hours[-1] == pytest.approx(growth.nightly(calls), rel=0.01, abs=0.01)


def test_the_table_has_the_numbers_of_the_formulas() -> None:
    """`python -m deploy.growth` gives the table that stands in the README, and its limits those in the text."""
    assert growth.table() in README
    rows_a_day = growth.A_DAY * growth.PAGE_SIZE
    assert f"10,000,000 registrations {growth.first_load(growth.calls(10_000_000)):.0f} hours" in README
    assert f"Above {rows_a_day:,} rows" in README
    assert growth.calls(rows_a_day * SIZES["registrations"] // sum(SIZES.values())) == pytest.approx(
        growth.A_DAY, rel=0.001
    )


def test_the_formulas_count_the_calls_of_the_sample_academy() -> None:
    """At the sample's own size the formulas give its own pages."""
    academy = Academy()
    pages = [-(-len(rows(academy, name)) // 100) for name in SIZES]
    assert growth.calls(SIZES["registrations"]) == sum(pages)
