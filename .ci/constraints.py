"""Write the installed version of everything that stgraph-gis with its extras needs.

`make constraints` runs this. Local version parts such as ``+cpu`` are left out,
so that the CPU and the CUDA build of the same torch both fit.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ALSO = ["torch-geometric-temporal", "hatchling"]  # installed apart, see the Makefile
WITHOUT_NEEDS = {"torch-geometric-temporal", "stgraph-gis"}
PLATFORM = ("nvidia-", "cuda-", "triton")  # come with the CUDA build of torch only


def collect() -> dict[str, str]:
    """Return name -> version of all packages that the project reaches."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *sum(project["optional-dependencies"].values(), ALSO)]
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in wanted]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if not applies or name.startswith(PLATFORM):
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = Version(package.version).public
        for part in ["", *requirement.extras]:
            if (name, part) not in seen and name not in WITHOUT_NEEDS:
                seen.add((name, part))
                waiting += [(Requirement(text), part) for text in package.requires or []]
    found.pop("stgraph-gis", None)
    return found


if __name__ == "__main__":
    lines = ["# versions that the tests pass with; written by: make constraints"]
    lines += [f"{name}=={version}" for name, version in sorted(collect().items())]
    Path("constraints.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
