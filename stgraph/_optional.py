"""Import optional packages where they are needed, or say how to install them."""

from __future__ import annotations

import importlib
from types import ModuleType

from stgraph.errors import MissingExtraError


def require(module: str, *, extra: str) -> ModuleType:
    """Return an optional module, or say how to install it.

    Parameters
    ----------
    module
        Dotted import name, such as ``"xarray"``.
    extra
        The extra of ``stgraph-gis`` that brings it.

    Returns
    -------
    ModuleType
        The imported module.

    Raises
    ------
    MissingExtraError
        The package is not installed; the message holds the install line.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f"this needs the package {module.split('.')[0]!r}, which is not installed; "
            f"run: pip install 'stgraph-gis[{extra}]'"
        ) from error
