"""Optional packages: imported on use, or an install line."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stgraph._optional import require
from stgraph.errors import MissingExtraError

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
BROUGHT_ALONG = {"rasterio"}  # by rioxarray


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


def packages_of(extra: str) -> set[str]:
    """Return what an extra names, with that of the extras that it names."""
    wanted = [Requirement(text) for text in EXTRAS[extra]]
    inner = [name for one in wanted if one.name == "stgraph-gis" for name in one.extras]
    names = {canonicalize_name(one.name) for one in wanted}
    return names.union(*(packages_of(name) for name in inner))


def test_the_install_line_brings_the_package() -> None:
    """Protects against advice that does not help: an extra without what the code asks it for."""
    code = "".join(
        path.read_text()
        for folder in ("stgraph", "connectors")
        for path in (ROOT / folder).rglob("*.py")
    )
    asked = set(re.findall(r'\brequire\(\s*"([\w.]+)",\s*extra="(\w+)"', code))
    homes = packages_distributions()
    assert ("netCDF4", "raster") in asked
    for module, extra in asked:
        top = module.split(".")[0]
        packages = {canonicalize_name(name) for name in homes.get(top, [top])}
        assert packages & (packages_of(extra) | BROUGHT_ALONG), (module, extra)
