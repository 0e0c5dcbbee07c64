"""Results of a job as tables and files."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stgraph.config import JobConfig
from stgraph.errors import OutputError
from stgraph.evaluation import Evaluation, minutes_in_words

if TYPE_CHECKING:  # torch is loaded by the stages that need it
    from stgraph.kriging.holdout import Holdout


def skill_table(config: JobConfig, evaluation: Evaluation) -> pd.DataFrame:
    """Return errors and skill per model at the horizons that the config wants shown.

    Returns
    -------
    DataFrame
        Columns ``horizon`` (with unit), ``model, MAE, RMSE, MAPE %, skill %``; of classes
        ``accuracy %, recall %, F1 %`` (means over the classes) and ``skill %``.
    """
    horizon = config.windows.horizon
    steps = config.evaluate.steps or sorted({1, max(1, horizon // 4), (horizon + 1) // 2, horizon})
    table = evaluation.table(steps).sort_values("horizon", kind="stable", key=_all_last)
    if evaluation.yardstick != "mae":
        return pd.DataFrame(
            {
                "horizon": [_horizon(minutes) for minutes in table["minutes"]],
                "model": table["model"].to_numpy(),
                "accuracy %": table["accuracy_percent"].to_numpy(),
                "recall %": table["macro_recall_percent"].to_numpy(),
                "F1 %": table["macro_f1_percent"].to_numpy(),
                "skill %": table["skill_percent"].to_numpy(),
            }
        )
    return pd.DataFrame(
        {
            "horizon": [_horizon(minutes) for minutes in table["minutes"]],
            "model": table["model"].to_numpy(),
            f"MAE ({evaluation.unit})" if evaluation.unit else "MAE": table["mae"].to_numpy(),
            "RMSE": table["rmse"].to_numpy(),
            "MAPE %": table["mape_percent"].to_numpy(),
            "skill %": table["skill_percent"].to_numpy(),
        }
    )


def tried_table(tried: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return what a blend of models was made of, as a person reads it.

    Parameters
    ----------
    tried
        ``notes["tried"]`` of a forecaster.

    Returns
    -------
    DataFrame
        Columns ``model, seed, seconds, validation error, weight, why not``.
    """
    table = pd.DataFrame(list(tried)).drop(columns="options")
    names = {"validation_error": "validation error", "why_not": "why not"}
    table["validation_error"] = table["validation_error"].astype(float)  # None: not fitted
    return table.rename(columns=names)


def holdout_table(holdout: Holdout) -> pd.DataFrame:
    """Return errors where there is no sensor, per horizon and method, as a person reads them."""
    table = holdout.summary()
    return pd.DataFrame(
        {
            "horizon": ["now" if m == 0 else minutes_in_words(m) for m in table["minutes"]],
            "method": table["method"].to_numpy(),
            f"MAE ({holdout.unit})" if holdout.unit else "MAE": table["mae"].to_numpy(),
            "10-90 % holds %": table["coverage_percent"].to_numpy(),
            "width": table["width"].to_numpy(),
        }
    )


def describe_holdout(holdout: Holdout | None) -> dict[str, Any]:
    """Return the hold-out as JSON values; nothing without one."""
    if holdout is None:
        return {}
    rows = json.loads(holdout.table.to_json(orient="records"))
    return {"holdout": rows, "holdout_verdict": holdout.verdict()}


def summarise(config: JobConfig, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the skill table as JSON rows; what is not a number is null."""
    table = skill_table(config, evaluation)
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
    return rows


def write_text(path: Path, text: str) -> None:
    """Write a small file aside and move it into place.

    Raises
    ------
    OutputError
        It could not be written; an older file is still there.
    """
    _write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def write_metrics(path: Path, metrics: pd.DataFrame) -> None:
    """Write a table per node and horizon as Parquet, aside and moved into place.

    Raises
    ------
    OutputError
        It could not be written; an older file is still there.
    """
    nodes, horizons = (metrics.index.get_level_values(name) for name in ("node", "horizon"))
    table = metrics.astype("float32").astype({"n": "int32"})
    table.insert(0, "horizon", np.asarray(horizons, dtype=np.int16))
    table.insert(0, "node", pd.Series(pd.Categorical(nodes.astype(str)), table.index))
    _write_aside(path, lambda aside: table.to_parquet(aside, index=False))


def _write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Let something write a file beside its place, and move it there when it is complete."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(aside)
        aside.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}); check it") from error
    finally:
        aside.unlink(missing_ok=True)


def _all_last(horizons: pd.Series[int]) -> pd.Series[int]:
    """Return a sort key that puts the row over all horizons, 0, at the end."""
    return horizons.replace(0, np.iinfo(np.int64).max)


def _horizon(minutes: float) -> str:
    """Return a horizon with its unit; 0 stands for all of them."""
    return "all" if minutes == 0 else minutes_in_words(minutes)
