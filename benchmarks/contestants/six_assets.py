"""The six assets alone, with all their checks: the tables that the floor makes, without the join and the copy."""

from analytics_assets.tables.resources import RESOURCES
from benchmarks.contestants.main_job import main

if __name__ == "__main__":
    main(*RESOURCES)
