"""What a model is shown: everything fitted on the training steps that turns a graph into inputs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from stgraph.errors import InputError
from stgraph.graph import BoolArray, Feature, FloatArray, IntArray, STGraph
from stgraph.preprocessing.calendar import build_calendar, local_day
from stgraph.preprocessing.profiles import Profile, fit_profile, leave_day_out
from stgraph.preprocessing.scalers import Scaler, fit_scaler

_RECENT_SEASONS = 4  # how many past weeks the recent level is averaged over
_MIN_WEEKS = 2.0  # training span that a weekly lag needs
_ZERO = pd.Timedelta(0)
_DAY = pd.Timedelta(days=1)
_WEEK = pd.Timedelta(days=7)
_MIN_CALENDAR_DAYS = 6  # days of a kind before a model is told of the kind
_ANCHOR_POOLING = 0.5  # weight of all nodes together against the node itself
_ANCHOR_WINDOWS = 2000  # training windows that the anchor's coefficients are fitted on
_SPREAD_WINDOWS = 64  # training windows that its spread is measured on, about
_VALUES_AT_ONCE = 4_000_000  # steps x nodes that are gathered at once where nobody says how many


def _nothing() -> FloatArray:
    """Return the value of fields that are fitted last."""
    return np.zeros((0, 0), dtype=np.float32)


@dataclass(frozen=True)
class Inputs:
    """How a graph becomes the channels of `x` and `u`; fitted once, saved with the model.

    Channels of `x` (past): C scaled targets (gaps filled by the last observation), C observed bits,
    C expected levels, then the other features. Channels of `u` (future): C expected levels, C
    profile levels, C values of one season ago, the known-future features, then the calendar.

    The expected level mixes the node's profile (median by local time of day or week) and its
    recent level (mean of the same time in the last weeks before the forecast is issued).
    """

    window: int  # W, input steps
    horizon: int  # H, output steps
    features: tuple[Feature, ...]
    zone: str
    step: pd.Timedelta
    scaler: Scaler  # (1 or N, F)
    lower: FloatArray  # (C,) forecasts are cut off here: 0 where no reading was below it
    profile: Profile | None = None
    season_steps: int = 0  # a week or a day in steps; 0 = it has no season, or none is read
    profile_share: float = 1.0  # expected = share * profile + (1 - share) * recent
    length_scale: float | None = None  # metres over which neighbours by length matter; see windows
    holidays: str | None = None
    use_filled: bool = False  # read values that preprocessing put into gaps, as past inputs only
    use_seasons: bool = True  # read earlier weeks, where there are any
    calendar: tuple[str, ...] = ()  # columns of the calendar that training has seen often enough
    decay: FloatArray = field(default_factory=_nothing)  # (H, N, C) share left of a deviation
    spread: FloatArray = field(default_factory=_nothing)  # (H, C) 80 % of residuals are smaller

    @property
    def targets(self) -> list[int]:
        """Positions of the C target features."""
        return [i for i, feature in enumerate(self.features) if feature.role == "target"]

    @property
    def others(self) -> list[int]:
        """Positions of the features that are seen in the past only."""
        return [i for i, f in enumerate(self.features) if f.role in ("observed", "static")]

    @property
    def known(self) -> list[int]:
        """Positions of the features whose future is known."""
        return [i for i, f in enumerate(self.features) if f.role == "known_future"]

    @property
    def n_past(self) -> int:
        """Channels of `x`."""
        return 3 * len(self.targets) + len(self.others) + len(self.known)

    @property
    def n_future(self) -> int:
        """Channels of `u`."""
        return 3 * len(self.targets) + len(self.known) + len(self.calendar)

    @property
    def reach(self) -> int:
        """Steps before a forecast that it can look at: the window, and weeks before its start."""
        return self.window + _RECENT_SEASONS * self.season_steps

    def windows_at_once(self, n_nodes: int, *, most: int = 64) -> int:
        """Return how many windows of a graph of N nodes to hold at once: fewer of large ones."""
        return max(1, min(most, _VALUES_AT_ONCE // max(1, n_nodes * (self.window + self.horizon))))

    def target_scale(self) -> tuple[FloatArray, FloatArray]:
        """Return center and scale of the targets, each (1 or N, C)."""
        return self.scaler.center[:, self.targets], self.scaler.scale[:, self.targets]


@dataclass(frozen=True)
class Arrays:
    """The inputs of some windows as arrays, in scaled units where not said otherwise."""

    x: FloatArray  # (B, W, N, F)
    u: FloatArray  # (B, H, N, K)
    y: FloatArray  # (B, H, N, C) in input units, 0 where not observed
    y_mask: BoolArray  # (B, H, N, C)


class Source:
    """One graph seen through fitted `Inputs`: gathers whole batches of windows by index.

    Parameters
    ----------
    graph
        The signal; nothing of it is copied.
    inputs
        Fitted on the training steps.
    left_out
        (S, N, C) profile of the first S steps that leaves out each step's own day, as training
        needs it. None outside training.
    """

    def __init__(
        self, graph: STGraph, inputs: Inputs, *, left_out: FloatArray | None = None
    ) -> None:
        self.graph = graph
        self.inputs = inputs
        self._left_out = left_out
        step = inputs.step
        time = pd.date_range(graph.time[0], periods=graph.n_steps + inputs.horizon, freq=step)
        self._slots = None if inputs.profile is None else inputs.profile.slots(time)
        table, names = build_calendar(time, inputs.zone, holidays=inputs.holidays)
        self._calendar = table[:, [names.index(name) for name in inputs.calendar]]
        self._center, self._scale = inputs.target_scale()

    def gather(self, starts: IntArray) -> Arrays:
        """Return the windows that start at some steps, all at once."""
        inputs, graph = self.inputs, self.graph
        past = starts[:, None] + np.arange(inputs.window)
        ahead = past[:, -1:] + 1 + np.arange(inputs.horizon)
        values, mask = self._read(past)
        expected_past = self.levels(past, starts + inputs.window)[0]
        levels_ahead = self.levels(ahead, starts + inputs.window)

        targets = inputs.targets
        filled = self._fill(past, values[..., targets], mask[..., targets], expected_past)
        observed = mask[..., targets].astype(np.float32)
        x = [self._scaled(filled), observed, self._scaled(expected_past)]
        side = inputs.others + inputs.known
        if side:
            whole = np.where(mask, values, inputs.scaler.center)
            x.append(inputs.scaler.transform(whole)[..., side])

        u = [self._scaled(level) for level in levels_ahead]
        future, future_mask = self._read(ahead)
        if inputs.known:
            self._check_known(ahead, future_mask)
            u.append(inputs.scaler.transform(future)[..., inputs.known])
        shape = (*ahead.shape, graph.n_nodes, self._calendar.shape[1])
        u.append(np.broadcast_to(self._calendar[ahead][:, :, None], shape))

        y, y_mask = future[..., targets], future_mask[..., targets]
        return Arrays(np.concatenate(x, -1), np.concatenate(u, -1), y, y_mask)

    def levels(self, steps: IntArray, issued: IntArray) -> tuple[FloatArray, ...]:
        """Return what to expect at some steps without looking at the last hours, in input units.

        Parameters
        ----------
        steps
            (B, S) positions on the time axis, may lie up to H behind its end.
        issued
            (B,) first step that is not known yet when the forecast is made.

        Returns
        -------
        tuple
            Expected level, profile level, and value of one season ago; each (B, S, N, C).
        """
        inputs = self.inputs
        if inputs.profile is None or self._slots is None:
            shape = (*steps.shape, self.graph.n_nodes, len(inputs.targets))
            profile = np.broadcast_to(self._center, shape).astype(np.float32)
        else:
            profile = inputs.profile.table[self._slots[steps]]
        if self._left_out is not None:
            inside = steps < len(self._left_out)
            own = self._left_out[np.minimum(steps, len(self._left_out) - 1)]
            profile = np.where(inside[..., None, None], own, profile)
        if not inputs.season_steps:
            return profile, profile, profile
        share = np.float32(inputs.profile_share)
        n_seasons = _RECENT_SEASONS if share < 1 else 1
        recent, last_season = self._recent(steps, issued, profile, n_seasons)
        return share * profile + (1 - share) * recent, profile, last_season

    def _recent(
        self, steps: IntArray, issued: IntArray, fallback: FloatArray, n_seasons: int
    ) -> tuple[FloatArray, FloatArray]:
        """Return the mean over the last seasons known when issued, and the last of them."""
        total = np.zeros_like(fallback)
        count = np.zeros_like(fallback)
        season, targets = self.inputs.season_steps, self.inputs.targets
        # a horizon longer than a season starts at the first lag that is known
        first = np.maximum(1, -(-(steps - issued[:, None] + 1) // season))
        newest = fallback
        for k in range(n_seasons):
            lagged = steps - (first + k) * season
            values, mask = self._read(np.where(lagged >= 0, lagged, self.graph.n_steps))
            total += values[..., targets]  # 0 where nothing is known
            count += mask[..., targets]
            if k == 0:
                newest = np.where(mask[..., targets], values[..., targets], fallback)
        return np.where(count > 0, total / np.maximum(count, 1), fallback), newest

    def _fill(
        self, past: IntArray, values: FloatArray, mask: BoolArray, expected: FloatArray
    ) -> FloatArray:
        """Fill gaps by what preprocessing put there, else by the last reading of the window."""
        if mask.all() or not self.inputs.use_filled:
            return _carry_forward(values, mask, expected)
        given = self.graph.values[past][..., self.inputs.targets]
        known = np.isfinite(given)  # a filled gap is finite, but not observed
        return _carry_forward(np.where(known, given, np.float32(0)), known, expected)

    def _read(self, steps: IntArray) -> tuple[FloatArray, BoolArray]:
        """Return values (0 where unknown) and mask at some steps; nothing behind the end."""
        inside = steps < self.graph.n_steps
        position = np.minimum(steps, self.graph.n_steps - 1)
        mask = self.graph.mask[position] & inside[..., None, None]
        return np.where(mask, self.graph.values[position], np.float32(0)), mask

    def _scaled(self, values: FloatArray) -> FloatArray:
        """Return target values in scaled units."""
        return (values - self._center) / self._scale

    def _check_known(self, ahead: IntArray, mask: BoolArray) -> None:
        """Refuse to forecast when a known-future feature is not known for the future."""
        for position in self.inputs.known:
            missing = ~mask[..., position]
            if missing.any():
                step = int(ahead[np.nonzero(missing)[:2]][0])
                time = self.graph.time[0] + step * self.inputs.step
                raise InputError(
                    f"feature {self.inputs.features[position].name!r} has role known_future but "
                    f"no value at {time}; fill it in, or append rows with its future values"
                )


def fit_inputs(
    graph: STGraph,
    *,
    window: int,
    horizon: int,
    train_steps: int,
    scaler: str = "standard",
    per_node: bool = True,
    use_profile: bool = True,
    use_filled: bool = False,
    use_seasons: bool = True,
    holidays: str | None = None,
) -> tuple[Inputs, Source]:
    """Fit scaler, profile and anchor on the first steps of a graph.

    Parameters
    ----------
    graph
        Signal with at least one target feature.
    window, horizon
        W input steps and H output steps.
    train_steps
        Number of leading steps that may be looked at.
    scaler
        ``standard``, ``minmax`` or ``robust``.
    per_node
        Scale every node by its own numbers.
    use_profile
        Fit a profile by local time of day or week.
    use_filled
        Read finite values that the mask calls unobserved as past inputs: what `fill_gaps` put
        there. They never become targets, and nothing is fitted on them.
    use_seasons
        Show the same time of earlier weeks (of the last day, where training is short) as well; off,
        a forecast reads its window and nothing before it.
    holidays
        Country or country-subdivision code whose holidays become calendar inputs.

    Returns
    -------
    tuple
        The fitted inputs, and the graph seen through them as training sees it: with the profile
        that leaves out each step's own day.
    """
    step = graph.step
    if step is None:
        raise InputError("the graph has no time step; at least two instants are needed")
    if use_filled and graph.provenance.get("gaps_look_ahead"):
        raise InputError(
            "`use_filled` would show the future: the gaps were filled from later readings; "
            "use fill_gaps(..., causal=True)"
        )
    seen = graph.select_steps(0, train_steps)
    targets = graph.feature_positions("target")
    if not targets:
        raise InputError("no feature has role 'target'; mark the one to forecast")
    own = _columns(targets)
    values, mask = seen.values[..., own], seen.mask[..., own]
    _check_targets(graph, mask, targets)
    inputs = Inputs(
        window=window,
        horizon=horizon,
        features=graph.features,
        zone=graph.zone,
        step=step,
        scaler=fit_scaler(scaler, seen.values, seen.mask, per_node=per_node),
        lower=_lower_bounds(values, mask),
        length_scale=fit_length_scale(graph),
        holidays=holidays,
        use_filled=use_filled,
        use_seasons=use_seasons,
        calendar=known_calendar(seen.time, graph.zone, holidays),
    )
    left_out: FloatArray | None = None
    long_enough = seen.n_steps * step >= 2 * _DAY > 2 * step
    if use_profile and long_enough and _has_two_days(seen, mask):
        profile = fit_profile(values, mask, seen.time, graph.zone)
        left_out = leave_day_out(
            values, mask, seen.time, graph.zone, season=profile.season, smooth=profile.smooth
        )
        inputs = replace(inputs, profile=profile)
    if use_seasons:
        inputs = replace(inputs, season_steps=_season_steps(step, seen.n_steps))
    if inputs.profile is not None and inputs.season_steps * step == _WEEK:
        inputs = replace(inputs, profile_share=_best_share(graph, inputs, train_steps))
    source = Source(graph, inputs, left_out=left_out)
    decay, spread = _fit_anchor(source, train_steps)
    inputs = replace(inputs, decay=decay, spread=spread)
    return inputs, Source(graph, inputs, left_out=left_out)


def _columns(positions: list[int]) -> slice | list[int]:
    """Return positions as a slice where they are neighbours, so that nothing is copied."""
    first, last = positions[0], positions[-1]
    return slice(first, last + 1) if positions == list(range(first, last + 1)) else positions


def fit_length_scale(graph: STGraph) -> float | None:
    """Return the scale in metres of the kernel that makes lengths of edges similarities.

    None where edges are no lengths, or there are none.
    """
    weight = graph.edge_weight
    if graph.weight_unit != "m" or not len(weight):
        return None
    # edges of nearly equal length deviate so little that every weight would vanish
    return float(max(weight.std(), weight.mean() / 2)) or 1.0


def _check_targets(graph: STGraph, mask: BoolArray, targets: list[int]) -> None:
    """Refuse targets that were never observed in the training steps."""
    for column, position in enumerate(targets):
        if not mask[..., column].any():
            raise InputError(
                f"target {graph.features[position].name!r} has no observation in the training "
                "steps; give more data or choose another target"
            )


def _has_two_days(seen: STGraph, mask: BoolArray) -> bool:
    """Tell whether every target was observed on two local days, so that one can be left out."""
    day = local_day(seen.time, seen.zone)
    columns = [mask[..., c].any(axis=1) for c in range(mask.shape[2])]
    return all(len(np.unique(day[column])) >= 2 for column in columns)


def _lower_bounds(values: FloatArray, mask: BoolArray) -> FloatArray:
    """Return 0 for targets that are never negative, else minus infinity."""
    lowest = values.min(axis=(0, 1), where=mask, initial=np.inf)
    return np.where(lowest >= 0, 0.0, -np.inf).astype(np.float32)


def known_calendar(time: pd.DatetimeIndex, zone: str, holidays: str | None) -> tuple[str, ...]:
    """Return the calendar columns that the training steps can teach anything about.

    A weekday or holiday that was seen on a day or two says more about those days than about its
    kind, and a model that learned them by heart is lost on the next one.
    """
    table, names = build_calendar(time, zone, holidays=holidays)
    n_days = len(time) * (time[1] - time[0]) / _DAY
    days = ((time - time[0]) // _DAY).to_numpy()
    known = []
    for column, name in enumerate(names):
        if name.startswith(("day_sin", "day_cos")):
            enough = n_days >= 2
        elif name.startswith("week_"):
            enough = n_days >= _MIN_CALENDAR_DAYS * 7
        else:
            enough = len(np.unique(days[table[:, column] > 0])) >= _MIN_CALENDAR_DAYS
        if enough:
            known.append(name)
    return tuple(known)


def _season_steps(step: pd.Timedelta, n_steps: int) -> int:
    """Return a week in steps, or a day where the training span is too short for weeks, or 0."""
    for season, n_needed in ((_WEEK, _MIN_WEEKS), (_DAY, 1.0)):
        if season > step and season % step == _ZERO and n_steps * step >= n_needed * season:
            return int(season / step)
    return 0


def _best_share(graph: STGraph, inputs: Inputs, train_steps: int) -> float:
    """Return the profile's share that would have served best in the last fifth of training."""
    cut = int(train_steps * 0.8)
    early, late = graph.select_steps(0, cut), graph.select_steps(cut, train_steps)
    own = _columns(inputs.targets)
    if not late.mask[..., own].any() or not early.mask[..., own].any(axis=(0, 1)).all():
        return 1.0
    profile = fit_profile(early.values[..., own], early.mask[..., own], early.time, graph.zone)
    source = Source(graph, replace(inputs, profile=profile, profile_share=0.0))
    shares = np.linspace(0, 1, 5)
    errors = np.zeros(len(shares))
    later = np.arange(cut, train_steps)[:, None]
    for steps in np.array_split(later, max(1, later.size * graph.n_nodes // _VALUES_AT_ONCE)):
        recent, level, _ = source.levels(steps, steps[:, 0])
        truth, mask = graph.values[steps][..., own], graph.mask[steps][..., own]
        for k, share in enumerate(shares):
            gap = np.abs(share * level + (1 - share) * recent - truth)
            errors[k] += gap.sum(where=mask, dtype=np.float64)
    return float(shares[int(np.argmin(errors))])


def _fit_anchor(source: Source, train_steps: int) -> tuple[FloatArray, FloatArray]:
    """Return how fast deviations decay (H, N, C), and how wide 80 % of what remains is (H, C).

    The share that is left of a deviation minimises the absolute error on a grid, and a node's own
    share is drawn towards that of all nodes.
    """
    inputs = source.inputs
    n_windows = train_steps - inputs.window - inputs.horizon + 1
    n_used = min(n_windows, _ANCHOR_WINDOWS)
    starts = np.unique(np.linspace(0, n_windows - 1, n_used).astype(np.int64))
    shares = np.linspace(0, 1, 21, dtype=np.float32)
    error = np.zeros((len(shares), inputs.horizon, source.graph.n_nodes, len(inputs.targets)))
    at_once = inputs.windows_at_once(source.graph.n_nodes)
    for part in np.array_split(starts, max(1, len(starts) // at_once)):
        deviation, ahead, mask = _deviations(source, part)
        for k, share in enumerate(shares):
            error[k] += (np.abs(ahead - share * deviation[:, None]) * mask).sum(axis=0)
    pooled = error.mean(axis=2, keepdims=True)
    decay = shares[(error + _ANCHOR_POOLING * pooled).argmin(axis=0)]
    sample = starts[:: max(1, len(starts) // _SPREAD_WINDOWS)]
    rests = []
    for part in np.array_split(sample, max(1, len(sample) // at_once)):
        deviation, ahead, mask = _deviations(source, part)
        rests.append(np.abs(np.where(mask, ahead - decay * deviation[:, None], np.nan)))
    rest = np.concatenate(rests)
    rest = np.moveaxis(rest, 1, 0).reshape(inputs.horizon, -1, len(inputs.targets))
    some = np.isfinite(rest).any(axis=1)
    spread = np.ones(some.shape, dtype=np.float32)
    for h, c in np.argwhere(some):
        spread[h, c] = max(1e-3, np.nanquantile(rest[h, :, c], 0.8))
    return decay, spread


def _deviations(source: Source, starts: IntArray) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return last deviation (B, N, C), deviations ahead (B, H, N, C), mask; in scaled units."""
    n_targets = len(source.inputs.targets)
    arrays = source.gather(starts)
    last = arrays.x[:, -1, :, :n_targets] - arrays.x[:, -1, :, 2 * n_targets : 3 * n_targets]
    center, scale = source.inputs.target_scale()
    ahead = (arrays.y - center) / scale - arrays.u[..., :n_targets]
    return last, ahead, arrays.y_mask


def _carry_forward(values: FloatArray, mask: BoolArray, fallback: FloatArray) -> FloatArray:
    """Fill gaps inside each window by the last observation before them, else the fallback."""
    if mask.all():
        return values
    steps = np.arange(values.shape[1])[:, None, None]
    last = np.maximum.accumulate(np.where(mask, steps, -1), axis=1)  # (B, W, N, C)
    carried = np.take_along_axis(values, np.maximum(last, 0), axis=1)
    return np.where(last >= 0, carried, fallback)
