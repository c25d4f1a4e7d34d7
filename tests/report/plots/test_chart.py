from pathlib import Path
from xml.etree import ElementTree

import pytest

from wirebert.report.plots import chart as plots
from wirebert.report.plots.chart import (
    HOVER,
    Chart,
    Switch,
    draw,
    nearest,
    specification,
    still,
    to_svg,
    write_pictures,
    zoom,
)
from wirebert.report.plots.run import run_charts
from wirebert.report.report import Report
from wirebert.telemetry.history import History

PNG = b"\x89PNG\r\n\x1a\n"


def dots(*extra: plots.Spec) -> plots.Spec:
    values = {"values": [{"x": 1, "y": 2}, {"x": 2, "y": 3}]}
    encoding: plots.Spec = {name: {"field": name, "type": "quantitative"} for name in "xy"}
    layer: plots.Spec = {"mark": "point", "encoding": encoding, "params": [zoom("x")]}
    return specification("Dots", None, {"data": values, "layer": [layer, nearest(encoding, []), *extra]})


def test_pictures_do_without_what_only_answers_a_pointer() -> None:
    spec = dots()
    assert [layer.get("name") for layer in spec["layer"]] == [None, HOVER]  # type: ignore[attr-defined, union-attr]
    assert [layer.get("name") for layer in still(spec)["layer"]] == [None]  # type: ignore[attr-defined, union-attr]
    svg = ElementTree.fromstring(to_svg(spec))
    groups = [g for g in svg.iter() if "role-mark" in g.get("class", "") and "symbol" in g.get("class", "")]
    assert [len(group) for group in groups] == [2]


def test_a_switch_starts_at_its_first_option() -> None:
    assert Switch("shown", "Cells", {"counts": "flows", "row": "share"}).to_spec() == {
        "name": "shown",
        "value": "counts",
    }


def test_every_picture_is_written_as_svg_and_as_png_on_white(tmp_path: Path) -> None:
    write_pictures({"dots": to_svg(dots())}, tmp_path / "plots")
    assert (tmp_path / "plots" / "dots.svg").read_text().startswith("<svg")
    png = (tmp_path / "plots" / "dots.png").read_bytes()
    assert png.startswith(PNG)
    assert len(png) > 1000


def test_nothing_in_a_chart_is_fetched_and_no_name_is_markup(report: Report, history: History) -> None:
    for name, svg in draw(run_charts(report, history)).items():
        assert "<b>probe" not in svg, name
        assert "NaN" not in svg, name
        for known in ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"):
            svg = svg.replace(known, "")
        assert "http" not in svg, name


def test_a_picture_has_room_for_letters_a_sixth_wider_than_arial_and_draws_text_at_its_size() -> None:
    values = {"values": [{"name": "w" * 20, "x": 1}]}
    y: plots.Spec = {"field": "name", "type": "nominal", "title": None}
    body: plots.Spec = {"data": values, "mark": "bar", "width": 10, "encoding": {"y": y}}
    svg = ElementTree.fromstring(to_svg(specification("W", None, body)))
    assert {text.get("font-size") for text in svg.findall(".//{*}text")} == {"12px", "14px"}
    arial = 20 * 12 * 0.722  # a `w` of Arial is 0.722 em
    assert float(svg.get("width", "0")) >= 10 + arial * 1.15


@pytest.mark.parametrize(
    "character", ["\0", "\x01", "\x1b", "\x7f", "\x9b", "\u202e", "\ufffe", "\uffff", "\ud800"]
)
def test_a_control_character_in_a_name_is_drawn_escaped_and_aborts_nothing(character: str) -> None:
    name = f"a{character}b"
    rows = [{"class": name, "value": 1.0}, {"class": "c", "value": 2.0}]
    axes = {"x": {"field": "class", "type": "nominal"}, "y": {"field": "value", "type": "quantitative"}}
    spec = specification(name, name, {"data": {"values": rows}, "mark": "bar", "encoding": axes})
    svg = draw({"one": Chart(spec=spec, words=name)})["one"]
    assert character not in svg
    assert ElementTree.fromstring(svg) is not None
