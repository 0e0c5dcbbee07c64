"""Fill what was not observed; the mask keeps saying what was.

Which methods look ahead, that is, use values observed after the gap:

- linear interpolation does, its causal form (last observation carried forward) does not;
- seasonal medians do within the steps they are fitted on, and not after them;
- the bridge does both; its causal form looks ahead within the fitted steps only;
- the mean of the neighbours at the same step does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np
from scipy.sparse import coo_array, csr_array

from stgraph.errors import InputError, UnknownNameError, nearest_name
from stgraph.graph import BoolArray, FloatArray, STGraph
from stgraph.preprocessing._bridge import fit_bridge, supports
from stgraph.preprocessing._changes import (
    check_whole,
    describe_places,
    steps_to_fit,
    with_changes,
)
from stgraph.preprocessing._days import build_day_grid, step_of
from stgraph.preprocessing._seasons import Recipe, SeasonChoice, choose_season, fit_table
from stgraph.preprocessing.profiles import Profile
from stgraph.report import Report

Method = Literal["linear", "seasonal", "bridge", "neighbours"]

_PIECE_VALUES = 2_000_000  # values worked on at once
_SHORTEST_M = 1.0  # nearer neighbours than this weigh as much as one at this distance

# fills NaN in a (T, N) array of one feature in place
_Filler = Callable[[FloatArray, int], None]


def fill_gaps(
    graph: STGraph,
    *,
    methods: Sequence[Method] = ("linear", "seasonal", "neighbours"),
    max_steps: int | None = 6,
    season: SeasonChoice = "week",
    causal: bool = False,
    fit_steps: slice | None = None,
) -> STGraph:
    """Fill gaps by several methods, each where those before it could not.

    Only features of role target or observed are filled, and every method looks at observed
    values only, never at those another method filled.

    Parameters
    ----------
    graph
        Any graph; a gap is a value that is no number.
    methods
        In order: ``linear`` (`fill_linear`), ``seasonal`` (`fill_seasonal`), ``neighbours``
        (`fill_neighbour_mean`), ``bridge`` (`fill_bridge`, which alone mostly does better than
        the first two).
    max_steps
        Longest gap for the linear method, in steps. None means any.
    season
        Season of the seasonal method and the bridge.
    causal
        Use no value after the gap. The seasonal method and the bridge then need `fit_steps`,
        after which they do not look ahead.
    fit_steps
        Steps that the usual levels are taken from, such as ``split.train_steps``. None means all.

    Returns
    -------
    STGraph
        Same mask, gaps filled; `report` says how many by which method and what is left.

    Raises
    ------
    UnknownNameError
        A method that does not exist.
    InputError
        Options that do not fit the graph.
    """
    known = get_args(Method)
    for method in methods:
        if method not in known:
            hint = nearest_name(method, known)
            raise UnknownNameError(f"no gap method is called {method!r}{hint}; use {list(known)}")
    if not methods:
        raise InputError(f"`methods` is empty; use some of {list(known)}")
    if causal and {"seasonal", "bridge"} & set(methods) and fit_steps is None:
        raise InputError(
            "`causal` with 'seasonal' or 'bridge' needs `fit_steps`, else the usual levels would "
            "look ahead"
        )
    fillers: dict[str, _Filler] = {}
    for method in methods:
        if method == "linear":
            fillers |= _linear(graph, max_steps=max_steps, causal=causal)
        elif method == "seasonal":
            fillers |= _seasonal(graph, season=season, fit_steps=fit_steps)
        elif method == "bridge":
            fillers |= _bridge(graph, season=season, causal=causal, fit_steps=fit_steps)
        else:
            fillers |= _neighbours(graph)
    filled = _fill(graph, fillers)
    return filled.replace(provenance={**filled.provenance, "gaps_look_ahead": not causal})


def fill_linear(graph: STGraph, *, max_steps: int | None = None, causal: bool = False) -> STGraph:
    """Fill gaps between two observed values of a node by a straight line in time.

    Looks ahead to the end of the gap, except with `causal`.

    Parameters
    ----------
    graph
        Any graph; a gap is a value that is no number, in a feature of role target or observed.
    max_steps
        Longer gaps are left as they are, none is filled in part. None means any length. With
        `causal`, how many steps an observation is carried on.
    causal
        Carry the last observation forward instead: a step then depends on earlier ones only.

    Returns
    -------
    STGraph
        Same mask. Gaps at the beginning (and, unless `causal`, at the end) stay; see `report`.

    Raises
    ------
    InputError
        `max_steps` is no whole number of at least 1.
    """
    return _fill(graph, _linear(graph, max_steps=max_steps, causal=causal))


def fill_seasonal(
    graph: STGraph, *, season: SeasonChoice = "week", fit_steps: slice | None = None
) -> STGraph:
    """Fill gaps by the median of what the node showed at the same local time of day or week.

    Looks ahead within `fit_steps` (the medians know all of these), not after them.

    Parameters
    ----------
    graph
        At least two steps; its zone says what local time is, so clock changes shift nothing.
    season
        ``week``; ``day_type`` (working day or weekend) or ``day``; ``auto`` takes what predicts
        left-out days best. Where a slot was never observed, the next coarser one is taken.
    fit_steps
        Steps whose observed values count, such as ``split.train_steps``. None means all.

    Returns
    -------
    STGraph
        Same mask. Gaps of nodes never observed at that time of day stay; see `report`.

    Raises
    ------
    InputError
        Unknown season, or `fit_steps` without steps.
    """
    return _fill(graph, _seasonal(graph, season=season, fit_steps=fit_steps))


def fill_bridge(
    graph: STGraph,
    *,
    season: SeasonChoice = "auto",
    causal: bool = False,
    fit_steps: slice | None = None,
) -> STGraph:
    """Fill gaps by the usual level plus the deviation observed beside the gap, fading inwards.

    A short gap becomes a line that bends as the usual day does, a long one becomes the usual day.
    How fast a deviation fades is the autocorrelation of deviations in the data. Looks ahead to
    the end of the gap (not with `causal`), and within `fit_steps`.

    Parameters
    ----------
    graph
        At least two steps; its zone says what local time is.
    season
        Season of the usual level, as `fit_profile` takes it.
    causal
        Use the deviation before the gap only.
    fit_steps
        Steps that usual levels and autocorrelation are taken from, such as
        ``split.train_steps``. None means all.

    Returns
    -------
    STGraph
        Same mask, nothing outside the range observed. Nodes never observed stay; see `report`.

    Raises
    ------
    InputError
        Unknown season, or `fit_steps` without steps.

    Notes
    -----
    Simple kriging in time with the two nearest observations (one with `causal`).
    """
    return _fill(graph, _bridge(graph, season=season, causal=causal, fit_steps=fit_steps))


def fill_neighbour_mean(graph: STGraph) -> STGraph:
    """Fill gaps by the weighted mean of the in-neighbours observed at the same step.

    Does not look ahead. Levels of neighbours are taken as they are: meant for speeds,
    temperatures and the like, less for counts that differ from place to place.

    Parameters
    ----------
    graph
        Edge weights are similarities (`weight_unit` ``"1"``, those above 0 count), or lengths in
        metres (``"m"``), which weigh 1 / length. A loop from a node to itself does not count.

    Returns
    -------
    STGraph
        Same mask. Gaps without an observed neighbour stay; see `report`.

    Raises
    ------
    InputError
        The graph has no edges, or weights of another unit.
    """
    return _fill(graph, _neighbours(graph))


def _fill(graph: STGraph, fillers: dict[str, _Filler]) -> STGraph:
    """Apply fillers in order to every feature that is measured, and report."""
    report = Report()
    values = np.array(graph.values)  # a copy in memory, also of a memory map
    for position in graph.feature_positions("target", "observed"):
        where = f"feature {graph.features[position].name!r}"
        part = values[..., position]
        gaps = ~np.isfinite(part)
        if not gaps.any():
            report.info(where, "has no gaps", "nothing was filled", count=0)
            continue
        for label, filler in fillers.items():
            filler(part, position)
            left = ~np.isfinite(part)
            done = gaps & ~left
            if done.any():
                places = describe_places(graph, done)
                count = int(done.sum())
                report.info(where, f"filled {count} value(s) by {label}", places, count=count)
            gaps = left
        if gaps.any():
            count = int(gaps.sum())
            places = describe_places(graph, gaps)
            report.warning(where, f"{count} value(s) could not be filled", places, count=count)
    return with_changes(graph, report, values=values)


def _linear(graph: STGraph, *, max_steps: int | None, causal: bool) -> dict[str, _Filler]:
    """Return the filler by a line in time, or by the last observation."""
    check_whole("max_steps", max_steps)
    longest = graph.n_steps if max_steps is None else max_steps

    def fill(part: FloatArray, position: int) -> None:
        for nodes in _node_blocks(part):
            block = part[:, nodes]
            known = graph.mask[:, nodes, position]
            (_carry if causal else _interpolate)(block, known, longest)

    return {"the last observation" if causal else "linear interpolation": fill}


def _interpolate(block: FloatArray, known: BoolArray, longest: int) -> None:
    """Fill gaps of at most `longest` steps between known values of a (T, n) block."""
    before, after = supports(known)
    inside = (before >= 0) & (after < len(block)) & (after - before - 1 <= longest)
    step, node = np.nonzero(inside & ~np.isfinite(block))
    start, stop = before[step, node], after[step, node]
    share = (step - start) / (stop - start)
    block[step, node] = (1 - share) * block[start, node] + share * block[stop, node]


def _carry(block: FloatArray, known: BoolArray, longest: int) -> None:
    """Fill at most `longest` steps after a known value of a (T, n) block with that value."""
    steps = np.arange(len(block))[:, None]
    before, _ = supports(known)
    inside = (before >= 0) & (steps - before <= longest)
    step, node = np.nonzero(inside & ~np.isfinite(block))
    block[step, node] = block[before[step, node], node]


def _seasonal(
    graph: STGraph, *, season: SeasonChoice, fit_steps: slice | None
) -> dict[str, _Filler]:
    """Return the filler by medians at the same local time."""
    chosen = steps_to_fit(graph, fit_steps) if graph.n_steps else slice(0, 0)
    recipe = Recipe(shrinkage=0, smooth=0)

    def fill(part: FloatArray, position: int) -> None:
        step = step_of(graph.time)
        values = graph.values[chosen, :, position, None]
        mask = graph.mask[chosen, :, position, None]
        grid = build_day_grid(graph.time[chosen], graph.zone, step)
        found, _ = choose_season(values, mask, grid, recipe, season)
        table = fit_table(values, mask, grid, recipe, found, complete=False)
        slots = Profile(table, found, graph.zone, step).slots(graph.time)
        for steps in _step_blocks(part):
            gaps = ~np.isfinite(part[steps])
            part[steps][gaps] = table[slots[steps], :, 0][gaps]

    return {f"the median of the same local time ({season})": fill}


def _bridge(
    graph: STGraph, *, season: SeasonChoice, causal: bool, fit_steps: slice | None
) -> dict[str, _Filler]:
    """Return the filler by the usual level and the deviations beside the gap."""
    chosen = steps_to_fit(graph, fit_steps) if graph.n_steps else slice(0, 0)

    def fill(part: FloatArray, position: int) -> None:
        bridge = fit_bridge(graph, position, chosen, season)
        for nodes in _node_blocks(part):
            known = graph.mask[:, nodes, position]
            bridge.fill(part[:, nodes], known, nodes, causal=causal)

    return {"the usual level and the deviation beside the gap": fill}


def _neighbours(graph: STGraph) -> dict[str, _Filler]:
    """Return the filler by the in-neighbours at the same step."""
    weights = _neighbour_weights(graph)

    def fill(part: FloatArray, position: int) -> None:
        for steps in _step_blocks(part):
            gappy = np.flatnonzero(~np.isfinite(part[steps]).all(axis=1)) + steps.start
            known = graph.mask[gappy, :, position]
            observed = np.where(known, graph.values[gappy, :, position], 0)
            total = (weights @ observed.T.astype(np.float64)).T
            weight = (weights @ known.T.astype(np.float64)).T
            block = part[gappy]
            usable = ~np.isfinite(block) & (weight > 0)
            block[usable] = total[usable] / weight[usable]
            part[gappy] = block

    return {"the mean of the neighbours": fill}


def _neighbour_weights(graph: STGraph) -> csr_array:
    """Return how much every source counts for every target, (target, source)."""
    source, target = graph.edge_index
    if graph.n_edges == 0:
        raise InputError("the graph has no edges, so no neighbours; build some or drop the method")
    if graph.weight_unit not in ("1", "m"):
        raise InputError(
            f"`weight_unit` is {graph.weight_unit!r}; neighbours can be weighted by '1' "
            "(similarity) or 'm' (length)"
        )
    weight = graph.edge_weight.astype(np.float64)
    if graph.weight_unit == "m":
        weight = 1 / np.maximum(weight, _SHORTEST_M)
    counts = (weight > 0) & (source != target)
    shape = (graph.n_nodes, graph.n_nodes)
    return coo_array((weight[counts], (target[counts], source[counts])), shape=shape).tocsr()


def _node_blocks(part: FloatArray) -> Iterator[slice]:
    """Yield slices of nodes that together have a bounded number of values."""
    width = max(1, _PIECE_VALUES // max(1, len(part)))
    for start in range(0, part.shape[1], width):
        yield slice(start, start + width)


def _step_blocks(part: FloatArray) -> Iterator[slice]:
    """Yield slices of steps that together have a bounded number of values."""
    rows = max(1, _PIECE_VALUES // max(1, part.shape[1]))
    for start in range(0, len(part), rows):
        yield slice(start, start + rows)
