"""A job is one TOML file: what it may hold, where its paths lead, what the template says."""

from __future__ import annotations

import datetime as dt
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

import stgraph
from stgraph.config import JobConfig, RoadsConfig, TrainConfig
from stgraph.configfile import read_config
from stgraph.errors import ConfigError

TEMPLATE = Path(stgraph.__file__).parent / "template.toml"
MINIMAL = '[data]\nstations = "stations.csv"\n'


def read(folder: Path, text: str, **options: object) -> JobConfig:
    (folder / "job.toml").write_text(text)
    return read_config(folder / "job.toml", **options)


def test_defaults_need_only_the_data(tmp_path: Path) -> None:
    """A first config is two lines; results go to a folder named after it."""
    job = read(tmp_path, MINIMAL)
    assert job.data.options == {"stations": str(tmp_path / "stations.csv")}
    assert job.run.folder == tmp_path / "runs/job"
    assert (job.graph.method, job.model.name, job.windows.horizon) == ("auto", "gcn_lstm", 12)


def test_paths_start_at_the_config_and_outputs_at_the_run_folder(tmp_path: Path) -> None:
    """A project can be moved or run from anywhere; `${NAME}` is for data that lie elsewhere."""
    text = """
        [data]
        stations = "${DATA}/stations.csv"
        readings = ["a.csv", "${OTHER:-../b}/b.csv"]
        [run]
        folder = "out"
        [[output]]
        sink = "geopackage"
        path = "maps/f.gpkg"
        [[output]]
        sink = "map"
        path = "/abs/f.png"
        """
    job = read(tmp_path, text, environment={"DATA": "/mnt"})
    assert job.data.options["stations"] == "/mnt/stations.csv"
    assert job.data.options["readings"] == [
        str(tmp_path / "a.csv"),
        str(tmp_path.parent / "b/b.csv"),
    ]
    paths = [output.path for output in job.output]
    assert paths == [tmp_path / "out/maps/f.gpkg", Path("/abs/f.png")]


def test_values_set_on_the_command_line_win(tmp_path: Path) -> None:
    """`--set` takes TOML values, or text, also in lists of tables and tables not there yet."""
    text = MINIMAL + '[[output]]\nsink = "map"\npath = "a.png"\n'
    changes = ["train.max_epochs=3", "data.zone=Asia/Tokyo", "output.0.path=b.png", "graph.k = 4"]
    job = read(tmp_path, text, overrides=changes)
    assert job.train.max_epochs == 3
    assert job.data.options["zone"] == "Asia/Tokyo"
    assert job.output[0].path.name == "b.png"
    assert job.graph.options == {"k": 4}


def test_one_style_serves_every_output_that_takes_one(tmp_path: Path) -> None:
    """Layer, map and animation show the same classes; an output may have its own."""
    text = MINIMAL + (
        '[style]\nramp = "tide"\nbreaks = [1, 2]\n'
        '[[output]]\nsink = "geopackage"\npath = "a.gpkg"\n'
        '[[output]]\nsink = "map"\npath = "a.png"\nstyle = { ramp = "delta" }\n'
    )
    first, second = (output.options["style"] for output in read(tmp_path, text).output)
    assert (first.ramp, first.breaks, second.ramp) == ("tide", (1.0, 2.0), "delta")


def test_steps_of_preparation_are_checked_but_never_look_ahead(tmp_path: Path) -> None:
    """What statistics are taken from is the pipeline's choice: the training part."""
    text = MINIMAL + "[prepare.outliers]\nmax_spike = 9\n[prepare.gaps]\nmax_steps = 3\n"
    job = read(tmp_path, text)
    assert job.prepare.outliers == {"max_spike": 9.0}
    assert job.prepare.gaps == {"max_steps": 3}
    with pytest.raises(ConfigError, match=r"\[prepare\.gaps\] `causal`: is an unknown key"):
        read(tmp_path, MINIMAL + "[prepare.gaps]\ncausal = false\n")


def test_dates_may_be_toml_or_text(tmp_path: Path) -> None:
    """TOML has dates of its own."""
    when = dt.datetime(2024, 5, 1, 8)  # noqa: DTZ001  # local, as a config gives it
    for value in ("2024-05-01T08:00:00", '"2024-05-01T08:00"'):
        assert read(tmp_path, MINIMAL + f"[forecast]\nat = {value}\n").forecast.at == when
    day = read(tmp_path, MINIMAL + "[forecast]\nat = 2024-05-01\n").forecast.at
    assert day == when.replace(hour=0)  # the beginning of the day


def test_a_file_saved_by_a_windows_editor_is_read(tmp_path: Path) -> None:
    """Byte order marks and carriage returns are no reason to fail."""
    (tmp_path / "job.toml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert read_config(tmp_path / "job.toml").data.connector == "stations"


def test_all_findings_of_a_file_come_in_one_error(tmp_path: Path) -> None:
    """Six mistakes, one run."""
    text = (
        '[data]\nstation = 1\n[train]\nseed = -1\nepochs = 2\n[model]\nname = "x"\n'
        '[[output]]\nsink = "y"\npath = "z"\n'
    )
    with pytest.raises(ConfigError, match=r"job\.toml cannot be used: 6 problem\(s\)") as caught:
        read(tmp_path, text)
    for place in ("[data] `station`", "[train] `seed`", "[train] `epochs`", "[model] `name`"):
        assert f"job.toml, {place}" in str(caught.value)


def test_configs_are_frozen_and_refuse_unknown_fields() -> None:
    """A config does not change under a running job; a misspelt field fails in Python too."""
    train = TrainConfig()
    with pytest.raises(ValidationError, match="frozen"):
        train.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        TrainConfig(epochs=3)  # type: ignore[call-arg]


def uncommented() -> str:
    """Return the template with every option switched on."""
    return TEMPLATE.read_text().replace("#: ", "")


def test_the_template_is_valid_with_and_without_its_options(tmp_path: Path) -> None:
    """What `stgraph init` writes must not fail on the first try, nor when lines are switched on."""
    read(tmp_path, TEMPLATE.read_text())
    read(tmp_path, uncommented())


def test_the_template_names_every_field_with_its_default() -> None:
    """Comments that lie are worse than none."""
    tables = tomllib.loads(uncommented())
    own_words = {"max_minutes", "baselines", "steps", "at", "holidays", "outliers", "gaps"}
    for stage in ("prepare", "windows", "train", "evaluate", "forecast"):
        model = JobConfig.model_fields[stage].annotation
        assert set(tables[stage]) == set(model.model_fields)
        for name, field in model.model_fields.items():
            if name not in own_words:  # these are None by default
                value = tables[stage][name]
                assert (tuple(value) if isinstance(value, list) else value) == field.default, name


def test_the_template_shows_roads_sources_and_segments(tmp_path: Path) -> None:
    """What nobody sees is not used: every field of [roads] at its default, and where it goes."""
    tables = tomllib.loads(uncommented())
    fields = RoadsConfig.model_fields
    assert set(tables["roads"]) == set(fields) - {"options"} | {"source"}
    for name, field in fields.items():
        if field.default is not None and name != "options":
            assert tables["roads"][name] == field.default, name
    job = read(tmp_path, uncommented())
    assert len(job.source) == 1
    assert [output.of for output in job.output].count("segments") == 1
    assert read(tmp_path, TEMPLATE.read_text()).roads is None


SOURCE = """\
[[source]]
connector = "stations"
stations = "weather.csv"
readings = "rain.csv"
join = { space = "around", max_distance_m = 500, role = "known_future" }
"""


def test_further_sources_have_options_of_connector_and_join(tmp_path: Path) -> None:
    """Paths are those of the file; `--set` reaches a source by its number."""
    job = read(tmp_path, MINIMAL + SOURCE * 2, overrides=["source.1.zone=Asia/Tokyo"])
    assert "zone" not in job.source[0].options
    assert job.source[1].options["zone"] == "Asia/Tokyo"
    assert job.source[0].options["stations"] == str(tmp_path / "weather.csv")
    assert job.source[0].join["max_distance_m"] == 500.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space =": "spaces ="}, r"\[\[source\]\] 1 `join` `spaces`: is an unknown key \(did you"),
        ({'"around"': '"arond"'}, "`space`: cannot be 'arond'"),
        ({"500": '"near"'}, "`max_distance_m`: cannot be 'near'"),
        ({"readings": "reading"}, r"\[\[source\]\] 1 `reading`: is an unknown key"),
        ({'"stations"': '"station"'}, r"`connector`: cannot be 'station' \(did you mean"),
        ({"[[source]]": "[source]"}, r"\[\[source\]\]: is not a list of tables; write it with two"),
        ({"role": "ahead_steps = 3, role"}, "`ahead_steps`: is an unknown key"),
    ],
)
def test_bad_sources_are_named(tmp_path: Path, change: dict[str, str], message: str) -> None:
    """Which of the sources, and whether it is the connector or the join."""
    text = SOURCE
    for old, new in change.items():
        text = text.replace(old, new, 1)
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, MINIMAL + text)
