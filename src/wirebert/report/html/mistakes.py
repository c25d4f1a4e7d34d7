"""The misclassified flows of a split: a matrix and filters, which the script (`flows.js`) works."""

import json

from markupsafe import Markup, escape

from wirebert.metrics.split_metrics import PER_CONFUSION, SplitMetrics
from wirebert.plurals import counted
from wirebert.report.columns import Columns
from wirebert.report.html.parts import paragraph, table
from wirebert.report.html.script import data_element
from wirebert.serialization import to_builtins

_MAX_BUTTONS = 20
"""Classes up to which the matrix has a table of buttons; beyond that the lists alone choose."""


def explorer(name: str, metrics: SplitMetrics, columns: Columns) -> Markup:
    """The filters and the flows of one split, hidden where no script runs; nothing without mistakes."""
    if not metrics.mistakes:
        return Markup("")
    labels = metrics.confusion.labels
    shown = {label for mistake in metrics.mistakes for label in (mistake.true_class, mistake.predicted_class)}
    names = dict.fromkeys(column for mistake in metrics.mistakes for column in mistake.flow)
    data = {
        "mistakes": to_builtins(metrics.mistakes),
        "typical": {
            label: {column: to_builtins(one) for column, one in own.items()}
            for label, own in columns.typical.items()
            if label in shown or len(labels) <= _MAX_BUTTONS
        },
    }
    num_wrong = sum(
        count
        for at, row in enumerate(metrics.confusion.matrix)
        for place, count in enumerate(row)
        if at != place
    )
    note = (
        f"{len(metrics.mistakes):,} of {num_wrong:,} misclassified flows are kept: the most confident "
        f"ones, at most {PER_CONFUSION} of each cell, similar flows once. A number's usual value is its "
        "median with 5 % and 95 % quantile, a text's its commonest values, in the training file or, for "
        "a saved model, in this file. What is rare in the true class is bold."
    )
    key = escape(f"flows-{name}")
    classes = "".join(f'<option value="{escape(label)}">{escape(label)}</option>' for label in labels)
    options = "".join(f'<option value="{escape(column)}">{escape(column)}</option>' for column in names)
    score = "attack score" if any(one.attack_score is not None for one in metrics.mistakes) else "probability"

    return Markup(
        f'<div class="explorer" data-flows="{key}" data-matrix="{escape(f"confusion_{name}")}" hidden>'
        f"{_matrix(name, metrics) if len(labels) <= _MAX_BUTTONS else ''}"
        '<div class="choices">'
        f"{_chooser('true', 'true class', classes)}{_chooser('predicted', 'predicted class', classes)}"
        f"{_chooser('column', 'column', options)}"
        '<label>value contains <input data-filter="value" type="search" autocomplete="off"></label>'
        f'<label>{score} from <input data-filter="low" type="number" min="0" max="1" step="any"></label>'
        f'<label>{score} to <input data-filter="high" type="number" min="0" max="1" step="any"></label>'
        '<button type="button" data-clear>Clear</button></div>'
        '<p role="status" class="faint"></p><div class="errors"></div>'
        '<p><button type="button" data-more hidden>Show more</button></p>'
        f"{paragraph(note, 'faint')}</div>{data_element(data, str(key))}"
    )


def _chooser(key: str, label: str, options: str) -> str:
    choices = f'<option value="">any</option>{options}'
    return f'<label>{label} <select data-filter="{key}">{choices}</select></label>'


def _matrix(name: str, metrics: SplitMetrics) -> Markup:
    """The confusion matrix as buttons."""
    labels = metrics.confusion.labels
    rows = [
        [escape(true), *map(_cell, [true] * len(labels), labels, counts)]
        for true, counts in zip(labels, metrics.confusion.matrix, strict=True)
    ]
    caption = f"Choose a cell to see its flows: true class (rows) and predicted class on {name}"
    return table(caption, ("", *labels), rows, kind="cells-table")


def _cell(true: str, predicted: str, count: int) -> Markup:
    if not count:
        return Markup('<span class="faint">0</span>')
    kind = "right" if true == predicted else "wrong"
    data = escape(json.dumps([true, predicted], ensure_ascii=False, separators=(",", ":")))
    words = escape(f"{counted(count, 'flow')} of {true} classified as {predicted}")
    return Markup(
        f'<button type="button" class="{kind}" data-cell="{data}" aria-pressed="false" '
        f'aria-label="{words}">'
        f"{count:,}</button>"
    )
