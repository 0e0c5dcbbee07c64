"""Published benchmarks: one protocol for METR-LA, PEMS-BAY and PEMS0x, and what others reached.

The protocol is that of XDZhelheim/Torch-MTS, whose logs are the only place where many models stand
on the same windows with the same metrics: 12 steps to 12, every window, split in time order on the
windows without a gap, an exact 0 left out of every metric, an error per step at that single step,
and the average pooled over all 12.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from stgraph.config import JobConfig, WindowsConfig
from stgraph.errors import ConfigError, InputError, UnknownNameError, nearest_name
from stgraph.preprocessing.splits import Split
from stgraph.report import Report

if TYPE_CHECKING:  # torch is loaded when something is fitted
    from stgraph.evaluation import Evaluation

WINDOW = HORIZON = 12
STEPS = (3, 6, 12)  # 15, 30 and 60 minutes
_METRICS = ("mae", "rmse", "mape_percent")

# shares of the windows for training and validation; the rest is the test
SHARES = {
    "metr-la": (0.7, 0.1),
    "pems-bay": (0.7, 0.1),
    "pems03": (0.6, 0.2),
    "pems04": (0.6, 0.2),
    "pems07": (0.6, 0.2),
    "pems08": (0.6, 0.2),
}

SOURCES = {
    "Torch-MTS": "logs of github.com/XDZhelheim/Torch-MTS, one GPU, one protocol",
    "D2STGNN": "Table 3 of D2STGNN (Shao et al., VLDB 2022), figures of several papers",
    "STD-MAE": "table in the repository of STD-MAE; reads 864 to 2,016 past steps where others "
    "read 12",
}

# model | MAE RMSE MAPE at step 3 | 6 | 12 | over all 12 | source; a single number is the MAE
_TABLES = {
    "metr-la": """
        HimNet | 2.61 5.04 6.71 | 2.96 6.09 8.15 | 3.38 7.26 9.97 | 2.93 6.06 8.06 | Torch-MTS
        STAEformer | 2.65 5.10 6.92 | 2.96 6.00 8.18 | 3.35 7.04 9.78 | 2.93 5.98 8.09 | Torch-MTS
        MegaCRN | 2.62 5.04 6.68 | 3.01 6.13 8.18 | 3.48 7.31 9.98 | 2.98 6.09 8.07 | Torch-MTS
        MTGNN | 2.67 5.16 6.78 | 3.04 6.19 8.14 | 3.49 7.30 9.83 | 3.01 6.15 8.05 | Torch-MTS
        GWNet | 2.68 5.13 6.90 | 3.06 6.15 8.34 | 3.50 7.23 9.98 | 3.02 6.10 8.20 | Torch-MTS
        DCRNN | 2.72 5.31 7.02 | 3.12 6.43 8.55 | 3.59 7.61 10.44 | 3.08 6.38 8.45 | Torch-MTS
        GMAN | 2.84 5.66 7.84 | 3.11 6.42 8.94 | 3.46 7.28 10.40 | 3.10 6.40 8.92 | Torch-MTS
        STID | 2.81 5.55 7.74 | 3.17 6.60 9.34 | 3.55 7.55 10.94 | 3.11 6.49 9.11 | Torch-MTS
        STNorm | 2.80 5.50 7.41 | 3.17 6.54 8.82 | 3.56 7.48 10.20 | 3.12 6.42 8.60 | Torch-MTS
        STGCN | 2.80 5.48 7.44 | 3.17 6.49 8.94 | 3.60 7.50 10.56 | 3.13 6.40 8.76 | Torch-MTS
        AGCRN | 2.88 5.64 7.80 | 3.27 6.73 9.27 | 3.68 7.74 10.82 | 3.22 6.62 9.08 | Torch-MTS
        GCLSTM | 2.84 5.40 7.40 | 3.25 6.49 8.87 | 3.81 7.82 10.88 | 3.23 6.50 8.82 | Torch-MTS
        LSTM | 3.06 6.08 8.10 | 3.76 7.64 10.60 | 4.86 9.66 14.77 | 3.78 7.72 10.75 | Torch-MTS
        MLP | 3.11 6.12 8.44 | 3.81 7.69 10.90 | 4.93 9.71 14.95 | 3.84 7.76 11.03 | Torch-MTS
        last hour | 6.80 14.21 16.72 | 6.80 14.21 16.72 | 6.80 14.21 16.72 | 6.80 | Torch-MTS
        HA | 4.79 10.00 11.70 | 5.47 11.45 13.50 | 6.99 13.89 17.54 | | D2STGNN
        VAR | 4.42 7.80 13.00 | 5.41 9.13 12.70 | 6.52 10.11 15.80 | | D2STGNN
        FC-LSTM | 3.44 6.30 9.60 | 3.77 7.23 10.09 | 4.37 8.69 14.00 | | D2STGNN
        DGCRN | 2.62 5.01 6.63 | 2.99 6.05 8.02 | 3.44 7.19 9.73 | | D2STGNN
        D2STGNN | 2.56 4.88 6.48 | 2.90 5.89 7.78 | 3.35 7.03 9.40 | | D2STGNN
        STEP | 2.61 4.98 6.60 | 2.96 5.97 7.96 | 3.37 6.99 9.61 | | STD-MAE
        STD-MAE | 2.62 5.02 6.70 | 2.99 6.07 8.04 | 3.40 7.07 9.59 | | STD-MAE
    """,
    "pems-bay": """
        HimNet | | | 1.86 | 1.52 3.54 3.44 | Torch-MTS
        STAEformer | | | 1.85 | 1.53 3.55 3.42 | Torch-MTS
        MegaCRN | | | 1.89 | 1.54 3.60 3.46 | Torch-MTS
        STID | | | 1.91 | 1.56 3.61 3.49 | Torch-MTS
        GMAN | | | 1.87 | 1.58 | Torch-MTS
        MTGNN | | | 1.94 | 1.58 | Torch-MTS
        GWNet | | | 1.96 | 1.58 3.64 3.53 | Torch-MTS
        STNorm | | | 1.93 | 1.58 | Torch-MTS
        DCRNN | | | 1.96 | 1.59 | Torch-MTS
        STGCN | | | | 1.63 | Torch-MTS
        AGCRN | | | | 1.66 | Torch-MTS
        GCLSTM | | | 2.13 | 1.69 | Torch-MTS
        LSTM | | | | 1.95 | Torch-MTS
        MLP | | | | 1.99 | Torch-MTS
        last hour | | | | 3.05 | Torch-MTS
    """,
    "pems03": "",
    "pems04": """
        STAEformer | | | | 18.14 30.00 12.02 | Torch-MTS
        HimNet | | | | 18.24 | Torch-MTS
        STID | | | | 18.39 29.94 13.00 | Torch-MTS
        STDN | | | | 18.40 | Torch-MTS
        MegaCRN | | | | 18.69 | Torch-MTS
        STNorm | | | | 18.86 | Torch-MTS
        MTGNN | | | | 18.94 | Torch-MTS
        GWNet | | | | 19.12 | Torch-MTS
        GMAN | | | | 19.19 | Torch-MTS
        AGCRN | | | | 19.46 | Torch-MTS
        STGCN | | | | 20.22 | Torch-MTS
        DCRNN | | | | 20.54 | Torch-MTS
        GCLSTM | | | | 22.71 | Torch-MTS
        LSTM | | | | 25.6 | Torch-MTS
        MLP | | | | 26.0 | Torch-MTS
        last hour | | | | 42.35 | Torch-MTS
    """,
    "pems07": "",
    "pems08": """
        STAEformer | | | | 13.55 23.42 8.90 | Torch-MTS
        HimNet | | | | 13.56 | Torch-MTS
        STID | | | | 14.20 | Torch-MTS
        STDN | | | | 14.25 | Torch-MTS
        GMAN | | | | 14.56 | Torch-MTS
        GWNet | | | | 14.61 | Torch-MTS
        MegaCRN | | | | 14.83 | Torch-MTS
        MTGNN | | | | 15.26 | Torch-MTS
        STNorm | | | | 15.29 | Torch-MTS
        DCRNN | | | | 15.31 | Torch-MTS
        AGCRN | | | | 15.69 | Torch-MTS
        STGCN | | | | 16.36 | Torch-MTS
        GCLSTM | | | | 17.41 | Torch-MTS
        LSTM | | | | 19.7 | Torch-MTS
        MLP | | | | 20.8 | Torch-MTS
        last hour | | | | 34.66 | Torch-MTS
    """,
}  # fmt: skip


@dataclass(frozen=True)
class Benchmark:
    """What a model reached on a published benchmark."""

    dataset: str
    evaluation: Evaluation
    split: Split
    is_complete: bool  # else it compares with nothing that is published
    fit_seconds: float
    reads_seasons: bool = False  # else only the last 12 steps, as all but STEP and STD-MAE
    tried: Sequence[Mapping[str, Any]] = ()  # what a blend of several models was made of

    def table(self) -> pd.DataFrame:
        """Return ours first, then what is published; columns as those of `published_table`."""
        ours = self.evaluation.table(STEPS)
        ours = ours[["model", "horizon", *_METRICS]].assign(source="this run")
        return pd.concat([ours, published_table(self.dataset)], ignore_index=True)

    def notes(self) -> list[str]:
        """Return what a reader of the table must know to compare fairly."""
        split = self.split
        sizes = [f"{len(part):,}" for part in (split.train, split.validation, split.test)]
        notes = [
            f"windows: {sizes[0]} for training, {sizes[1]} for validation, {sizes[2]} tested; "
            f"fitted in {self.fit_seconds:,.0f} s",
            f"{self._reading()}; MAE scores its median, RMSE its mean",
            *(f"{name}: {what}" for name, what in SOURCES.items() if self._quotes(name)),
        ]
        if len(self.evaluation.errors) > 1:
            notes.append("simple baselines of this run may read earlier weeks")
        if not self.is_complete:
            notes.insert(0, "NOT COMPARABLE: the file is not the whole data set")
        return notes

    def _reading(self) -> str:
        """Say what ours was shown."""
        reading = "ours reads 12 steps, the time, and each sensor's usual day in the training part"
        if not self.reads_seasons:
            return reading
        return f"{reading}, AND the same time in the last four weeks, which most others do not"

    def _quotes(self, source: str) -> bool:
        return source in set(published_table(self.dataset)["source"])


def split_published(n_steps: int, dataset: str) -> Split:
    """Return the windows of the published protocol.

    Parameters
    ----------
    n_steps
        Steps of the signal; 34,272 of METR-LA give 23,974 + 3,425 + 6,850 windows.
    dataset
        A key of `SHARES`.

    Returns
    -------
    Split
        Training and validation by rounding, the rest is the test; no gap between the parts.

    Raises
    ------
    UnknownNameError, InputError
        Nobody published on this name, or a part would be empty.
    """
    if dataset not in SHARES:
        raise UnknownNameError(
            f"no benchmark is called {dataset!r}{nearest_name(dataset, SHARES)}; there are "
            f"{list(SHARES)}"
        )
    n_windows = n_steps - WINDOW - HORIZON + 1
    first, second = SHARES[dataset]
    train = round(first * n_windows)
    tuned = train + round(second * n_windows)
    if not 0 < train < tuned < n_windows:
        raise InputError(f"{n_steps} steps are too few to split; give the whole data set")
    return Split(range(train), range(train, tuned), range(tuned, n_windows), WINDOW, HORIZON)


def published_table(dataset: str) -> pd.DataFrame:
    """Return what is published on a data set.

    Returns
    -------
    DataFrame
        Columns ``model, horizon`` (3, 6, 12; 0 = all 12 pooled), ``mae, rmse, mape_percent``
        (NaN where not published) and ``source``, a key of `SOURCES`.
    """
    rows: list[dict[str, Any]] = []
    for line in _TABLES[dataset].strip().splitlines():
        model, *cells, source = (cell.strip() for cell in line.split("|"))
        for horizon, cell in zip((*STEPS, 0), cells, strict=True):
            if cell:
                numbers = dict(zip(_METRICS, map(float, cell.split()), strict=False))
                rows.append({"model": model, "horizon": horizon, **numbers, "source": source})
    return pd.DataFrame(rows, columns=["model", "horizon", *_METRICS, "source"])


def run_published(config: JobConfig) -> Benchmark:
    """Fit a model by the published protocol and measure it.

    Parameters
    ----------
    config
        A job whose connector is ``published``; its windows must be those of the protocol.

    Raises
    ------
    InputError
        The data cannot be used, or the job asks for another protocol.
    """
    from stgraph.backtesting import SIMPLE_BASELINES, evaluate
    from stgraph.pipeline import load_graph
    from stgraph.training import fit

    _check_protocol(config)
    dataset = str(config.data.options.get("dataset"))
    graph = load_graph(config)
    split = split_published(graph.n_steps, dataset)
    began = time.perf_counter()
    forecaster = fit(
        graph,
        model=config.model,
        scaler=config.prepare.scaler,
        holidays=config.prepare.holidays,
        use_filled=config.prepare.gaps is not None,
        use_seasons=config.prepare.seasons,
        head=config.head,
        train=config.train,
        split=split,
    )
    seconds = time.perf_counter() - began
    asked = config.evaluate.baselines
    baselines = SIMPLE_BASELINES if asked is None else asked
    evaluation = evaluate(forecaster, graph, baselines=baselines, starts=split.test)
    complete = bool(graph.provenance.get("complete"))
    tried = forecaster.notes.get("tried", ())
    seasons = config.prepare.seasons
    return Benchmark(dataset, evaluation, split, complete, seconds, seasons, tried)


def _check_protocol(config: JobConfig) -> None:
    """Refuse a job that is measured otherwise than the published models were."""
    report, windows = Report(), config.windows
    if windows != WindowsConfig():
        what = f"asks for {windows.window} steps to {windows.horizon}, split {windows.fractions}"
        todo = f"the published protocol is {WINDOW} to {HORIZON} with its own split: leave it out"
        report.error("[windows]", what, todo)
    if config.head.kind == "classes":
        todo = "errors of numbers are published: choose another one, or leave it out"
        report.error("[head] `kind`", 'is "classes"', todo)
    if config.prepare.outliers is not None:
        todo = "the published protocol measures every reading but 0: leave it out"
        report.error("[prepare] `outliers`", "would hide readings of the test", todo)
    report.raise_errors(ConfigError, title="the job is not the published benchmark")
