"""When an operation holds: half-open windows of local time."""

from __future__ import annotations

import datetime as dt

from pydantic import BaseModel, ConfigDict, Field

_MODEL = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Window(BaseModel):
    """From an instant up to another, or the same hours of some days.

    Local times are those of the scenario's `timezone`.
    """

    model_config = _MODEL
    from_: dt.datetime | None = Field(default=None, alias="from")
    to: dt.datetime | None = None  # no longer part of it
    daily: str | None = None  # "07:00-19:00"; over midnight: "22:00-05:00"
    days: tuple[str, ...] | None = None  # ("mon-fri", "sun"); None: every day
