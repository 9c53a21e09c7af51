"""`python -m benchmarks`: run everything of the plan, several times and in turn, and say what came out."""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks import plan
from benchmarks.measuring import PROJECT, Result, serving


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="with 1,040,550 rows, and every peer at 260,550 too")
    parser.add_argument("--repetitions", type=int, default=3, help="of everything (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=PROJECT / "data" / "benchmark", help="a folder for the report")
    options = parser.parse_args()
    many = (plan.MIDDLE_FULL, plan.LARGE) if options.full else (plan.MIDDLE,)
    results: list[Result] = []
    options.output.mkdir(parents=True, exist_ok=True)
    for case in (plan.ONE_PAGE, plan.SMALL, plan.LATENCY, *many):
        results += measured(case, options.repetitions)
        (options.output / "results.json").write_text(json.dumps([asdict(result) for result in results], indent=0))
    # In a process of its own: what draws the chart is not to be loaded while something is measured.
    return subprocess.run([sys.executable, "-m", "benchmarks.report", str(options.output)], cwd=PROJECT).returncode


def measured(case: plan.Case, repetitions: int) -> list[Result]:
    """The results of all contestants of a case, run in turn, each round beginning with another of them."""
    print(f"{case.name}: rendering", flush=True)
    results = []
    with serving(case) as api:
        for round_ in range(repetitions):
            first = round_ % len(case.contestants)
            for contestant in case.contestants[first:] + case.contestants[:first]:
                for result in api.syncs(contestant):
                    took = result.problem or f"{result.seconds:.2f} s, {result.calls} calls"
                    print(f"  {round_ + 1}. {contestant.label}, {result.sync} sync: {took}", flush=True)
                    results.append(result)
    return results


if __name__ == "__main__":
    sys.exit(main())
