import io

from rich.console import Console

from wirebert.metrics.significance import DifferenceInterval
from wirebert.report.comparison import Comparison, Difference, MetricEstimate, SplitComparison
from wirebert.report.comparison_terminal import comparison_remarks, print_comparison
from wirebert.report.report import FileUsage


def standing(value: float, std: float | None = 0.01) -> MetricEstimate:
    return MetricEstimate(value=value, std=std, intervals={"rows": (0.4, 0.6), "clusters": (0.1, 0.9)})


SPLIT = SplitComparison(
    name="test",
    num_flows=1000,
    num_clusters=7,
    estimates={
        "[red]ours": {"accuracy": standing(0.8), "macro_f1": standing(0.55)},
        "trees": {"accuracy": standing(0.7, None), "macro_f1": standing(0.5, None)},
    },
    differences=(
        Difference(
            first="[red]ours",
            second="trees",
            metric="macro_f1",
            value=0.05,
            intervals={
                "clusters": DifferenceInterval((-0.1, 0.2), 0.4, 0.8),
                "rows": DifferenceInterval((0.01, 0.09), 0.01, 0.02),
            },
        ),
    ),
)
COMPARISON = Comparison(
    title="both",
    primary="macro_f1",
    splits=(SPLIT, SplitComparison(name="valid", num_flows=5, num_clusters=0, note="Other flows.")),
    facts={"[red]ours": {"seeds": "1, 2"}, "trees": {"seeds": "1"}},
    settings={"training.epochs": ("5", "9")},
    files={"test": FileUsage("ab" * 32, 1, 1)},
)


def printed(width: int = 200) -> str:
    screen = io.StringIO()
    print_comparison(COMPARISON, Console(file=screen, width=width))
    return screen.getvalue()


def test_every_figure_stands_with_spread_and_interval_and_names_are_no_markup() -> None:
    text = printed()
    for expected in (
        "[red]ours",
        "0.550 +- 0.010",
        "[0.100, 0.900]",
        "0.500",
        "+0.050",
        "p 0.400, Holm 0.800",
    ):
        assert expected in text


def test_the_primary_figure_comes_first() -> None:
    text = printed()
    assert text.index("macro F1") < text.index("accuracy")


def test_a_split_without_a_test_says_why() -> None:
    assert "Other flows." in printed()


def test_reads_of_the_file_are_told() -> None:
    assert "1 test, with 1 set of settings" in " ".join(comparison_remarks(SPLIT, COMPARISON))


def test_what_is_piped_is_plain_text() -> None:
    assert printed().isascii()


def test_it_fits_a_narrow_terminal() -> None:
    assert all(len(line) <= 80 for line in printed(80).splitlines())
