"""Our detection of CSV dialects and encodings beside clevercsv's and charset-normalizer's, on the corpus of the tests.

    pip install clevercsv charset-normalizer
    python benchmarks/dialects.py

A file counts as right for clevercsv if the delimiter is right and its reader then gives the first row, wherever it
stands (clevercsv knows no titles, comments and totals, and is not asked for them); for us if delimiter, names, first row,
number of rows and everything around them are right. An encoding is right if the file is decoded to the right text.
"""

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from wirebert.data.encodings import detect_encoding
from wirebert.data.files import open_file
from wirebert.data.settings import DataConfig

CORPUS = Path(__file__).resolve().parent.parent / "tests" / "data" / "test_corpus.py"


def corpus() -> dict[str, Any]:
    """The cases of the tests."""
    spec = importlib.util.spec_from_file_location("corpus", CORPUS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["corpus"] = module
    spec.loader.exec_module(module)
    return module.CORPUS


def text_of(case: Any) -> str:
    return case.content.decode(case.encoding).removeprefix("\ufeff")


def ours(path: Path, case: Any) -> bool:
    path.write_bytes(case.content)
    part = open_file(path, "file", DataConfig(), None)
    rows = [row for block in part.raw_blocks(1 << 20) for row in block.to_pylist()]
    names = None if not part.dialect.has_header else "|".join(part.names)
    first = "|".join(value.strip() for value in rows[0].values())
    return (part.dialect.delimiter, names, first, len(rows)) == (
        case.delimiter,
        case.names,
        case.first,
        case.rows,
    )


def encoding_is_right(case: Any) -> bool:
    return case.content.decode(detect_encoding(case.content, is_whole=True)).removeprefix(
        "\ufeff"
    ) == text_of(case)


def clevercsv_is_right(case: Any) -> bool:
    import clevercsv  # pyright: ignore[reportMissingImports]: installed for this comparison alone

    text = text_of(case)
    try:
        dialect = clevercsv.Sniffer().sniff(text)
        if dialect is None:
            return False
        rows = list(clevercsv.reader(text.splitlines(keepends=True), dialect))
    except clevercsv.Error:
        return False
    if (dialect.delimiter or "\x1f") != case.delimiter:
        return False
    return any("|".join(cell.strip() for cell in row) == case.first for row in rows)


def charset_is_right(case: Any) -> bool:
    from charset_normalizer import from_bytes  # pyright: ignore[reportMissingImports]: for this comparison alone

    best = from_bytes(case.content).best()
    return best is not None and str(best).removeprefix("\ufeff") == text_of(case)


def main() -> None:
    cases = corpus()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flows.csv"
        ways: dict[str, Callable[[Any], bool]] = {
            "table, wirebert": partial(ours, path),
            "first row, clevercsv": clevercsv_is_right,
            "encoding, wirebert": encoding_is_right,
            "encoding, charset-normalizer": charset_is_right,
        }
        for name, is_right in ways.items():
            since = time.perf_counter()
            wrong = [case_name for case_name, case in cases.items() if not is_right(case)]
            seconds = time.perf_counter() - since
            print(
                f"{name:30} {len(cases) - len(wrong)} of {len(cases)} in {seconds:.2f} s; wrong: {', '.join(wrong) or 'none'}"
            )


if __name__ == "__main__":
    main()
