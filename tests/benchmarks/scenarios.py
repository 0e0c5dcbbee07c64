"""How far effects of scenarios can be believed: closures whose effects are known, and networks.

A simulated city (../shared/data/simcity) has closures with 16 replicates each, with and without;
scores are those of its README: means over twelve hours per link, closed links left out. Whatever
closures the folder has are scored. Known networks (Sioux Falls, Anaheim, Braess) prove the
equilibrium, and Heidelberg the time.

    python tests/benchmarks/scenarios.py
    python tests/benchmarks/scenarios.py --method assignment
    python tests/benchmarks/scenarios.py --simcity FOLDER   # another city in the same files
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from _common import Row, data_dir, finish
from _scenario_networks import heidelberg, heidelberg_run, known_networks
from _simcity import closures


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for, and print all numbers with their goals."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the smoke version")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows there, too")
    parser.add_argument("--method", default="auto", help="of the closures")
    parser.add_argument("--simcity", type=Path, metavar="FOLDER", help="a city in the same files")
    parser.add_argument("--only", choices=("closures", "networks", "time"), action="append")
    asked = parser.parse_args(arguments)
    parts = asked.only or ["closures", "networks", "time"]
    rows: list[Row] = []
    if "closures" in parts:
        folder = asked.simcity or data_dir() / "simcity"
        rows += closures(folder, quick=asked.quick, method=asked.method)
    if "networks" in parts:
        rows += known_networks(asked.quick)
    if "time" in parts:
        rows += heidelberg_run(asked.quick)
        rows += heidelberg(asked.quick)
    finish(rows, asked.json)


if __name__ == "__main__":
    main()
