"""Compass headings as people write them: degrees, N, NE, northbound, SB."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from stgraph.errors import nearest_name
from stgraph.neighbours._places import Float64Array
from stgraph.report import Report

_POINTS = ["N", "NNE", "NE", "ENE", "E", "ESE", "SE", "SSE"]
_POINTS += ["S", "SSW", "SW", "WSW", "W", "WNW", "NW", "NNW"]
_DEGREES = {name: 22.5 * i for i, name in enumerate(_POINTS)}
_WORDS = {"NORTH": "N", "EAST": "E", "SOUTH": "S", "WEST": "W"}


def read_headings(column: pd.Series[Any], report: Report, *, where: str) -> Float64Array:
    """Return headings in degrees, clockwise from north; NaN where the column says nothing.

    Words that are no compass direction are noted as errors, all of them in one finding.
    """
    texts = column.astype("string").str.strip()
    said = texts.notna() & (texts != "") & (texts.str.lower() != "nan")
    degrees = pd.to_numeric(texts.where(said), errors="coerce").to_numpy(
        np.float64, na_value=np.nan
    )
    known = {text: _word_to_degrees(str(text)) for text in texts[said & np.isnan(degrees)].unique()}
    words = pd.to_numeric(texts.astype(object).map(known)).to_numpy(np.float64)
    unknown = sorted(str(text) for text, value in known.items() if value is None)
    if unknown:
        listed = ", ".join(f"{text!r}{nearest_name(text, _hints())}" for text in unknown[:5])
        count = int(texts.isin(unknown).sum())
        todo = "use degrees clockwise from north, or words such as N, NE, NB, northbound"
        report.error(where, f"holds {listed}, no heading, in {count} rows", todo, count=count)
    if np.isinf(degrees).any():
        report.error(where, "holds infinite degrees", "leave unknown headings empty")
        return np.full(len(degrees), np.nan)
    return np.where(np.isnan(degrees), words, degrees) % 360.0


def _word_to_degrees(text: str) -> float | None:
    """Return the degrees of one word: ``NE``, ``north-east``, ``NB``, ``westbound``."""
    letters = re.sub(r"[^A-Z]", "", text.upper())
    letters = letters.removesuffix("BOUND")
    for word, letter in _WORDS.items():
        letters = letters.replace(word, letter)
    return _DEGREES.get(letters.removesuffix("B"))  # NB, SWB


def _hints() -> list[str]:
    """Return words to guess from."""
    words = [word.lower() for word in _WORDS]
    return [*words, *(f"{word}bound" for word in words), *_POINTS]


def turn_between(first: Float64Array, second: Float64Array) -> Float64Array:
    """Return the angle between headings, 0 to 180 degrees."""
    return np.abs((first - second + 180.0) % 360.0 - 180.0)
