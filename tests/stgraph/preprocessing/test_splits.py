"""Splits in time order: exact sizes, no target step in two parts, rolling folds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stgraph.errors import InputError
from stgraph.preprocessing.splits import Split, rolling_origins, split_windows


def test_sizes_of_the_reference_protocol_on_one_week() -> None:
    """2016 steps, 12 -> 12: the test windows are those of every published figure on the set."""
    split = split_windows(2016, window=12, horizon=12)
    assert split.test == range(1594, 1993)
    assert split.train == range(1395 - 11)
    assert split.validation == range(1395, 1594 - 11)
    assert split.train_steps == slice(0, 1407)
    assert split.targets("validation") == slice(1407, 1606)
    assert split.targets("test") == slice(1606, 2016)
    assert split.test_steps == slice(1594, 2016)


def test_tiny_split_written_out() -> None:
    """12 steps, window 2, horizon 2: nine windows, 5 / 1 / 3, and one purged at a seam."""
    split = split_windows(12, window=2, horizon=2, fractions=(0.5, 0.2, 0.3))
    assert (split.train, split.validation, split.test) == (range(3), range(4, 5), range(6, 9))
    kept = split_windows(12, window=2, horizon=2, fractions=(0.5, 0.2, 0.3), purge=False)
    assert (kept.train, kept.validation, kept.test) == (range(4), range(4, 6), range(6, 9))


def test_parts_may_be_empty_on_purpose() -> None:
    """A final fit needs no test: its share 0 leaves an empty part and purges nothing for it."""
    split = split_windows(20, window=2, horizon=3, fractions=(0.8, 0.2, 0.0))
    assert split.test == range(16, 16)
    assert split.validation.stop == 16
    assert split.test_steps == slice(16, 16)
    assert split.targets("test") == slice(16, 16)
    # both shares end in .5 and round up: the parts must not overlap for it
    split = split_windows(6, window=1, horizon=1, fractions=(0.7, 0.0, 0.3))
    assert (split.train, split.validation, split.test) == (range(3), range(3, 3), range(3, 5))


@given(
    n_steps=st.integers(60, 400),
    window=st.integers(1, 12),
    horizon=st.integers(1, 6),
    train=st.floats(0.3, 0.7),
)
def test_no_target_step_is_in_two_parts(
    n_steps: int, window: int, horizon: int, train: float
) -> None:
    """Purged parts share no target, keep their order and stay on the time axis."""
    split = (
        split_windows(n_steps, window=window, horizon=horizon, fractions=(train, 0.9 - train, 0.1))
        if n_steps > 150
        else split_windows(n_steps, window=window, horizon=1)
    )
    targets = [split.targets(part) for part in ("train", "validation", "test")]
    assert all(0 <= t.start < t.stop <= n_steps for t in targets)
    assert targets[0].stop <= targets[1].start
    assert targets[1].stop <= targets[2].start
    assert split.train_steps.stop == targets[0].stop
    assert targets[2].stop == n_steps


def test_rolling_folds_cover_every_test_window_once() -> None:
    """The test blocks follow each other without gap; training grows or slides."""
    folds = rolling_origins(1000, window=12, horizon=12, n_folds=4)
    starts = np.concatenate([list(fold.test) for fold in folds])
    assert np.array_equal(starts, np.arange(starts[0], 977))
    assert [fold.train.start for fold in folds] == [0, 0, 0, 0]
    assert [fold.test.start for fold in folds] == [585, 683, 781, 879]
    sliding = rolling_origins(1000, window=12, horizon=12, n_folds=4, expanding=False)
    assert len({len(fold.train) for fold in sliding}) == 1
    assert [fold.train.start for fold in sliding] == [0, 98, 196, 294]


def test_rolling_folds_leak_no_target() -> None:
    """Within a fold, no target step is in two parts; validation may be left out."""
    for share in (0.0, 0.2):
        for fold in rolling_origins(300, window=5, horizon=7, validation_fraction=share):
            assert isinstance(fold, Split)
            train, test = fold.targets("train"), fold.targets("test")
            assert train.stop <= test.start
            assert bool(fold.validation) == (share > 0)


def test_too_few_steps_says_how_many_are_needed() -> None:
    """The number in the message is enough, and one less is not."""
    with pytest.raises(InputError, match=r"20 steps are too few.*at least (\d+) are") as caught:
        split_windows(20, window=12, horizon=12)
    needed = int(str(caught.value).split("at least ")[1].split()[0])
    assert split_windows(needed, window=12, horizon=12).validation
    with pytest.raises(InputError, match="too few"):
        split_windows(needed - 1, window=12, horizon=12)
    with pytest.raises(InputError, match=r"40 steps are too few for 4 folds.*at least \d+"):
        rolling_origins(40, window=12, horizon=12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0, "horizon": 1}, "`window` is 0"),
        ({"window": 1, "horizon": 1.5}, "`horizon` is 1.5"),
        ({"window": 1, "horizon": True}, "`horizon` is True"),
        ({"window": 1, "horizon": 1, "fractions": (0.7, 0.2, 0.2)}, "sum to 1"),
        ({"window": 1, "horizon": 1, "fractions": (0.8, 0.2)}, "three shares"),
        ({"window": 1, "horizon": 1, "fractions": (1.2, -0.4, 0.2)}, "sum to 1"),
        ({"window": 1, "horizon": 1, "fractions": (float("nan"), 0.5, 0.5)}, "sum to 1"),
        ({"window": 1, "horizon": 1, "fractions": (0.0, 0.5, 0.5)}, "above 0"),
    ],
)
def test_bad_split_options(options: dict[str, object], message: str) -> None:
    """Sizes and shares that make no sense are named with their value."""
    with pytest.raises(InputError, match=message):
        split_windows(1000, **options)  # type: ignore[arg-type]


def test_bad_rolling_options() -> None:
    """Shares outside 0..1 and zero folds are refused."""
    with pytest.raises(InputError, match=r"`test_fraction` 1\.5"):
        rolling_origins(100, window=1, horizon=1, test_fraction=1.5)
    with pytest.raises(InputError, match="`n_folds` is 0"):
        rolling_origins(100, window=1, horizon=1, n_folds=0)
