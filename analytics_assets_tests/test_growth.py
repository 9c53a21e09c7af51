"""The table of what grows: its numbers are the formulas', and the formulas' those of the pacing library."""

import pytest
from pyrate_limiter import InMemoryStateStore

from analytics_assets.budget import Budget
from analytics_assets.environment import PROJECT
from analytics_assets_tests.virtual import Time
from deploy import growth

DAY = 24 * 3600


def spend(budget: Budget, time: Time, calls: int) -> float:
    """Hours that a reader takes for so many calls, each of which has its own time."""
    started = time.seconds
    for _ in range(calls):
        budget.take(time)
        time.wait(1 / growth.PAGES_A_SECOND)
    return (time.seconds - started) / 3600


@pytest.mark.parametrize("registrations", growth.REGISTRATIONS[:-1])
def test_hours_are_those_of_the_pacing_library(registrations: int) -> None:
    """On a virtual clock: the first load, and the fourth of full syncs that begin each night, or one after the other."""
    calls = growth.calls(registrations)
    time = Time()
    budget = Budget(InMemoryStateStore(), growth.AN_HOUR, growth.BURST, time)
    hours = [spend(budget, time, calls)]
    for night in range(1, 4):
        time.seconds = max(time.seconds, night * DAY)
        hours.append(spend(budget, time, calls))
    assert hours[0] == pytest.approx(growth.first_load(calls), rel=0.01, abs=0.01)
    assert hours[-1] == pytest.approx(growth.nightly(calls), rel=0.01, abs=0.01)
