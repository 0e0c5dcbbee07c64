"""Scenario files as plain tables: TOML, or YAML by the rules that people expect.

YAML 1.1 reads ``on`` and ``no`` as truth values, ``17:30`` as 1050 and ``010`` as 8. Here scalars
are those of YAML 1.2: only ``true`` and ``false`` are truth values, and times stay text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from stgraph import _optional
from stgraph.configfile import load_toml, read_text
from stgraph.errors import ConfigError

_WHAT = "a scenario file (.toml, .yaml)"
_TODO = "check the name, or write one as in the guide to scenarios"

# YAML 1.2, core schema: tag, pattern, first characters
_SCALARS = (
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", tuple("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", tuple("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        tuple("-+.0123456789"),
    ),
)


def load_document(path: Path) -> dict[str, Any]:
    """Return the tables of a scenario file.

    Parameters
    ----------
    path
        ``.toml``, ``.yaml`` or ``.yml``; UTF-8, at most 1 MB.

    Raises
    ------
    ConfigError
        It is not there or not valid, with the line. YAML: also for a key that is given twice, for
        aliases and for tags.
    """
    suffix = path.suffix.lower()
    if suffix == ".toml":
        return load_toml(path, what=_WHAT, todo=_TODO)
    if suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{path}: ends in {suffix or 'nothing'!r}; give {_WHAT}")
    text = read_text(path, what=_WHAT, todo=_TODO)
    yaml = _optional.require("yaml", extra="scenario")
    try:
        document = yaml.load(text, Loader=_loader())  # a safe loader of ours
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{path}{place}: is not valid here: {what}; correct that place") from None
    except (yaml.YAMLError, ValueError) as error:  # characters or numbers that nothing has
        what = str(error).splitlines()[0]
        raise ConfigError(f"{path}: is not valid YAML: {what}; correct it") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply; give {_WHAT}") from None
    if not isinstance(document, dict):
        found = "nothing" if document is None else f"a {type(document).__name__}"
        raise ConfigError(f"{path}: has {found} where keys should be; begin with `name: ...`")
    return document


def dump_yaml(document: Mapping[str, Any]) -> str:
    """Return tables as YAML that `load_document` and YAML 1.1 read alike."""
    yaml = _optional.require("yaml", extra="scenario")
    text: str = yaml.dump(
        dict(document), Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=100
    )
    return text


@functools.cache
def _loader() -> Any:
    """Return a safe loader with the scalars of YAML 1.2, without aliases and double keys."""
    yaml = _optional.require("yaml", extra="scenario")

    class Loader(yaml.SafeLoader):  # type: ignore[misc, name-defined]
        yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # none of those of YAML 1.1

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                event = self.peek_event()
                what = f"the alias *{event.anchor} is not read; repeat its value, or use `extends`"
                raise yaml.composer.ComposerError(None, None, what, event.start_mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    what = "a key must be a word"
                elif key.value in seen:
                    what = f"the key {key.value!r} is given twice"
                else:
                    seen.add(key.value)
                    continue
                raise yaml.constructor.ConstructorError(None, None, what, key.start_mark)
            values = [self.construct_object(value, deep=deep) for _, value in node.value]
            keys = [key.value for key, _ in node.value]  # as they are written
            return dict(zip(keys, values, strict=True))

        def construct_int(self, node: Any) -> int:
            text = node.value
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)

        def construct_float(self, node: Any) -> float:
            text = node.value.lower()
            special = text.endswith(("inf", "nan"))
            return float(text.replace(".", "") if special else text)

    Loader.add_constructor("tag:yaml.org,2002:map", Loader.construct_yaml_map)
    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_int)
    Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_float)
    for tag, pattern, first in _SCALARS:
        compiled = re.compile(rf"^(?:{pattern})$")
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", compiled, first)
    return Loader


@functools.cache
def _dumper() -> Any:
    """Return a dumper that quotes what YAML 1.1 or 1.2 would take for something else than text."""
    yaml = _optional.require("yaml", extra="scenario")

    class Dumper(yaml.SafeDumper):  # type: ignore[misc, name-defined]
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:  # noqa: ARG002
            return super().increase_indent(flow, False)  # lists are indented

    def represent_list(dumper: Any, values: list[Any]) -> Any:
        plain = not any(isinstance(value, (list, dict)) for value in values)
        return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=plain)

    Dumper.add_representer(list, represent_list)
    for tag, pattern, first in _SCALARS:
        compiled = re.compile(rf"^(?:{pattern})$")
        Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", compiled, first)
    return Dumper
