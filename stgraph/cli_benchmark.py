"""`stgraph benchmark`: a model on a published data set, next to what is published."""

# ruff: noqa: ARG001  # --debug is an option that `stgraph.cli.main` reads

from __future__ import annotations

import json as json_
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:  # the commands import what they need, so that `stgraph --help` is quick
    import pandas as pd

    from stgraph.published import Benchmark

_HORIZONS = {3: "15 min", 6: "30 min", 12: "60 min", 0: "all 12"}


def benchmark(
    name: Annotated[
        str, typer.Argument(help="metr-la, pems-bay, pems03, pems04, pems07 or pems08.")
    ],
    data: Annotated[Path, typer.Option("--data", help="metr-la.h5, PEMS04.npz, ...")],
    graph: Annotated[
        Path | None, typer.Option("--graph", help="adj_mx.pkl, distances, or their folder.")
    ] = None,
    places: Annotated[
        Path | None, typer.Option("--places", help="Table of the sensors' coordinates.")
    ] = None,
    ids: Annotated[
        Path | None, typer.Option("--ids", help="Text file of sensor ids, such as PEMS03.txt.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Registered name; see `stgraph info`.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.KEY=VALUE", help="As in train.max_epochs=3."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print results as JSON.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress, warnings only.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="More messages, and tracebacks.")] = False,
) -> None:
    """Fit a model by the protocol of published benchmarks and print its errors beside theirs."""
    from stgraph import terminal
    from stgraph.configfile import check_tables
    from stgraph.published import run_published, split_published

    split_published(10_000, name)  # an unknown name is said before anything is read
    files = {"path": data, "graph": graph, "places": places, "ids": ids}
    options = {key: str(path) for key, path in files.items() if path is not None}
    tables: dict[str, Any] = {
        "data": {"connector": "published", "dataset": name, **options},
        "graph": {"method": "given"},
        "prepare": {"seasons": False},  # what is published reads the last 12 steps only
    }
    if model is not None:
        tables["model"] = {"name": model}
    job = check_tables(
        tables,
        name="command line",
        title=f"the benchmark {name} cannot be run like this",
        folder=Path.cwd(),
        overrides=changes or (),
    )
    train = job.train.model_copy(update={"progress": job.train.progress or not quiet})
    result = run_published(job.model_copy(update={"train": train}))
    if json:
        terminal.print_json(describe(result))
        return
    terminal.print_tried(result.evaluation.model, result.tried)
    table = lay_out(result.table())
    bold = table["model"] == result.evaluation.model
    terminal.print_table(table, title=_title(result), bold=bold & (table["source"] == "this run"))
    for note in result.notes():
        terminal.print_line(note)


def describe(result: Benchmark) -> dict[str, Any]:
    """Return a benchmark as JSON values; what is not published is null."""
    return {
        "dataset": result.dataset,
        "model": result.evaluation.model,
        "comparable": result.is_complete,
        "windows": {
            part: len(getattr(result.split, part)) for part in ("train", "validation", "test")
        },
        "fit_seconds": round(result.fit_seconds, 1),
        "table": json_.loads(result.table().to_json(orient="records")),
        "notes": result.notes(),
        **({"tried": list(result.tried)} if result.tried else {}),
    }


def lay_out(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per model and source, its three errors at every horizon in one cell."""
    import pandas as pd

    rows = []
    for (model, source), part in table.groupby(["model", "source"], sort=False):
        cells = {int(row["horizon"]): _errors(row) for _, row in part.iterrows()}
        shown = {name: cells.get(horizon, "") for horizon, name in _HORIZONS.items()}
        rows.append({"model": model, **shown, "source": source})
    return pd.DataFrame(rows)


def _errors(row: pd.Series[Any]) -> str:
    """Return MAE, RMSE and MAPE as far as they are known."""
    numbers = [float(row[name]) for name in ("mae", "rmse", "mape_percent")]
    return "  ".join(f"{number:.2f}" for number in numbers if not math.isnan(number))


def _title(result: Benchmark) -> str:
    """Say what the numbers are."""
    evaluation = result.evaluation
    first, last = (f"{instant:%Y-%m-%d}" for instant in evaluation.span)
    unit = f" ({evaluation.unit})" if evaluation.unit else ""
    return f"{result.dataset}, {first} to {last}: MAE{unit}, RMSE, MAPE %"
