"""Where PostgreSQL with PostGIS is on this machine, and how it gets there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("initdb", "pg_ctl", "postgres")
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin")
NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/stgraph-tests.conf")


class PostgresMissingError(RuntimeError):
    """There is no PostgreSQL with PostGIS; the text has the two commands to run."""


@dataclass(frozen=True)
class Programs:
    """An installed PostgreSQL."""

    folder: Path  # has initdb, pg_ctl and postgres
    major: int
    has_postgis: bool


def find_programs() -> list[Programs]:
    """Return the installed versions, newest first, those with PostGIS before those without."""
    folders = [path for place in PLACES for path in Path("/").glob(place.lstrip("/"))]
    if pg_config := shutil.which("pg_config"):
        folders.append(Path(_read(pg_config, "--bindir")))
    if initdb := shutil.which("initdb"):
        folders.append(Path(initdb).resolve().parent)
    found = {
        _describe(folder) for folder in folders if all((folder / name).is_file() for name in NEEDED)
    }
    return sorted(found, key=lambda p: (p.has_postgis, p.major, str(p.folder)), reverse=True)


def need_programs() -> Programs:
    """Return the newest PostgreSQL with PostGIS; as root on Debian or Ubuntu install it first.

    Raises
    ------
    PostgresMissingError
        There is none and it cannot be installed from here.
    """
    found = find_programs()
    if found and found[0].has_postgis:
        return found[0]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise PostgresMissingError(_advice(found))
    _install(found)
    found = find_programs()
    if not (found and found[0].has_postgis):
        raise PostgresMissingError(_advice(found, "the packages are there but not their files"))
    return found[0]


def _describe(folder: Path) -> Programs:
    version = re.search(r"\(PostgreSQL\) (\d+)", _read(str(folder / "pg_ctl"), "--version"))
    major = int(version[1]) if version else 0
    shares = [Path(f"/usr/share/postgresql/{major}")]
    shares += [folder.parent / "share" / part for part in (".", "postgresql", "pgsql")]
    if (folder / "pg_config").is_file():
        shares.append(Path(_read(str(folder / "pg_config"), "--sharedir")))
    has_postgis = any((share / "extension" / "postgis.control").is_file() for share in shares)
    return Programs(folder, major, has_postgis)


def _read(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _advice(found: list[Programs], reason: str = "") -> str:
    """Return what is missing and the two commands that bring it."""
    version = str(found[0].major) if found else "$(ls /usr/lib/postgresql | sort -n | tail -n 1)"
    lines = [
        "no PostGIS for PostgreSQL" if found else "no PostgreSQL with PostGIS",
        *([reason] if reason else []),
        "on Debian or Ubuntu run:",
        "    sudo apt-get install -y postgresql",
        f"    sudo apt-get install -y postgresql-{version}-postgis-3",
        "or set STGRAPH_TEST_DSN to a superuser of a server that has PostGIS",
    ]
    return "\n".join(lines)


def _install(found: list[Programs]) -> None:
    """Install what is missing with apt-get, without a cluster of Debian's own."""
    with _no_cluster():
        _apt_get(found, "update")
        if not found:
            _apt_get(found, "install", "-y", "--no-install-recommends", "postgresql")
            found = find_programs()
        if found and not found[0].has_postgis:
            package = f"postgresql-{found[0].major}-postgis-3"
            _apt_get(found, "install", "-y", "--no-install-recommends", package)


@contextlib.contextmanager
def _no_cluster() -> Iterator[None]:
    """Keep Debian's packages from making and starting a cluster of their own."""
    NO_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    NO_CLUSTER.write_text("create_main_cluster = false\n")
    try:
        yield
    finally:
        NO_CLUSTER.unlink(missing_ok=True)


def _apt_get(found: list[Programs], *arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", *arguments],
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-1000:]
        raise PostgresMissingError(_advice(found, f"apt-get {' '.join(arguments)} failed: {said}"))
