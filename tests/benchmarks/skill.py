"""How good the forecasts are: every family next to the baselines, on five real data sets.

Each data set is a config of ``examples/``, with its default settings and seed 0; the last 20 % of
the windows are the test. Baselines are fitted once per data set. A long benchmark can be done in
pieces: with ``--lines FILE`` every measurement is appended to a file and none that is there is
repeated, and ``--show`` prints what the file has.

    python tests/benchmarks/skill.py --lines skill.jsonl --data metr-la-week --model gcn_lstm
    python tests/benchmarks/skill.py --lines skill.jsonl --model "gcn_lstm mix_inputs=diffusion"
    python tests/benchmarks/skill.py --lines skill.jsonl --show
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from _common import finish
from _skill_runs import BASELINES, DATA, MODELS, DataSet, known, load, machine, measure
from _skill_tables import Results, append_line, judge, print_tables, read_lines

QUICK = ("persistence", "seasonal_naive", "weekly_profile", "profile_decay", "gcn_lstm")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for and is not there yet, and print all tables and goals."""
    asked = _parse(arguments)
    results: Results = {} if asked.lines is None else read_lines(asked.lines)
    names = asked.data or list(DATA)
    if not asked.show:
        print(machine())
        for name in names:
            _run(name, asked, results)
    print_tables(results, names)
    finish(judge({key: line for key, line in results.items() if key[0] in names}), asked.json)


def _run(name: str, asked: argparse.Namespace, results: Results) -> None:
    """Measure the models of one data set that are wanted and not measured yet."""
    wanted = _wanted(asked)
    missing = [model for model in wanted if asked.again or (name, model) not in results]
    todo = [model for model in missing if known(model)]
    for model in sorted(set(missing) - set(todo)):
        print(f"{name}: {model} is not registered, skipped")
    if not todo:
        return
    data: DataSet = load(name, quick=asked.quick)
    for model in todo:
        line = measure(data, model)
        results[name, model] = line
        if asked.lines is not None:
            append_line(asked.lines, line)
        print(f"{name}: {model}, MAE {line['errors']['mae'][-1]:.4g} in {line['seconds']:.0f} s")


def _wanted(asked: argparse.Namespace) -> tuple[str, ...]:
    """Return the models to measure: baselines always, and those that were asked for."""
    if asked.model:
        return tuple(dict.fromkeys([*(() if asked.alone else BASELINES), *asked.model]))
    return QUICK if asked.quick else MODELS


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the smoke version")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows there, too")
    parser.add_argument("--data", action="append", choices=list(DATA), help="only this; repeatable")
    parser.add_argument("--model", action="append", help="only this; may have options")
    parser.add_argument("--alone", action="store_true", help="no baselines beside --model")
    parser.add_argument("--lines", type=Path, metavar="FILE", help="go on with this file")
    parser.add_argument("--again", action="store_true", help="also what the file has")
    parser.add_argument("--show", action="store_true", help="only print what the file has")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
