import re

from markupsafe import Markup, escape

from wirebert.report.html.parts import (
    disclosure,
    facts,
    figure,
    join,
    paragraph,
    style_sheet,
    table,
    with_range,
)
from wirebert.report.plots.chart import FAINT_INK, INK, RULE, Chart, Switch


def test_text_is_escaped_once_and_markup_is_not() -> None:
    assert join("a < b", Markup("<b>"), with_range("<1", "[0, 1]")) == (
        'a &lt; b<b>&lt;1 <span class="range">[0, 1]</span>'
    )
    assert escape(escape("&")) == "&amp;"
    assert paragraph("<i>") == "<p>&lt;i&gt;</p>"


def test_a_table_names_itself_its_columns_and_its_rows() -> None:
    html = table("Flows <1>", ("class", "flows"), [("<dos>", "3")])
    assert "<caption>Flows &lt;1&gt;</caption>" in html
    assert '<th scope="col">flows</th>' in html
    assert '<th scope="row">&lt;dos&gt;</th><td>3</td>' in html
    assert 'aria-label="Flows &lt;1&gt;"' in html


def test_no_facts_are_nothing() -> None:
    assert facts("Facts", {}) == ""


def test_what_opens_says_what_it_belongs_to() -> None:
    html = disclosure("As a table", Markup("x"), about="ROC")
    assert html == '<details><summary>As a table<span class="unseen">: ROC</span></summary>x</details>'


def chart(**more: object) -> Chart:
    switches = (
        Switch("shown", "Cells", {"a": "<one>", "b": "two"}),
        Switch("class", "Class", {str(i): f"c{i}" for i in range(5)}),
    )
    return Chart(spec={}, words='ROC: "best"', head=("a",), rows=(("1",),), switches=switches, **more)  # type: ignore[arg-type]


SVG = '<svg><clipPath id="clip1"/><path d="M1.23456,2" fill="url(#clip1)"/></svg>'


def test_few_options_are_buttons_many_a_list_and_the_first_is_set() -> None:
    html = figure("roc_test", chart(), SVG)
    assert html.count('type="radio"') == 2
    assert html.count(" checked") == 1
    assert html.count("<option") == 5
    assert 'value="a" data-parameter="shown" checked>&lt;one&gt;' in html
    assert '<div class="switches" hidden>' in html  # shown by the script that makes them work


def test_two_charts_share_no_name_and_places_have_few_digits() -> None:
    one, two = (figure(name, chart(), SVG) for name in ("roc_a.b", "roc_a_b"))
    assert 'id="clip1"' not in one
    assert one.split('id="')[1].split('"')[0] != two.split('id="')[1].split('"')[0]
    assert 'd="M1.2,2"' in one


def test_a_still_chart_has_no_switches_and_one_left_out_says_where_it_is() -> None:
    still = figure("roc_test", chart(), SVG, is_live=False)
    assert "data-chart" not in still
    assert "radio" not in still
    away = figure("roc_test", chart(), None)
    assert "plots/roc_test.svg" in away
    assert "<svg" not in away
    assert "<table" in away


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_enough_contrast_in_light_and_dark() -> None:
    for theme in re.findall(r":root \{(.*?)\}", style_sheet(), flags=re.DOTALL)[:2]:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", theme))
        for background in ("paper", "panel"):
            for text in ("ink", "faint", "accent", "bad"):
                bright, dark = sorted(
                    (luminance(colours[text]), luminance(colours[background])), reverse=True
                )
                assert (bright + 0.05) / (dark + 0.05) >= 4.5, (text, background)  # WCAG 2 AA


def test_the_style_sheet_restyles_the_colours_of_the_charts() -> None:
    restyled = set(re.findall(r'svg \[(?:fill|stroke)="(#\w{6})"\]', style_sheet()))
    assert restyled == {INK, FAINT_INK, RULE}
    for name, colour in {"ink": INK, "faint": FAINT_INK, "rule": RULE}.items():
        assert f"--{name}: {colour};" in style_sheet()


def test_the_style_sheet_has_balanced_braces_and_fetches_nothing() -> None:
    assert style_sheet().count("{") == style_sheet().count("}")
    assert "url(" not in style_sheet()
    assert "@import" not in style_sheet()
