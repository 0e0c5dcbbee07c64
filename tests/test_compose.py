"""compose.yaml gives users a server that is closed to others and has settings that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from throwaway_postgres import start_server

PATH = Path(__file__).resolve().parents[1] / "compose.yaml"


@pytest.fixture
def service() -> dict[str, Any]:
    return dict(yaml.safe_load(PATH.read_text())["services"]["postgis"])


def read_settings(service: dict[str, Any]) -> dict[str, str]:
    program, *words = service["command"]
    assert program == "postgres"
    assert set(words[::2]) == {"-c"}
    return dict(word.split("=", 1) for word in words[1::2])


def test_closed_to_others_and_without_a_password(service: dict[str, Any]) -> None:
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")
    assert re.fullmatch(r"postgis/postgis:\d+-\d+\.\d+", service["image"])
    ignored = PATH.with_name(".gitignore").read_text().splitlines()
    assert ".env" in ignored


def test_data_in_a_volume_and_a_check_of_health(service: dict[str, Any]) -> None:
    name, place = service["volumes"][0].split(":")
    assert place == "/var/lib/postgresql/data"
    assert name in yaml.safe_load(PATH.read_text())["volumes"]
    check = service["healthcheck"]["test"][1]
    environment = service["environment"]
    assert check.startswith("pg_isready ")
    assert f"--username {environment['POSTGRES_USER']}" in check
    assert f"--dbname {environment['POSTGRES_DB']}" in check


@pytest.mark.postgis
@pytest.mark.usefixtures("postgres_programs")
def test_a_server_starts_with_its_settings(service: dict[str, Any]) -> None:
    settings = read_settings(service)
    memory = settings.pop("shared_buffers")
    assert memory == "1GB"  # more than a test should take
    with (
        start_server(settings=settings) as server,
        psycopg.connect(server.admin) as connection,
    ):
        for name, value in settings.items():
            shown = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
            assert shown == (value,)
