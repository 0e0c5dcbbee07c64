"""What the map says in words about a street of a scenario, as an expression of QGIS."""

from __future__ import annotations

from collections.abc import Mapping

PERIODS = {"day": "whole time", "am": "morning", "mid": "midday", "pm": "afternoon"}
PERIOD_WORDS = (
    "CASE " + " ".join(f"WHEN \"period\" = '{p}' THEN '{w}'" for p, w in PERIODS.items()) + " END"
)
_SHARE = (
    'if("closed_share" < 1, \' for \' || format_number(100 * "closed_share", 0) || '
    "' % of the time', '')"
)
_LONGER = (
    "if(\"tt_delta_s\" IS NULL, '', {} || ' s ' || if(\"tt_delta_s\" < 0, 'shorter', 'longer') "
    "|| ' over ' || format_number(\"length_m\", 0) || ' m')"
)
_SURE = (
    "if(\"significant\" OR \"status\" IN ('closed', 'new', 'removed'), '', "
    "'within the noise: no change is claimed')"
)
_REASON = "if(\"status\" = 'closed', '', 'rests on ' || \"source\")"


def effect_tip(when: str, *, has_share: bool) -> str:
    """Return a map tip that says what happens on a street.

    Parameters
    ----------
    when
        Expression for the period or instant in words.
    has_share
        The layer has a column `closed_share`.

    Returns
    -------
    str
        HTML with expressions.
    """
    share = _SHARE if has_share else "''"
    words: Mapping[str, str] = {
        "closed": f"'closed' || {share} || '; before: ' || {_both('base')}",
        "removed": f"'removed; before: ' || {_both('base')}",
        "new": f"'new road: ' || {_both('scn')}",
    }
    cases = " ".join(f"WHEN \"status\" = '{status}' THEN {text}" for status, text in words.items())
    changes = "\"status\" IN ('normal', 'changed')"
    lines = (
        f"CASE {cases} ELSE 'speed ' || {_pair('speed', 'km/h', 1)} END",
        f"CASE WHEN {changes} THEN 'flow ' || {_pair('flow', 'veh/h', 0)} ELSE '' END",
        _LONGER.format(_number('abs("tt_delta_s")', 1)),
        _SURE,
        _REASON,
    )
    head = f'<b>[% coalesce("name", \'segment \' || "segment_id") %]</b>, [% {when} %]'
    return "<br>".join([head, *(f"[% {line} %]" for line in lines)])


def edit_tip() -> str:
    """Return a map tip that says what an operation does, and from when to when."""
    span = [f"format_date(\"valid_{end}\", 'yyyy-MM-dd HH:mm t')" for end in ("from", "to")]
    return (
        '<b>[% "operation" %]. [% "label" %]</b><br>[% "op" %], segment [% "segment_id" %]<br>'
        f"[% {span[0]} %] to [% {span[1]} %]"
    )


def area_tip() -> str:
    """Return a map tip that says what an area within reach is, and how large."""
    area, street = _number('"area_km2"', 1), _number('"street_km"', 0)
    return (
        f'<b>[% "minutes" %] min from zone [% "zone" %]</b>, [% {PERIOD_WORDS} %]<br>'
        f"[% \"network\" %]: [% {area} || ' km², ' || {street} || ' km of streets' %]"
    )


def _both(end: str) -> str:
    """Return an expression such as ``35 km/h, 620 veh/h``."""
    speed, flow = _number(f'"speed_{end}"', 0), _number(f'"flow_{end}"', 0)
    return f"{speed} || ' km/h, ' || {flow} || ' veh/h'"


def _pair(quantity: str, unit: str, decimals: int) -> str:
    """Return an expression such as ``35.1 → 28.3 km/h (−6.8, between −8.0 and −5.1)``."""
    low, high = (_number(f'"d_{quantity}_{end}"', decimals, sign=True) for end in ("low", "high"))
    between = f"if(\"d_{quantity}_low\" IS NULL, '', ', between ' || {low} || ' and ' || {high})"
    before, after = (_number(f'"{quantity}_{end}"', decimals) for end in ("base", "scn"))
    change = _number(f'"d_{quantity}"', decimals, sign=True)
    return f"{before} || ' → ' || {after} || ' {unit} (' || {change} || {between} || ')'"


def _number(expression: str, decimals: int, *, sign: bool = False) -> str:
    """Return an expression for a number as text, – where there is none."""
    text = f"format_number({expression}, {decimals})"
    if sign:
        text = f"if({expression} > 0, '+', '') || {text}"
    return f"coalesce({text}, '–')"
