"""Little OpenStreetMap files, drawn by hand: places on a grid of about 100 m, ways, turns."""

from __future__ import annotations

from pathlib import Path

STEP = 0.001  # degrees between neighbouring places
Ways = dict[int, tuple[str, str]]


def osm_text(
    places: dict[int, tuple[float, float]],
    ways: Ways,
    turns: dict[int, tuple[str, str]] | None = None,
) -> str:
    """Return an OSM XML document.

    `places` are node id -> (x, y) in steps; `ways` are id -> ("1 2 3", "highway=primary ...");
    `turns` are relation id -> ("from:w10 via:n1 to:w11", "restriction=no_left_turn").
    """
    lines = ["<?xml version='1.0' encoding='UTF-8'?>", '<osm version="0.6">']
    for node, (x, y) in places.items():
        lines.append(f'<node id="{node}" lon="{9 + x * STEP:.7f}" lat="{50 + y * STEP:.7f}"/>')
    for way, (refs, tags) in ways.items():
        nds = "".join(f'<nd ref="{ref}"/>' for ref in refs.split())
        lines.append(f'<way id="{way}">{nds}{_tags(tags)}</way>')
    for relation, (members, tags) in (turns or {}).items():
        kinds = {"n": "node", "w": "way"}
        parts = [member.split(":") for member in members.split()]
        text = "".join(
            f'<member type="{kinds[ref[0]]}" ref="{ref[1:]}" role="{role}"/>' for role, ref in parts
        )
        tags = f"type=restriction {tags}"
        lines.append(f'<relation id="{relation}">{text}{_tags(tags)}</relation>')
    return "\n".join([*lines, "</osm>", ""])


def _tags(tags: str) -> str:
    pairs = [pair.split("=", 1) for pair in tags.split()]
    return "".join(f'<tag k="{key}" v="{value.replace("_+_", " ")}"/>' for key, value in pairs)


def write_osm(
    folder: Path,
    places: dict[int, tuple[float, float]],
    ways: Ways,
    turns: dict[int, tuple[str, str]] | None = None,
) -> Path:
    """Write the document and return its path."""
    path = folder / "drawn.osm"
    path.write_text(osm_text(places, ways, turns))
    return path
