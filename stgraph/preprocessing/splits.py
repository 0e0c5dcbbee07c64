"""Divide windows into training, validation and test in time order, without shared targets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

from stgraph.errors import InputError

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Split:
    """Start positions of the windows of three parts, in time order.

    The window that starts at step ``s`` has the inputs ``s .. s + window - 1`` and the targets
    ``s + window .. s + window + horizon - 1``.
    """

    train: range
    validation: range  # may be empty
    test: range  # may be empty
    window: int  # input steps
    horizon: int  # target steps

    @property
    def train_steps(self) -> slice:
        """All steps seen in training, inputs and targets: fit scalers and profiles on these."""
        return self.steps("train")

    @property
    def validation_steps(self) -> slice:
        """All steps seen in validation, inputs and targets."""
        return self.steps("validation")

    @property
    def test_steps(self) -> slice:
        """All steps seen in the test, inputs and targets; inputs may lie in an earlier part."""
        return self.steps("test")

    def steps(self, part: Part) -> slice:
        """Return the steps that the windows of a part cover, inputs and targets."""
        starts: range = getattr(self, part)
        if not starts:
            return slice(starts.start, starts.start)
        return slice(starts.start, starts.stop - 1 + self.window + self.horizon)

    def targets(self, part: Part) -> slice:
        """Return the steps that the windows of a part have as targets."""
        starts: range = getattr(self, part)
        if not starts:
            return slice(starts.start, starts.start)
        return slice(starts.start + self.window, self.steps(part).stop)


def split_windows(
    n_steps: int,
    *,
    window: int,
    horizon: int,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    purge: bool = True,
) -> Split:
    """Divide the windows of a signal into training, validation and test in time order.

    Parameters
    ----------
    n_steps
        Length T of the time axis.
    window
        Input steps of a window, at least 1.
    horizon
        Target steps after the window, at least 1.
    fractions
        Shares of the windows for training, validation and test; they sum to 1. Validation and
        test may be 0.
    purge
        Leave out the last windows of training and validation whose targets reach into a target
        of the next part (``horizon - 1`` each), so that no target step is in two parts.

    Returns
    -------
    Split
        Start positions of the windows. The test windows do not depend on `purge`.

    Raises
    ------
    InputError
        Sizes or fractions that make no sense, or too few steps: the message says how many are
        needed.

    Notes
    -----
    The sizes are those of DCRNN: of ``n = n_steps - window - horizon + 1`` windows the last
    ``round(0.2 n)`` are the test, the first ``round(0.7 n)`` training, the rest validation.
    """
    _check_sizes(window=window, horizon=horizon)
    _check_fractions(fractions)

    def split(n_windows: int) -> Split:
        n_test = round(n_windows * fractions[2])
        n_rest = n_windows - n_test
        n_train = min(round(n_windows * fractions[0]), n_rest) if fractions[1] else n_rest
        cuts = (0, n_train, n_rest, n_windows)
        return _cut(cuts, window, horizon, purge=purge)

    def is_enough(n_windows: int) -> bool:
        parts = split(n_windows)
        wanted = zip((parts.train, parts.validation, parts.test), fractions, strict=True)
        return all(len(starts) > 0 or share == 0 for starts, share in wanted)

    n_windows = n_steps - window - horizon + 1
    if n_windows < 1 or not is_enough(n_windows):
        needed = _smallest(is_enough) + window + horizon - 1
        raise InputError(
            f"{n_steps} steps are too few for window {window}, horizon {horizon} and fractions "
            f"{tuple(fractions)}; at least {needed} are needed"
        )
    return split(n_windows)


def rolling_origins(
    n_steps: int,
    *,
    window: int,
    horizon: int,
    n_folds: int = 4,
    test_fraction: float = 0.4,
    validation_fraction: float = 0.1,
    expanding: bool = True,
    purge: bool = True,
) -> tuple[Split, ...]:
    """Return the splits of a rolling backtest: consecutive test blocks, each after its training.

    Parameters
    ----------
    n_steps
        Length T of the time axis.
    window
        Input steps of a window, at least 1.
    horizon
        Target steps after the window, at least 1.
    n_folds
        How many splits, one test block each.
    test_fraction
        Share of all windows in the test blocks together, the last ones.
    validation_fraction
        Share of the windows before a test block that validate, the last ones; may be 0.
    expanding
        True trains on everything before; False on as many windows as the first fold has.
    purge
        As in `split_windows`: no target step is in two parts of the same split.

    Returns
    -------
    tuple[Split, ...]
        `n_folds` splits in time order. Every test window is in exactly one test block.

    Raises
    ------
    InputError
        Sizes or fractions that make no sense, or too few steps: the message says how many are
        needed.
    """
    _check_sizes(window=window, horizon=horizon, n_folds=n_folds)
    if not (0 < test_fraction < 1 and 0 <= validation_fraction < 1):
        raise InputError(
            f"`test_fraction` {test_fraction} must lie between 0 and 1, `validation_fraction` "
            f"{validation_fraction} must be at least 0 and below 1"
        )

    def folds(n_windows: int) -> tuple[Split, ...]:
        block = round(n_windows * test_fraction / n_folds)
        n_before = n_windows - n_folds * block
        splits = []
        for fold in range(n_folds):
            test = n_before + fold * block
            train = 0 if expanding else fold * block
            validation = test - round((test - train) * validation_fraction)
            cuts = (train, validation, test, test + block)
            splits.append(_cut(cuts, window, horizon, purge=purge))
        return tuple(splits)

    def is_enough(n_windows: int) -> bool:
        return all(
            fold.train and fold.test and (fold.validation or validation_fraction == 0)
            for fold in folds(n_windows)
        )

    n_windows = n_steps - window - horizon + 1
    if n_windows < 1 or not is_enough(n_windows):
        needed = _smallest(is_enough) + window + horizon - 1
        raise InputError(
            f"{n_steps} steps are too few for {n_folds} folds of window {window} and horizon "
            f"{horizon}; at least {needed} are needed"
        )
    return folds(n_windows)


def _cut(cuts: tuple[int, int, int, int], window: int, horizon: int, *, purge: bool) -> Split:
    """Return the split with the parts between the cuts, purged where another part follows."""
    train, validation, test, stop = cuts
    gap = horizon - 1 if purge else 0
    train_stop = validation - gap if validation < stop else validation
    validation_stop = test - gap if test < stop else test
    return Split(
        train=range(train, max(train, train_stop)),
        validation=range(validation, max(validation, validation_stop)),
        test=range(test, stop),
        window=window,
        horizon=horizon,
    )


def _smallest(is_enough: Callable[[int], bool]) -> int:
    """Return a number of windows that is enough where one less is not."""
    high = 1
    while not is_enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _check_sizes(**sizes: int) -> None:
    """Raise if a size is no whole number of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, Integral) or size < 1:
            raise InputError(f"`{name}` is {size!r}; it must be a whole number of at least 1")


def _check_fractions(fractions: tuple[float, float, float]) -> None:
    """Raise unless there are three shares that sum to 1 and training has one."""
    fits = len(fractions) == 3 and all(0 <= share <= 1 for share in fractions)
    if not (fits and fractions[0] > 0 and math.isclose(sum(fractions), 1, abs_tol=1e-6)):
        raise InputError(
            f"`fractions` is {tuple(fractions)}; give three shares for training (above 0), "
            "validation and test that sum to 1"
        )
