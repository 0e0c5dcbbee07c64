"""Fit a registered model to a graph: its inputs, then the model, then the calibration."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch

from stgraph.calibration import Calibration, fit_calibration
from stgraph.config import HeadConfig, ModelConfig, TrainConfig
from stgraph.errors import InputError
from stgraph.footprint import saying_what_to_do_without_memory
from stgraph.forecasting import Forecaster, instants
from stgraph.graph import BoolArray, FloatArray, STGraph
from stgraph.inputs import Inputs, Source, fit_inputs
from stgraph.layout import Layout, layout_of
from stgraph.learning import learn
from stgraph.models.build import build_predictor, read_options
from stgraph.models.ensemble import BLENDS, AutoConfig, Blend, EnsembleConfig, Member
from stgraph.models.heads import ClassHead
from stgraph.models.predictor import Predictor
from stgraph.preprocessing.splits import Split, split_windows
from stgraph.selection import Bench, Blended, choose, fit_ensemble
from stgraph.shrinkage import choose_trust
from stgraph.windows import Batch, Windows

_CALIBRATION_VALUES = 20_000_000  # forecasts kept in memory at once


@dataclass(frozen=True)
class Prepared:
    """Everything that models fitted to the same graph and split share."""

    graph: STGraph
    split: Split
    inputs: Inputs
    layout: Layout
    learning: Windows  # of the training part, with the profile that leaves out each step's day
    tuning: Windows  # of the validation part; none if nothing was observed there


def prepare(
    graph: STGraph,
    *,
    window: int = 12,
    horizon: int = 12,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    scaler: Literal["standard", "minmax", "robust"] = "standard",
    holidays: str | None = None,
    use_filled: bool = False,
    use_seasons: bool = True,
    split: Split | None = None,
) -> Prepared:
    """Fit what a model is shown; parameters as for `fit`.

    Returns
    -------
    Prepared
        For `fit_prepared`, as often as there are models to fit.

    Raises
    ------
    InputError
        Too little data, or no target.
    """
    split = split or split_windows(
        graph.n_steps, window=window, horizon=horizon, fractions=fractions
    )
    inputs, source = fit_inputs(
        graph,
        window=split.window,
        horizon=split.horizon,
        train_steps=split.train_steps.stop,
        scaler=scaler,
        holidays=holidays,
        use_filled=use_filled,
        use_seasons=use_seasons,
    )
    return Prepared(
        graph=graph,
        split=split,
        inputs=inputs,
        layout=layout_of(graph),
        learning=Windows(source, split.train),
        tuning=Windows(Source(graph, inputs), _tuning_starts(graph, split)),
    )


def fit(
    graph: STGraph,
    *,
    model: str | ModelConfig = "gcn_lstm",
    options: Mapping[str, Any] | None = None,
    window: int = 12,
    horizon: int = 12,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    scaler: Literal["standard", "minmax", "robust"] = "standard",
    holidays: str | None = None,
    use_filled: bool = False,
    use_seasons: bool = True,
    head: HeadConfig | None = None,
    train: TrainConfig | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    split: Split | None = None,
) -> Forecaster:
    """Fit a model to the first part of a graph's signal.

    Parameters
    ----------
    graph
        Signal with at least one target feature.
    model
        Registered name, of a graph model or of a baseline; or a name with its options, such as
        `from_pgt` returns for a layer.
    options
        Of the model's config, over those that `model` brings; None takes the defaults.
    window, horizon
        Input steps and forecast steps.
    fractions
        Shares of the windows, in time order, for training, validation (early stopping and
        calibration) and test (never looked at).
    scaler
        How every node's readings are scaled: by mean and deviation, by range, or by quartiles.
    holidays
        Country or country-subdivision code whose holidays become inputs.
    use_filled
        Read what `fill_gaps` put into gaps as past inputs; it never becomes a target.
    use_seasons
        Show what the same time had in earlier weeks; off, a forecast reads its window only.
    head
        What the forecast says about every value; None takes three quantiles.
    train
        How to train; None takes the defaults.
    folder
        Where training state and logs go, so that a killed run can go on. None keeps none.
    resume
        Go on from the last epoch found in `folder`.
    split
        Windows of the parts, instead of `fractions`.

    Returns
    -------
    Forecaster
        Ready to forecast, evaluate and save.

    Raises
    ------
    InputError
        Too little data, no target, options that do not fit.
    CheckpointError
        `resume` finds the state of another job.
    TrainingError
        The loss is not finite, or there is too little memory.
    OutputError
        The training state or logs cannot be written into `folder`.
    """
    _check_model(model)  # before anything takes time
    prepared = prepare(
        graph,
        window=window,
        horizon=horizon,
        fractions=fractions,
        scaler=scaler,
        holidays=holidays,
        use_filled=use_filled,
        use_seasons=use_seasons,
        split=split,
    )
    return fit_prepared(
        prepared,
        model=model,
        options=options,
        head=head,
        train=train,
        folder=folder,
        resume=resume,
    )


def fit_prepared(
    prepared: Prepared,
    *,
    model: str | ModelConfig = "gcn_lstm",
    options: Mapping[str, Any] | None = None,
    head: HeadConfig | None = None,
    train: TrainConfig | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
) -> Forecaster:
    """Fit a model to inputs that are fitted already; parameters, result and errors as for `fit`."""
    began = time.perf_counter()
    _check_model(model)
    train, options, head = train or TrainConfig(), dict(options or {}), head or HeadConfig()
    if isinstance(model, ModelConfig):
        options = {**model.options, **options}
        model = model.name
    where = None if folder is None else Path(folder)
    predictor: Predictor | Blend
    members: tuple[Member, ...] = ()
    notes: dict[str, Any] = {"seed": train.seed}
    with saying_what_to_do_without_memory():
        if model in BLENDS:
            blended = _fit_blend(prepared, model, options, head, train, where, resume=resume)
            predictor, members = blended.predictor, blended.members
            notes["tried"] = list(blended.tried)
        else:
            predictor = _fit_model(prepared, model, options, head, train, where, resume=resume)
        predictor.eval()
        calibration = calibrate(predictor, head, prepared.tuning, prepared.inputs)
    fitted_until, tuned_until = instants(prepared.graph, prepared.split)
    return Forecaster(
        model=model,
        options=options,
        inputs=prepared.inputs,
        predictor=predictor,
        calibration=calibration,
        node_ids=prepared.graph.node_ids,
        layout=prepared.layout,
        fitted_until=fitted_until,
        tuned_until=tuned_until,
        notes={**notes, "fit_seconds": round(time.perf_counter() - began, 2)},
        head=head,
        members=members,
    )


def _check_model(model: object) -> None:
    """Refuse what is no name, such as a layer itself."""
    if isinstance(model, str | ModelConfig):
        return
    kind = model if isinstance(model, type) else type(model)
    todo = "give the name of a model; `stgraph info` lists them"
    if issubclass(kind, torch.nn.Module):
        todo = f"wrap a layer of torch-geometric-temporal as model=from_pgt(...); else {todo}"
    raise InputError(f"`model` is of type {kind.__name__}, no name of a model; {todo}")


def _fit_model(
    prepared: Prepared,
    model: str,
    options: Mapping[str, Any],
    head: HeadConfig,
    train: TrainConfig,
    folder: Path | None,
    *,
    resume: bool,
) -> Predictor:
    """Return a fitted model: trained, or solved in closed form."""
    learning, tuning = prepared.learning, prepared.tuning
    if model == "seasonal_naive" and not prepared.inputs.use_seasons:
        raise InputError("seasonal_naive repeats the last season; leave `use_seasons` on for it")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(train.seed)
        predictor = build_predictor(
            model, options, prepared.inputs, layout=prepared.layout, head=head
        )
        center, scale = predictor.center, predictor.scale
        if head.class_weights == "balanced" and isinstance(predictor.head, ClassHead):
            predictor.head.balance(_learned_values(prepared))
        if not predictor.is_point:
            state = None if folder is None else folder / "training"
            job = _describe_job(model, options, head, train, prepared)
            shapes = {name: tuple(part.shape) for name, part in predictor.state_dict().items()}
            job["weights"] = repr(shapes)  # another version may have other ones
            learn(predictor, learning, tuning, train, state, job, resume=resume)
            predictor.trust.copy_(choose_trust(predictor, tuning))
        elif (fit_closed_form := getattr(predictor.model, "fit_closed_form", None)) is not None:
            batches = iter(learning.loader(batch_size=learning.at_once(most=train.batch_size)))
            with torch.no_grad():
                fit_closed_form(batches, center, scale)
        elif (fit_residuals := getattr(predictor.model, "fit_residuals", None)) is not None:

            def residuals(batch: Batch) -> torch.Tensor:
                return (batch.y - center) / scale - predictor.anchor(batch)

            with torch.no_grad():
                fit_residuals(learning, residuals, center, scale)
    return predictor


def _fit_blend(
    prepared: Prepared,
    model: str,
    options: Mapping[str, Any],
    head: HeadConfig,
    train: TrainConfig,
    folder: Path | None,
    *,
    resume: bool,
) -> Blended:
    """Return several models as one: those that are named, or those that serve best."""

    def fit_one(member: Member, train: TrainConfig, folder: Path | None) -> Forecaster:
        return fit_prepared(
            prepared,
            model=member.name,
            options=member.options,
            head=head,
            train=train,
            folder=folder,
            resume=resume,
        )

    config = read_options(model, options)
    job = repr(sorted(_describe_job(model, {}, head, train, prepared).items()))
    bench = Bench(
        prepared=prepared,
        fit_one=fit_one,
        head=head,
        train=train,
        folder=None if folder is None else folder / "training" / "members",
        job=sha256(job.encode()).hexdigest(),
        resume=resume,
    )
    if isinstance(config, EnsembleConfig):
        return fit_ensemble(config, bench)
    return choose(AutoConfig.model_validate(config), bench)


def _tuning_starts(graph: STGraph, split: Split) -> range:
    """Return the validation windows; none if nothing to validate on was observed."""
    seen = graph.mask[split.targets("validation")][..., graph.feature_positions("target")]
    return split.validation if seen.any() else range(0)


def _learned_values(prepared: Prepared) -> torch.Tensor:
    """Return all observed values of the targets in the training part."""
    graph, steps = prepared.graph, prepared.split.train_steps
    at = prepared.inputs.targets
    return torch.from_numpy(graph.values[steps][..., at][graph.mask[steps][..., at]])


def calibrate(
    predictor: Predictor | Blend, head: HeadConfig, tuning: Windows, inputs: Inputs
) -> Calibration:
    """Fit the calibration to the validation windows, to every k-th of them on large graphs."""
    if head.kind == "classes":  # `trust` has made the probabilities honest
        return Calibration.identity(inputs.horizon, len(inputs.targets))
    n_values = len(tuning) * tuning.source.graph.n_nodes * inputs.horizon * len(inputs.targets)
    every = max(1, -(-n_values // _CALIBRATION_VALUES))
    some = Windows(tuning.source, tuning.starts[::every])

    def forecasts() -> Iterator[tuple[FloatArray, FloatArray, BoolArray]]:
        for batch in some.loader():
            with torch.inference_mode():
                quantiles = predictor(batch).numpy()
            yield quantiles, batch.y.numpy(), batch.y_mask.numpy()

    return fit_calibration(
        forecasts(),
        horizon=inputs.horizon,
        n_targets=len(inputs.targets),
        # a point forecast, and that of a normal distribution, is meant as it is
        fit_mean=head.kind == "quantiles" and not predictor.is_point,
        levels=head.levels,
    )


def _describe_job(
    model: str,
    options: Mapping[str, Any],
    head: HeadConfig,
    train: TrainConfig,
    prepared: Prepared,
) -> dict[str, str]:
    """Return what must be the same for a training to go on, as short texts."""
    graph, inputs = prepared.graph, prepared.inputs
    learning = train.model_dump(
        include={
            "batch_size",
            "learning_rate",
            "weight_decay",
            "gradient_clip",
            "ema_decay",
            "seed",
        }
    )
    edges = graph.edge_index.tobytes() + graph.edge_weight.tobytes()
    # numbers fitted on the readings stand for all of them
    readings = inputs.scaler.center.tobytes() + inputs.scaler.scale.tobytes()
    return {
        "model": model,
        "model options": repr(sorted(read_options(model, options))),
        "head": repr(head),
        "train": repr(sorted(learning.items())),
        "windows": repr(prepared.split),
        "features": repr(graph.features),
        "scaler": repr(inputs.scaler.kind),
        "use_filled": repr(inputs.use_filled),
        "use_seasons": repr(inputs.use_seasons),
        "calendar": repr((inputs.zone, inputs.holidays, inputs.calendar)),
        "nodes": sha256(repr(graph.node_ids.tolist()).encode()).hexdigest(),
        "edges": sha256(edges).hexdigest(),
        "readings": sha256(readings + inputs.decay.tobytes()).hexdigest(),
    }
