"""`stgraph db` and `stgraph qgis`: what a database needs around the forecasts in it.

A connection string may hold a password, which does not belong into the list of processes or the
history of a shell: where the option is missing, it is that of the environment variable STGRAPH_DSN.
"""

# ruff: noqa: ARG001  # --debug is an option of every command, and `stgraph.cli.main` reads it

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from stgraph import registry
from stgraph.errors import ConfigError, OutputError

db = typer.Typer(no_args_is_help=True, help="Create and look after the database of a dataset.")
qgis = typer.Typer(no_args_is_help=True, help="Make what QGIS opens.")

Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        envvar="STGRAPH_DSN",
        metavar="DSN",
        help="libpq connection string, such as service=traffic.",
        show_default=False,
    ),
]
Schema = Annotated[str, typer.Option("--schema", help="Postgres schema of the dataset.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="More messages, and tracebacks.")]


@db.command()
def init(
    dsn: Dsn = None,
    schema: Schema = "stgraph",
    roles: Annotated[
        bool, typer.Option("--roles", help="Also create group roles: owner, writer, reader.")
    ] = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Create the tables of a dataset; safe to repeat."""
    from stgraph import terminal

    dsn = need_dsn(dsn)
    done = registry.load("database", "init")(dsn, schema=schema, roles=roles)
    grants = _grants(done.roles) if roles else []
    if json:
        terminal.print_json({**asdict(done), "grants": grants})
        return
    _print_versions(done)
    for line in grants:
        terminal.print_line(line)


@db.command()
def upgrade(
    dsn: Dsn = None, schema: Schema = "stgraph", json: AsJson = False, debug: Debug = False
) -> None:
    """Bring the tables of a dataset up to this version of stgraph; safe to repeat."""
    from stgraph import terminal

    dsn = need_dsn(dsn)
    done = registry.load("database", "upgrade")(dsn, schema=schema)
    if json:
        terminal.print_json(asdict(done))
        return
    _print_versions(done)


@db.command()
def status(
    dsn: Dsn = None, schema: Schema = "stgraph", json: AsJson = False, debug: Debug = False
) -> None:
    """Show the version, the current issue, and how much there is of what."""
    from stgraph import terminal

    dsn = need_dsn(dsn)
    facts = asdict(registry.load("database", "status")(dsn, schema=schema))
    if json:
        terminal.print_json(facts)
    else:
        terminal.print_pairs(_in_words(facts))


@db.command()
def prune(
    keep: Annotated[
        str, typer.Option("--keep", metavar="TIME", help="How long issues are kept, as in 30d.")
    ],
    dsn: Dsn = None,
    schema: Schema = "stgraph",
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Remove what is older, without making readers wait."""
    from stgraph import terminal

    dsn = need_dsn(dsn)
    done = asdict(registry.load("database", "prune")(dsn, schema=schema, keep=keep))
    if json:
        terminal.print_json(done)
    else:
        terminal.print_pairs(_in_words(done))


@qgis.command()
def project(
    out: Annotated[Path, typer.Option("--out", help="File to write, .qgz or .qgs.")],
    dsn: Dsn = None,
    schema: Schema = "stgraph",
    authcfg: Annotated[
        str | None, typer.Option("--authcfg", help="Id of an authentication saved in QGIS.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write a QGIS project with the layers of a dataset; no password is in it."""
    from stgraph import terminal

    dsn = need_dsn(dsn)
    if out.exists() and not force:
        raise OutputError(f"{out} is already there; choose another name, or replace it: --force")
    path = registry.load("database", "project")(
        dsn, out, schema=schema, authcfg=authcfg, overwrite=force
    )
    if json:
        terminal.print_json({"outputs": [str(path)]})
    else:
        terminal.print_line(str(path))


def _in_words(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts as people read them: no underscores, sizes in MB, a dash where nothing is."""
    shown: dict[str, Any] = {}
    for name, value in facts.items():
        if name in ("bytes", "n_bytes"):
            sizes = value if isinstance(value, Mapping) else {"": value}
            in_mb = {part: f"{size / 1e6:,.1f}" for part, size in sizes.items()}
            shown["size (MB)"] = in_mb if isinstance(value, Mapping) else in_mb[""]
        else:
            empty = value is None or value in ((), [], {})
            shown[name.removeprefix("n_").replace("_", " ")] = "-" if empty else value
    return shown


def need_dsn(dsn: str | None) -> str:
    """Return the connection string, or say how to give one."""
    if dsn is None or not dsn.strip():
        raise ConfigError(
            "no database is named; run: export STGRAPH_DSN='service=traffic', or give --dsn "
            "(without a password: others see what is running)"
        )
    return dsn


def _print_versions(done: Any) -> None:
    """Print what became of a schema."""
    from stgraph.terminal import print_line

    if done.before == done.after:
        print_line(f"schema {done.schema!r} was at version {done.after} already")
    else:
        came = "made" if done.before == 0 else f"brought from version {done.before}"
        print_line(f"schema {done.schema!r} was {came} to version {done.after}")


def _grants(roles: Sequence[str]) -> list[str]:
    """Return the SQL that lets login roles do what the group roles may."""
    lines = ["-- run with the names of your login roles in place of those in <>:"]
    who = {
        "owner": "who publishes the first issue",
        "writer": "who publishes further ones",
        "reader": "person in QGIS",
    }
    for role in roles:
        kind = role.rpartition("_")[2]
        name = '"' + role.replace('"', '""') + '"'
        lines.append(f"GRANT {name} TO <{who.get(kind, 'login')}>;")
    return lines
