"""Columns that grow chunk by chunk as arrays, never as one Python object a row."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

_NUMBERS = (int, float, Decimal, np.number)


class Labels:
    """Ids, or times as text: every distinct value once, and a code of 4 bytes a row."""

    def __init__(self) -> None:
        self._codes: dict[Any, int] = {}
        self._parts: list[npt.NDArray[np.int32]] = []

    def add(self, values: Sequence[Any]) -> None:
        """Append a chunk; None is missing."""
        local, distinct = pd.factorize(_objects(values))
        known = self._codes
        codes = [known.setdefault(value, len(known)) for value in distinct]
        lookup = np.array([*codes, -1], dtype=np.int32)  # -1 is missing, and the last place
        self._parts.append(lookup[local])

    def finish(self) -> pd.Series:
        """Return all chunks as one column."""
        codes = np.concatenate(self._parts) if self._parts else np.zeros(0, dtype=np.int32)
        categories = pd.Index(list(self._codes), dtype=object)
        return pd.Series(pd.Categorical.from_codes(codes, categories=categories))


class Instants:
    """Instants with or without zone, 8 bytes a row."""

    def __init__(self, *, aware: bool) -> None:
        self._aware = aware
        self._parts: list[npt.NDArray[np.int64]] = []

    def add(self, values: Sequence[Any]) -> None:
        """Append a chunk of `datetime`, None is missing.

        Raises
        ------
        ValueError, TypeError
            Something else is among them.
        """
        index = pd.DatetimeIndex(pd.to_datetime(pd.Index(_objects(values)), utc=self._aware))
        if (index.tz is not None) != self._aware:
            raise ValueError("instants with and without a zone are mixed")
        self._parts.append(np.asarray(index.as_unit("us").asi8))

    def finish(self) -> pd.Series:
        """Return all chunks as one column."""
        us = np.concatenate(self._parts) if self._parts else np.zeros(0, dtype=np.int64)
        index = pd.DatetimeIndex(us.view("datetime64[us]"))
        return pd.Series(index.tz_localize("UTC") if self._aware else index)


class Numbers:
    """Numbers, 8 bytes a row; cells that are words are kept as they are."""

    def __init__(self) -> None:
        self._parts: list[npt.NDArray[np.float64]] = []
        self._words: dict[int, Any] = {}
        self._n_rows = 0

    def add(self, values: Sequence[Any]) -> None:
        """Append a chunk; None is missing."""
        try:
            part = np.array(values, dtype=np.float64)  # of numbers, None and Decimal
        except (ValueError, TypeError):
            part = np.full(len(values), np.nan)
            for row, value in enumerate(values):
                if isinstance(value, _NUMBERS):
                    part[row] = float(value)
                elif value is not None:
                    self._words[self._n_rows + row] = value
        self._parts.append(part)
        self._n_rows += len(part)

    def finish(self) -> pd.Series:
        """Return all chunks as one column, as text where there is a word."""
        values = np.concatenate(self._parts) if self._parts else np.zeros(0)
        if not self._words:
            return pd.Series(values)
        mixed = pd.Series(values).astype("string").astype(object)
        mixed.iloc[list(self._words)] = [str(word) for word in self._words.values()]
        return mixed


Column = Labels | Instants | Numbers


def column_of_times(sample: Sequence[Any]) -> Labels | Instants:
    """Return an empty column that fits the times of a sample."""
    known = [value for value in sample if value is not None]
    if known and all(isinstance(value, dt.date) for value in known):  # datetime is one, too
        return Instants(aware=getattr(known[0], "tzinfo", None) is not None)
    return Labels()


def _objects(values: Sequence[Any]) -> npt.NDArray[np.object_]:
    """Return values as a 1-D array of objects, whatever they are."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
