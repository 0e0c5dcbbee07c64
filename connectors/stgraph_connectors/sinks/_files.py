"""Write a file aside and move it into place, or leave nothing behind."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

from stgraph.errors import DataError, InputError, OutputError, STGraphError

_DISK_ERRORS = (OSError, sqlite3.Error, DataSourceError, DataLayerError, FeatureError)
_SIDECARS = ("-wal", "-shm", "-journal")  # what SQLite may keep beside a file


def existing_file(source: str | Path) -> Path:
    """Return the path of a file to read, or raise DataError where there is none."""
    path = Path(source)
    if not path.is_file():
        raise DataError(f"there is no file {str(source)!r}; check the path")
    return path


@contextmanager
def written_aside(
    target: str | Path, *, suffixes: Sequence[str], overwrite: bool = True
) -> Iterator[Path]:
    """Give a temporary path in the target's folder, and move it to the target at the end.

    Parameters
    ----------
    target
        File to write; its folder must exist.
    suffixes
        Allowed endings; the temporary path has the target's.
    overwrite
        Replace an existing file. A reader that holds it open keeps reading the old one.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    InputError
        The path has another ending or is a folder.
    OutputError
        The file cannot be written, or is there and must not be replaced.
    """
    aside: Path | None = None
    try:
        final = check_target(target, suffixes=suffixes, overwrite=overwrite)
        aside = final.with_name(f".{secrets.token_hex(6)}{final.suffix}")
        yield aside
        _flush(aside)
        # SQLite would replay a log that belongs to the file that is replaced
        _remove(*(_sidecar(final, ending) for ending in _SIDECARS))
        aside.replace(final)
    except STGraphError:
        raise
    except _DISK_ERRORS as error:
        raise OutputError(
            f"cannot write {str(target)!r}: {error}; check free space and permissions, nothing "
            "was left behind"
        ) from error
    finally:
        if aside is not None:
            _remove(aside, *(_sidecar(aside, ending) for ending in _SIDECARS))


def check_target(target: str | Path, *, suffixes: Sequence[str], overwrite: bool) -> Path:
    """Return the real path of a file to write, or say why it cannot be written."""
    path = Path(target)
    if "\0" in str(target):
        raise InputError(f"{str(target)!r} is no file name; give the name of a {suffixes[0]} file")
    if path.is_dir():
        raise InputError(f"{str(target)!r} is a folder; give the name of a {suffixes[0]} file")
    if path.suffix.lower() not in suffixes:
        raise InputError(
            f"{str(target)!r} does not end in {' or '.join(suffixes)}; "
            f"write for example {str(path.with_suffix(suffixes[0]))!r}"
            if path.name
            else f"{str(target)!r} is no file name; give the name of a {suffixes[0]} file"
        )
    final = Path(os.path.realpath(path))  # a link is followed, not replaced
    if not final.parent.is_dir():
        raise OutputError(f"the folder {str(path.parent)!r} does not exist; create it first")
    if final.exists() and not overwrite:
        raise OutputError(f"{str(target)!r} is already there; pass overwrite=True to replace it")
    if not os.access(final.parent, os.W_OK):
        raise OutputError(f"the folder {str(path.parent)!r} is read-only; choose another one")
    return final


def _sidecar(path: Path, ending: str) -> Path:
    """Return the path of a file that SQLite keeps beside another."""
    return path.with_name(path.name + ending)


def _flush(path: Path) -> None:
    """Make sure that the bytes are on the disk before the name points at them."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(*paths: Path) -> None:
    """Remove files that may be there."""
    for path in paths:
        with suppress(OSError):
            path.unlink(missing_ok=True)
