"""Tables and goals of the skill benchmark, from its measurements."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from _common import Row, at_least, at_most
from _skill_runs import BASELINES, CHOICES, DATA, FAMILIES, MODELS, Line

WEEK = "metr-la-week"
EACH, BEST, ENSEMBLE = 3.45, 3.33, 3.28  # mean MAE on the week, mph
MAX_SECONDS = 900

Results = dict[tuple[str, str], Line]  # (data set, model) -> its last measurement


def read_lines(path: Path) -> Results:
    """Return the measurements of a file; of a model measured twice the later one."""
    if not path.exists():
        return {}
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines() if text]
    return {(line["data"], line["model"]): line for line in lines}


def append_line(path: Path, line: Line) -> None:
    """Put a measurement at the end of a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def judge(results: Results) -> list[Row]:
    """Return every number of the families that has a goal, and their skill."""
    rows: list[Row] = []
    for data in DATA:
        best = _best(results, data, BASELINES)
        for model in (*FAMILIES, *CHOICES):
            line = results.get((data, model))
            if line is not None:
                rows += _judge_one(line, best)
    return rows + _judge_all(results)


def _judge_one(line: Line, baselines: pd.Series[float] | None) -> list[Row]:
    """Return the numbers of one model on one data set."""
    own = errors_of(line)
    title = f"{line['data']}: {line['model']}"
    goal = None
    if line["data"] == WEEK and not line["quick"]:
        goal = ENSEMBLE if line["model"] == "ensemble" else EACH
    mae = own["mae"][0]
    rows = [
        Row(f"{title}, mean MAE", mae, "")
        if goal is None
        else at_most(f"{title}, mean MAE", mae, "", goal),
        at_most(f"{title}, fit", _alone(line), "s", MAX_SECONDS),
    ]
    if baselines is not None:
        skill = 100 * (1 - own["mae"] / baselines)
        name = f"{title}, skill over the best baseline"
        has_goal = line["model"] == "auto" and not line["quick"]
        rows.append(at_least(name, skill[0], "%", 0) if has_goal else Row(name, skill[0], "%"))
        rows.append(Row(f"{title}, least skill at a horizon", skill.drop(0).min(), "%"))
    return rows


def _alone(line: Line) -> float:
    """Return what a fit takes a core that nobody else uses: its CPU time, if that was measured."""
    return min(line["seconds"], line.get("cpu_seconds", line["seconds"]))


def _judge_all(results: Results) -> list[Row]:
    """Return the numbers that take all families together."""
    singles = [results[key] for model in FAMILIES if (key := (WEEK, model)) in results]
    full = [line for line in singles if not line["quick"]]
    if not full:
        return []
    best = min(full, key=lambda line: float(errors_of(line)["mae"][0]))
    name = f"{WEEK}: best single model ({best['model']}), mean MAE"
    return [at_most(name, errors_of(best)["mae"][0], "", BEST)]


def _best(results: Results, data: str, models: Sequence[str]) -> pd.Series[float] | None:
    """Return the least MAE per horizon of some models that were measured."""
    found = [errors_of(results[data, model])["mae"] for model in models if (data, model) in results]
    return pd.concat(found, axis=1).min(axis=1) if found else None


def errors_of(line: Line) -> pd.DataFrame:
    """Return the errors of a measurement by horizon; 0 = all together."""
    return pd.DataFrame(line["errors"]).set_index("horizon")


def print_tables(results: Results, names: Iterable[str]) -> None:
    """Print a table in Markdown for each data set, baselines first, the best numbers in bold."""
    for data in names:
        lines = [line for (where, _), line in results.items() if where == data]
        lines.sort(key=_rank)
        if lines:
            print(f"\n{table_of(lines, DATA[data])}\n")


def _rank(line: Line) -> tuple[int, str]:
    """Return the place of a model in a table; with other settings it stands below itself."""
    name = line["model"].split()[0]
    return MODELS.index(name) if name in MODELS else len(MODELS), line["model"]


def table_of(lines: Sequence[Line], steps: Sequence[int]) -> str:
    """Return the table of one data set in Markdown."""
    first = lines[0]
    shown = [*steps, 0]
    names = [("mean" if step == 0 else f"step {step}") for step in shown]
    heads = [f"MAE {name}" for name in names] + [
        "RMSE",
        "MAPE %",
        "10-90 % holds %",
        "fit s",
        "CPU s",
    ]
    least = {step: min(float(errors_of(line)["mae"][step]) for line in lines) for step in shown}
    digits = 2 if least[0] >= 1 else 4
    text = [
        f"### {first['data']}: {first['nodes']} nodes, {first['steps']:,} steps, {first['unit']}, "
        f"{first['windows']:,} test windows",
        "",
        f"| model | {' | '.join(heads)} |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for line in lines:
        errors = errors_of(line)
        cells = [_bold(float(errors["mae"][step]), least[step], digits) for step in shown]
        last = errors.loc[0]
        cells += [f"{last['rmse']:.{digits}f}", f"{last['mape_percent']:.1f}"]
        cells += [f"{last['coverage_percent']:.0f}", f"{line['seconds']:.0f}"]
        cells.append(f"{line['cpu_seconds']:.0f}" if "cpu_seconds" in line else "")
        text.append(f"| {line['model']} | {' | '.join(cells)} |")
    return "\n".join(text)


def _bold(value: float, least: float, digits: int) -> str:
    """Return a number, in bold if nothing is below it."""
    return f"**{value:.{digits}f}**" if value <= least else f"{value:.{digits}f}"
