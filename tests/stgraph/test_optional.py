"""Optional packages: imported on use, or an install line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stgraph._optional import require
from stgraph.errors import MissingExtraError


def test_installed() -> None:
    assert require("json", extra="any") is json


def test_missing() -> None:
    """The message is the command that helps."""
    with pytest.raises(MissingExtraError, match=r"pip install 'stgraph-gis\[raster\]'"):
        require("no_such_package.inner", extra="raster")


def test_broken_package_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects against hiding that an installed package lacks something of its own."""
    (tmp_path / "half_installed.py").write_text("import no_such_part")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_part") as caught:
        require("half_installed", extra="raster")
    assert not isinstance(caught.value, MissingExtraError)
