"""Classes and colours: round limits, every value in a class, colours that all eyes tell apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from stgraph_connectors.styles import (
    RAMPS,
    Classes,
    Style,
    classify,
    classify_feature,
    feature_title,
    format_number,
    main_feature,
)

from stgraph.errors import InputError
from stgraph.graph import Feature, STGraph

COUNT = Feature("count", "pedestrians/h")


def test_counts_get_quantiles_rounded_to_what_their_spacing_allows() -> None:
    values = np.concatenate([np.arange(0, 100), np.arange(100, 5000, 50)])
    classes = classify(values, feature=COUNT, style=Style(n_classes=4))
    assert classes.breaks == (50.0, 100.0, 2500.0)
    assert classes.labels == (
        "≤ 50",
        "50 – 100",
        "100 – 2 500".replace(" 5", "\u202f5"),
        "> 2\u202f500",
    )


def test_speeds_get_even_classes_with_low_in_red() -> None:
    classes = classify(np.linspace(0, 70, 200), feature=Feature("speed", "mph"))
    assert classes.breaks == (10.0, 20.0, 30.0, 40.0, 50.0, 60.0)
    assert classes.colours[0] == RAMPS["traffic"][0]


def test_free_flow_is_not_red() -> None:
    """Speeds that hardly differ: the slowest of them is no jam, and a jam would still be red."""
    classes = classify(np.linspace(64.5, 68, 200), feature=Feature("speed", "mph"))
    assert classes.breaks == (45.0, 50.0, 55.0, 60.0, 65.0)
    assert set(classes.index([64.5, 66, 68])) == {4, 5}
    assert classes.index([20.0]) == 0
    assert classes.colours[0] == RAMPS["traffic"][0]


def test_no_class_is_narrower_than_half_a_per_cent_of_the_values() -> None:
    """Counts around 1,000 that differ by 4 are the same count, in classes of at least 5."""
    classes = classify(np.linspace(998, 1002, 200), feature=COUNT)
    assert len(classes.breaks) == 1
    classes = classify(np.linspace(980, 1040, 200), feature=Feature("pressure", "hPa"))
    assert len(classes.breaks) == 6


@pytest.mark.parametrize("name", ["mae", "rmse", "crps", "width", "absolute_error", "speed_std"])
def test_an_error_in_the_unit_of_a_speed_is_no_speed(name: str) -> None:
    """Red for the best nodes and blue for the worst would be read the wrong way round."""
    classes = classify(np.linspace(0, 7, 200), feature=Feature(name, "mph"))
    assert classes.colours[0] == RAMPS["ember"][0]


def test_differences_are_symmetric_around_zero() -> None:
    values = np.linspace(-3, 9, 100)
    classes = classify(values, feature=Feature("count_delta", "1/h"))
    assert classes.breaks == (-6.0, -4.0, -2.0, 2.0, 4.0, 6.0)
    assert classes.colours[3] == RAMPS["delta"][3]
    assert classes.labels[1] == "−6 to −4"


def test_less_speed_is_red_but_more_count_is_red() -> None:
    values = np.linspace(-9, 9, 100)
    slower = classify(values, feature=Feature("speed_delta", "km/h")).colours
    fewer = classify(values, feature=Feature("count_delta", "1/h")).colours
    assert slower == fewer[::-1]
    assert slower[0] == RAMPS["delta"][-1]


def test_both_signs_without_a_telling_name_are_a_difference() -> None:
    assert classify(np.linspace(-5, 5, 50), feature=Feature("x")).breaks[0] < 0
    # forecast counts a little below zero are none
    assert classify([-1.0, *range(100)], feature=COUNT).breaks[0] > 0


@pytest.mark.parametrize("values", [[], [np.nan], [5.0, 5.0, np.nan]])
def test_equal_or_missing_values_give_one_class(values: list[float]) -> None:
    classes = classify(values, feature=COUNT)
    assert classes.labels == ("all values",)
    assert len(classes.colours) == 1


def test_given_breaks_ramp_and_words_are_taken_as_they_are() -> None:
    style = Style(breaks=(1, 2.5), ramp="viridis", label="Flow", unit="veh", reverse=True)
    classes = classify([0, 9], feature=COUNT, style=style)
    assert classes.breaks == (1.0, 2.5)
    assert classes.title == "Flow (veh)"
    assert classes.colours[0] == RAMPS["viridis"][-1]
    assert classes.labels == ("≤ 1.0", "1.0 – 2.5", "> 2.5")


def test_a_value_on_a_break_is_in_the_lower_class_as_in_qgis() -> None:
    classes = Classes("x", "X", "", (1.0, 2.0), ("#000000", "#111111", "#222222"))
    assert classes.index([0.5, 1.0, 1.5, 2.0, 9.0, np.nan]).tolist() == [0, 0, 1, 1, 2, -1]


@given(
    values=hnp.arrays(
        np.float32, st.integers(1, 60), elements=st.floats(width=32, allow_infinity=False)
    ),
    n_classes=st.integers(2, 12),
    unit=st.sampled_from(["", "km/h", "1/h"]),
    name=st.sampled_from(["x", "x_delta"]),
)
def test_every_number_has_a_class_within_the_limits(
    values: np.ndarray, n_classes: int, unit: str, name: str
) -> None:
    """A value outside all classes would vanish from the map."""
    classes = classify(values, feature=Feature(name, unit), style=Style(n_classes=n_classes))
    assert 1 <= len(classes.colours) <= n_classes
    assert list(classes.breaks) == sorted(set(classes.breaks))
    assert len(classes.labels) == len(classes.colours) == len(classes.limits) - 1
    known = values[np.isfinite(values)]
    assert ((classes.index(known) >= 0) & (classes.index(known) < len(classes.colours))).all()
    if known.size and np.abs(known).max() < 1e9:
        assert classes.limits[0] <= known.min()
        assert known.max() <= classes.limits[-1]


def seen_by(colour: str, matrix: np.ndarray) -> np.ndarray:
    """A colour as a colour-blind person sees it (Machado et al. 2009), in linear light."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.clip(matrix @ linear, 0, 1) ** (1 / 2.2) * 255


PROTAN = np.array(
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
)
DEUTAN = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)


@pytest.mark.parametrize("ramp", RAMPS)
@pytest.mark.parametrize("matrix", [np.eye(3), PROTAN, DEUTAN], ids=["all", "protan", "deutan"])
@pytest.mark.parametrize("n_classes", [3, 5, 6, 7])
def test_all_eyes_tell_classes_apart(ramp: str, matrix: np.ndarray, n_classes: int) -> None:
    """Any two classes, not only neighbours: red must not look like green."""
    breaks = tuple(float(i) for i in range(n_classes - 1))
    colours = classify([0, 9], feature=COUNT, style=Style(ramp=ramp, breaks=breaks)).colours
    seen = np.array([seen_by(colour, matrix) for colour in colours])
    gaps = np.linalg.norm(seen[:, None] - seen[None], axis=2)
    assert gaps[np.triu_indices(n_classes, 1)].min() > 17


def test_the_plain_target_is_drawn_before_quantiles_and_inputs(graph: STGraph) -> None:
    names = [("speed_q10", "target"), ("hour", "known_future"), ("speed", "target")]
    features = tuple(Feature(n, "km/h", r) for n, r in names)  # type: ignore[arg-type]
    one = graph.replace(values=np.repeat(graph.values, 3, axis=2), mask=None, features=features)
    assert main_feature(one).name == "speed"
    assert main_feature(one, Style(feature="hour")).name == "hour"
    with pytest.raises(InputError, match="did you mean 'speed'"):
        main_feature(one, Style(feature="sped"))
    assert classify_feature(one).feature == "speed"


@pytest.mark.parametrize(("unit", "low"), [("km/h", "#9e0b2f"), ("veh/h", "#fdd9a0")])
def test_forecast_classes_have_their_names_and_a_colour_each(
    graph: STGraph, unit: str, low: str
) -> None:
    """Nearly all nodes are in one class, as on most days; the few jams are what counts."""
    values = np.full_like(graph.values, 2)
    values[0, 0] = 0
    names = [f"below 20 {unit}", f"20 to 40 {unit}", f"40 {unit} or more"]
    forecast = graph.replace(
        values=values,
        mask=None,
        features=(Feature("speed_class", "1"),),
        provenance={"kind": "forecast", "classes": names},
    )
    classes = classify_feature(forecast)
    assert classes.labels == tuple(names)
    assert classes.index([0, 1, 2]).tolist() == [0, 1, 2]
    assert len(set(classes.colours)) == 3
    assert classes.colours[0] == low
    by_hand = classify_feature(forecast, Style(breaks=(1.0,), ramp="tide"))
    assert by_hand.labels == ("≤ 1", "> 1")


def test_probabilities_are_named_by_their_class(graph: STGraph) -> None:
    """``speed_p0`` says nothing to who looks at a map; numbers of no class stay what they are."""
    names = ["below 20 mph", "20 mph or more"]
    first, pressure = Feature("speed_p0", "1"), Feature("air_p2", "hPa")
    assert feature_title(first, classes=names) == "Speed below 20 mph, probability"
    assert feature_title(pressure, classes=names) == "Air p2 (hPa)"
    assert feature_title(first) == "Speed p0"
    forecast = graph.replace(
        values=np.zeros_like(graph.values),
        mask=None,
        features=(first,),
        provenance={"kind": "forecast", "classes": names},
    )
    assert classify_feature(forecast).label == "Speed below 20 mph, probability"
    assert classify_feature(forecast, Style(label="Jam")).label == "Jam"


def test_titles_are_words_with_units() -> None:
    assert feature_title(Feature("mae", "km/h")) == "MAE (km/h)"
    assert feature_title(Feature("travel_time", "s")) == "Travel time (s)"
    assert feature_title(Feature("speed_q90", "km/h")) == "Speed, 90\u202f% quantile (km/h)"
    assert feature_title(Feature("similarity", "1")) == "Similarity"


def test_numbers_have_the_decimals_of_their_neighbours() -> None:
    assert format_number(1200.0) == "1\u202f200"
    assert format_number(0.5, (0.25,)) == "0.50"
    assert format_number(-3.0) == "−3"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_classes": 1}, "use 2 to 12"),
        ({"ramp": "virids"}, "did you mean 'viridis'"),
        ({"breaks": (2.0, 1.0)}, "ascending"),
        ({"breaks": ()}, "ascending"),
        ({"breaks": (float("nan"),)}, "ascending"),
        ({"size_mm": 0.0}, "millimetres above 0"),
    ],
)
def test_bad_wishes_are_refused(options: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        Style(**options)  # type: ignore[arg-type]
