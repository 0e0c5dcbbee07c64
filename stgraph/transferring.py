"""Run a fitted model on other nodes: another city, a part of one, an edited set of sensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stgraph.calibration import Calibration
from stgraph.errors import CheckpointError, InputError
from stgraph.forecasting import Forecaster, instants
from stgraph.graph import IntArray, STGraph
from stgraph.inputs import Inputs, Source
from stgraph.layout import Layout
from stgraph.models.build import build_predictor, read_options
from stgraph.models.predictor import Predictor
from stgraph.preprocessing.splits import Split
from stgraph.report import Report
from stgraph.shrinkage import choose_trust
from stgraph.training import Prepared, calibrate, prepare
from stgraph.windows import Windows

_MIN_OBSERVATIONS = 100  # per horizon and target; with fewer the old calibration stays
_FITTED_HERE = ("decay", "trust")  # of a predictor: not taken over, or only where need be
_MAKE_IT_RUN = ("node_embedding_size", "adaptive_rank")  # options that give nodes parameters


def transfer(
    forecaster: Forecaster,
    graph: STGraph,
    *,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    split: Split | None = None,
    holidays: str | None = None,
) -> Forecaster:
    """Take a fitted model over to a graph with other nodes, without training it again.

    What is cheap and belongs to the place is fitted to the graph's own history: scales, profiles,
    the anchor, how much of the model's correction is kept, and the calibration. What the model has
    learned is taken over as it is, so nothing in it may belong to a node.

    Parameters
    ----------
    forecaster
        What `fit` returned, of a model without parameters per node; see Raises.
    graph
        Other nodes and edges; the same features, step and unit of the weights. Some days of
        history let it have profiles.
    fractions
        Shares of the windows of `graph`, in time order: for scales, profiles and the anchor; for
        trust and calibration; and never looked at.
    split
        Windows of the parts, instead of `fractions`.
    holidays
        Country or country-subdivision code. None takes that of `forecaster`.

    Returns
    -------
    Forecaster
        Of the graph's nodes, like any other; its notes say where the weights are from, and warn if
        the calibration had to be taken over, too.

    Raises
    ------
    CheckpointError
        The model has parameters that belong to nodes, which the message lists, or the graph has
        other features or another step.
    InputError
        Too little history, a `split` of other windows, or `holidays` is missing in another zone.
    """
    _check_kind(forecaster, graph)
    prepared = _prepare(forecaster, graph, fractions, split, holidays)
    inputs, tuning = prepared.inputs, prepared.tuning
    predictor = _take_over(forecaster, inputs, prepared.layout)
    old = _single(forecaster)
    if len(tuning) and not predictor.is_point:
        predictor.trust.copy_(choose_trust(predictor, tuning))
    else:
        predictor.trust.copy_(old.trust)
    calibration = calibrate(predictor, forecaster.head, tuning, inputs)
    calibration, n_kept = _fill(calibration, forecaster.calibration, tuning)
    fitted_until, tuned_until = instants(graph, prepared.split)
    return replace(
        forecaster,
        inputs=inputs,
        predictor=predictor.eval(),
        calibration=calibration,
        node_ids=graph.node_ids,
        layout=prepared.layout,
        fitted_until=fitted_until,
        tuned_until=tuned_until,
        notes=_notes(forecaster, n_kept),
    )


def parameters_per_node(forecaster: Forecaster) -> dict[str, tuple[int, ...]]:
    """Return the parameters of a fitted model that belong to nodes or places, with their shapes.

    They are those whose shape changes with one more node.
    """
    same = _build(forecaster, forecaster.inputs, forecaster.layout)
    ours = same.model.state_dict()
    more = _build(forecaster, forecaster.inputs, _one_more(forecaster.layout))
    theirs = more.model.state_dict()
    return {
        name: tuple(value.shape)
        for name, value in ours.items()
        if name not in theirs or theirs[name].shape != value.shape
    }


def _single(forecaster: Forecaster) -> Predictor:
    """Return the predictor of one model; refuse a blend of several."""
    if not isinstance(forecaster.predictor, Predictor):
        names = sorted({member.name for member in forecaster.members})
        raise CheckpointError(
            f"{forecaster.model} is made of {names}; take one of them over, fitted by itself"
        )
    return forecaster.predictor


def _check_kind(forecaster: Forecaster, graph: STGraph) -> None:
    """Refuse a graph whose signal is of another kind than the model was fitted on."""
    report = Report()
    ours, theirs = forecaster.inputs.features, graph.features
    if ours != theirs:
        here, there = (
            ", ".join(f"{f.name} [{f.unit}] {f.role}" for f in features)
            for features in (theirs, ours)
        )
        report.error("`features`", f"{here}; fitted on {there}", "give the same, in this order")
    if graph.step != forecaster.inputs.step:
        report.error("`time`", f"step {graph.step}, fitted on {forecaster.inputs.step}", "resample")
    report.raise_errors(
        CheckpointError, title=f"this {forecaster.model} cannot be taken over to the graph"
    )


def _prepare(
    forecaster: Forecaster,
    graph: STGraph,
    fractions: tuple[float, float, float],
    split: Split | None,
    holidays: str | None,
) -> Prepared:
    """Fit the inputs to the new graph, with the calendar that the model knows."""
    old = forecaster.inputs
    if holidays is None and old.holidays is not None and graph.zone != old.zone:
        raise InputError(
            f"the model knows the holidays of {old.holidays!r} in {old.zone}; give `holidays` for "
            f"{graph.zone}"
        )
    if split is not None and (split.window, split.horizon) != (old.window, old.horizon):
        raise InputError(
            f"`split` has window {split.window} and horizon {split.horizon}, the model was fitted "
            f"for {old.window} and {old.horizon}"
        )
    prepared = prepare(
        graph,
        window=old.window,
        horizon=old.horizon,
        fractions=fractions,
        scaler=old.scaler.kind,  # type: ignore[arg-type]  # it was one of them
        holidays=holidays or old.holidays,
        use_filled=old.use_filled,
        use_seasons=old.use_seasons,
        split=split,
    )
    inputs = replace(prepared.inputs, calendar=old.calendar)
    tuning = Windows(Source(graph, inputs), prepared.tuning.starts)
    return replace(prepared, inputs=inputs, tuning=tuning)


def _take_over(forecaster: Forecaster, inputs: Inputs, layout: Layout) -> Predictor:
    """Return a predictor for new inputs with the weights of an old one."""
    predictor = _build(forecaster, inputs, layout)
    ours = _single(forecaster).state_dict()
    owned = {f"model.{name}": shape for name, shape in parameters_per_node(forecaster).items()}
    forgotten: frozenset[str] = getattr(_single(forecaster).model, "can_forget", frozenset())
    kept = [name for name in owned if name.split(".")[-1] not in forgotten]
    if kept:
        raise CheckpointError(_refusal(forecaster, {name: owned[name] for name in kept}))
    state: dict[str, Tensor] = {}
    for name, new in predictor.state_dict().items():
        if name in owned:
            state[name] = torch.zeros_like(new)
        else:
            state[name] = new if name in _FITTED_HERE else ours[name]
    predictor.load_state_dict(state)
    return predictor.eval()


def _build(forecaster: Forecaster, inputs: Inputs, layout: Layout) -> Predictor:
    """Return an untrained predictor of the same kind; no random state moves."""
    with torch.random.fork_rng(devices=[]):
        return build_predictor(
            forecaster.model, forecaster.options, inputs, layout=layout, head=forecaster.head
        )


def _refusal(forecaster: Forecaster, owned: Mapping[str, tuple[int, ...]]) -> str:
    """Return why a model runs on its own nodes only, and what to do."""
    listed = ", ".join(
        f"{name.removeprefix('model.')} {' x '.join(map(str, shape))}"
        for name, shape in owned.items()
    )
    fields = type(read_options(forecaster.model, {})).model_fields
    options = [f"{name}=0" for name in _MAKE_IT_RUN if name in fields]
    advice = f"fit it with {' and '.join(options)}" if options else "choose another model"
    return (
        f"this {forecaster.model} runs on its own {len(forecaster.node_ids)} nodes only: it has "
        f"parameters that belong to them ({listed}); {advice}"
    )


def _one_more(layout: Layout) -> Layout:
    """Return a layout with one more node, where no other one is."""
    xyz, cells = layout.xyz, layout.cells
    if xyz is not None:
        beyond = np.nan_to_num(np.nanmax(xyz, axis=0, initial=0.0)) + np.float32(1)
        xyz = np.concatenate([xyz, beyond[None]]).astype(np.float32)
    if cells is not None:
        cells = np.concatenate([cells, cells.max(axis=0, initial=0)[None] + [1, 0]])
    return Layout(layout.n_nodes + 1, xyz, cells)


def _fill(new: Calibration, old: Calibration, tuning: Windows) -> tuple[Calibration, int]:
    """Return the new calibration, the old one where there was too little to fit it to."""
    enough = _observations(tuning) >= _MIN_OBSERVATIONS  # (H, C)
    parts: dict[str, Any] = {}
    for name in Calibration.__dataclass_fields__:
        ours, theirs = getattr(new, name), getattr(old, name)
        wide = enough.reshape(enough.shape + (1,) * (ours.ndim - 2))
        parts[name] = np.where(wide, ours, theirs).astype(np.float32)
    return Calibration(**parts), int((~enough).sum())


def _observations(tuning: Windows) -> IntArray:
    """Return how many targets were observed in some windows, per horizon and target."""
    inputs, mask = tuning.source.inputs, tuning.source.graph.mask
    seen = mask[..., inputs.targets].sum(axis=1)  # (T, C)
    steps = (
        tuning.starts[:, None] + inputs.window + np.arange(inputs.horizon)
    )  # (windows, horizons)
    return np.asarray(seen[steps].sum(axis=0), dtype=np.int64)


def _notes(forecaster: Forecaster, n_kept: int) -> dict[str, Any]:
    """Return what to know about a model that was taken over."""
    origin = {
        "n_nodes": len(forecaster.node_ids),
        "zone": forecaster.inputs.zone,
        "fitted_until": forecaster.fitted_until.isoformat(),
    }
    notes = {**forecaster.notes, "transferred_from": origin}
    notes.pop("warning", None)
    if n_kept:
        notes["warning"] = (
            f"{n_kept} of {forecaster.inputs.horizon * len(forecaster.inputs.targets)} horizons "
            "have the calibration of the nodes that the model was fitted on: the validation part "
            f"has fewer than {_MIN_OBSERVATIONS} observations there, so the quantiles may be off"
        )
    return notes
