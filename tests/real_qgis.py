"""Run an installed QGIS without a screen: its Python, or the program with its windows."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEM_PYTHON = "/usr/bin/python3"


def need_qgis_python() -> str:
    """Return the Python that has QGIS; without one this is a skip, in CI a failure."""
    ready = (
        Path(SYSTEM_PYTHON).exists()
        and not subprocess.run(
            [SYSTEM_PYTHON, "-c", "import qgis.core"], capture_output=True, check=False
        ).returncode
    )
    return SYSTEM_PYTHON if ready else _give_up("no QGIS for python3; install python3-qgis")


def run_script(script: Path, *arguments: str, folder: Path, zone: str = "UTC") -> None:
    """Run a script with the Python of QGIS and without a screen; `folder` is its home."""
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "QT_QPA_PLATFORM": "offscreen",
        "LC_ALL": "C.UTF-8",
        "TZ": zone,
        **_home(folder),
    }
    done = subprocess.run(
        [need_qgis_python(), str(script), *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def run_desktop(code: Path, *arguments: str, folder: Path) -> None:
    """Start QGIS with its windows on a virtual screen; it ends when `code` ends it."""
    if None in [shutil.which(name) for name in ("qgis", "xvfb-run")]:
        _give_up("no qgis and xvfb-run; install qgis and xvfb")
    subprocess.run(
        ["xvfb-run", "-a", "qgis", "--nologo", "--noversioncheck", "--noplugins",
         "--profiles-path", str(folder), "--code", str(code), *arguments],
        env=os.environ | _home(folder), capture_output=True, timeout=180, check=False,
    )  # fmt: skip


def _home(folder: Path) -> dict[str, str]:
    """Return an environment in which QGIS leaves the user's own folders alone."""
    (folder / "runtime").mkdir(mode=0o700, exist_ok=True)
    return {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "runtime")}


def _give_up(message: str) -> str:
    """Skip the test, or in CI fail it."""
    in_ci = os.environ.get("CI", "").lower() in {"1", "true"}
    pytest.fail(message) if in_ci else pytest.skip(message)
