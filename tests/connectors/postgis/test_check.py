"""Whether a database would take a forecast is known before hours of training."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from stgraph_connectors.postgis.check import check_database
from stgraph_connectors.postgis.schema import init_schema

from stgraph.errors import OutputError

pytestmark = pytest.mark.postgis


def login(database: str, role: str, *groups: str) -> str:
    """Return the DSN of a new login role that is a member of some groups."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'".encode())
        for group in groups:
            connection.execute(f'GRANT "{group}" TO {role}'.encode())
    return make_conninfo(database, user=role, password="x")


def test_owner_may_begin_and_others_may_not(database: str) -> None:
    """The first issue builds the layers, which only members of the owner role can."""
    with pytest.raises(OutputError, match="run: stgraph db init --schema city"):
        check_database(database, schema="city")
    init_schema(database, schema="city", roles=True)
    check_database(database, schema="city")
    check_database(login(database, "check_owner", "city_owner"), schema="city")
    with pytest.raises(OutputError, match=r"first issue, .*GRANT \"city_owner\" TO"):
        check_database(login(database, "check_writer", "city_writer"), schema="city")
    with pytest.raises(OutputError, match=r"permission denied|may not write|writer role"):
        check_database(login(database, "check_reader", "city_reader"), schema="city")
    with pytest.raises(OutputError, match="permission denied"):
        check_database(login(database, "check_nobody"), schema="city")


def test_writer_may_go_on(database: str) -> None:
    """Once the layers are there, a writer is enough."""
    init_schema(database, roles=True)
    writer = login(database, "check_writer", "stgraph_writer")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "UPDATE stgraph.dataset SET layers = "
            """'{"forecast_latest": {"digest": "x", "nodes": "x", "parts": []}}'"""
        )
    check_database(writer)
