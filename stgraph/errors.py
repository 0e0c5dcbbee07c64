"""Every error that stgraph raises on purpose.

    STGraphError
    ├── InputError (ValueError)         what the caller gave cannot be used
    │   ├── GraphError                  an STGraph would be inconsistent
    │   ├── DataError                   a file or table of readings or stations
    │   ├── ConfigError                 a config file or option
    │   ├── CheckpointError             a saved model, or a graph it does not fit
    │   └── UnknownNameError            a model, connector or sink nobody registered
    ├── OutputError (OSError)           a result could not be written; nothing was left behind
    ├── TrainingError (RuntimeError)    training could not go on
    └── MissingExtraError (ImportError) an optional package is not installed

The command line answers each of them with one message and exit code 2, never with a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class STGraphError(Exception):
    """Base of all errors of this library."""


class InputError(STGraphError, ValueError):
    """What the caller gave cannot be used."""


class GraphError(InputError):
    """An STGraph would be inconsistent."""


class DataError(InputError):
    """A file or table of readings or stations cannot be used."""


class ConfigError(InputError):
    """A config file or an option cannot be used."""


class CheckpointError(InputError):
    """A saved model cannot be loaded, or does not fit the graph at hand."""


class UnknownNameError(InputError):
    """A model, connector or sink that nobody registered."""


class OutputError(STGraphError, OSError):
    """A result could not be written; nothing half-written was left behind."""


class TrainingError(STGraphError, RuntimeError):
    """Training could not go on."""


class MissingExtraError(STGraphError, ImportError):
    """An optional package is not installed."""


def nearest_name(name: object, known: Iterable[str], *, n: int = 1) -> str:
    """Return `` (did you mean 'x'?)`` for the closest known names, or an empty string."""
    nearest = [repr(match) for match in nearest_names(name, known, n=n)]
    *others, last = nearest or [""]
    words = f"{', '.join(others)} or {last}" if others else last
    return f" (did you mean {words}?)" if nearest else ""


def nearest_names(name: object, known: Iterable[str], *, n: int = 3) -> list[str]:
    """Return the closest known names, upper and lower case alike, the closest first."""
    folded: dict[str, str] = {}
    for one in known:
        folded.setdefault(one.casefold(), one)
    matches = difflib.get_close_matches(str(name).casefold(), list(folded), n=n, cutoff=0.5)
    return [folded[match] for match in matches]


def shown(value: object) -> str:
    """Return how a message shows a value: plainly, whatever array it is from."""
    return repr(value.item() if hasattr(value, "item") else value)
