"""A million mutated records through the readers and the service: no traceback, no hang, rows in = scored + told.

    python benchmarks/records.py MODEL [--count 1000000] [--seed 1] [--minutes 60]

Files of 2,000 records of each line-based format, up to half of them damaged (see `mutate.py`), are read to the end:
each line must be a row, set aside with a reason, or a header, comment or blank line. Every fourth piece of work is a
body of 50 records that the service answers in-process, as JSON, JSON lines, CSV, text or an Arrow stream: a body is refused
in one sentence with a status of the 400s, or each of its flows has a verdict. Only damaged records are counted.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import mutate
import numpy as np
import pyarrow as pa

from wirebert.data.flows import DataConfig, open_flows
from wirebert.data.schema.conversion import InvalidValues
from wirebert.errors import UserError
from wirebert.inference.detector import Detector
from wirebert.service.bodies import ARROW, CSV, JSON, JSON_LINES, TEXT
from wirebert.service.handlers import RequestHandler, ScoreRequest
from wirebert.service.limits import Limits, RequestError

RECORDS, BODY_RECORDS, SHARE = 2_000, 50, 2
WAITING = 12
"""Seconds that may pass for one of processor time: others share the machine."""
Files = dict[str, tuple[list[bytes], list[bytes]]]
ANSWERS = (JSON, JSON_LINES, ARROW)


def line_files() -> Files:
    """Format -> the lines before its records, and records."""
    heads = {"comma": 1, "argus": 1, "zeek": 7}
    texts = {
        "comma": mutate.delimited(","),
        "json lines": mutate.json_lines(),
        "zeek": mutate.zeek().rsplit(b"#close", 1)[0],
        "suricata": mutate.eve(),
        "argus": mutate.binetflow(),
        "key-value lines": mutate.key_values(),
        "zeek, logs in one file": mutate.named_logs(),
    }
    lines = {name: text.splitlines(keepends=True) for name, text in texts.items()}
    return {name: (found[: heads.get(name, 0)], found[heads.get(name, 0) :]) for name, found in lines.items()}


def rows_of(detector: Detector) -> list[dict[str, str | int]]:
    """Rows that name every feature of the model."""
    features = [column for column in detector.schema.features if not detector.schema.is_context(column.name)]
    texts = ("http", "tcp", "10.0.0.1", "/a?b=c")
    return [
        {
            one.name: row * 7 if one.kind.is_numeric else texts[(row + at) % 4]
            for at, one in enumerate(features)
        }
        for row in range(40)
    ]


def damaged(
    records: list[bytes], count: int, most: int, generator: np.random.Generator
) -> tuple[list[bytes], int]:
    """Records drawn at random, at most so many of them mutated, and how many are."""
    drawn = [records[index] for index in generator.integers(0, len(records), count)]
    places = generator.choice(count, int(generator.integers(1, most + 1)), replace=False)
    for place in places:
        for _ in range(int(generator.integers(1, 4))):
            if drawn[place]:
                change = mutate.MUTATIONS[int(generator.integers(0, len(mutate.MUTATIONS)))]
                drawn[place] = change(drawn[place], generator)
    return drawn, len(places)


def read(path: Path, data: bytes) -> str:
    """What became of a file."""
    path.write_bytes(data)
    invalid, num_rows = InvalidValues(), 0
    flows = open_flows(str(path), DataConfig(max_invalid_fraction=1.0))
    for block in flows.blocks(invalid):
        num_rows += block.num_rows
    return mutate.account_lines(invalid.lines, num_rows, flows.dialect, data)


def body_of(kind: str, records: list[bytes], head: list[bytes], generator: np.random.Generator) -> bytes:
    """A body of this content type; JSON and Arrow are damaged as a whole too."""
    if kind in (CSV, TEXT, JSON_LINES):
        return b"".join([*(head if kind != JSON_LINES else []), *records])
    if kind == JSON:
        return b'{"flows":[' + b",".join(record.strip() for record in records) + b"]}"
    table = pa.Table.from_pylist([json.loads(record) for record in records])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return mutate.change_byte(sink.getvalue().to_pybytes(), generator)


def ask(handler: RequestHandler, kind: str, body: bytes, answer_type: str) -> str:
    """What became of a body."""
    answer = handler.handle([ScoreRequest(content_type=kind, body=body, answer_type=answer_type)])[0]
    if isinstance(answer, RequestError):
        return "refused" if 400 <= answer.status < 500 and "\n" not in str(answer) else f"told {answer!r}"
    if kind == JSON and len(json.loads(body)["flows"]) != answer.num_flows:
        return f"{answer.num_flows} verdicts for another number of flows"
    if kind == JSON_LINES and sum(1 for line in body.split(b"\n") if line.strip()) < answer.num_flows:
        return f"{answer.num_flows} verdicts for fewer lines"
    return "read"


def work(
    number: int, seed: int, files: Files, path: Path, handler: RequestHandler
) -> tuple[str, int, str, bytes]:
    """One file or body: what it is, its damaged records, what became of it, and its bytes."""
    generator = np.random.default_rng([seed, number])
    is_body = number % 4 == 3
    kind = (JSON, JSON_LINES, CSV, TEXT, ARROW)[number // 4 % 5]
    name = list(files)[number // 4 % len(files)]
    head, records = files[name]
    if is_body and kind != TEXT:
        rows = rows_of(handler.detector)
        head = [",".join(rows[0]).encode() + b"\n"] if kind == CSV else []
        records = [
            (",".join(map(str, row.values())) if kind == CSV else json.dumps(row)).encode() + b"\n"
            for row in rows
        ]
    if is_body and kind == ARROW:  # its bytes are damaged, not its records
        drawn, count = records, 1
    elif is_body:  # most damaged records refuse the whole body
        drawn, count = damaged(records, BODY_RECORDS, 2, generator)
    else:
        drawn, count = damaged(records, RECORDS, RECORDS // SHARE, generator)
    data = body_of(kind, drawn, head, generator) if is_body else b"".join([*head, *drawn])
    try:
        answer_type = ANSWERS[int(generator.integers(0, 3))]
        verdict = ask(handler, kind, data, answer_type) if is_body else read(path, data)
    except UserError as error:
        verdict = f"refused: {error}" if "\n" not in str(error) else f"message of several lines: {error}"
    except mutate.Hang:
        verdict = f"more than {mutate.MAX_SECONDS} s"
    except Exception:  # noqa: BLE001 -- whatever else happens is what we look for
        verdict = traceback.format_exc()
    return (f"service, {kind}" if is_body else name), count, verdict, data


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--keep", type=Path, help="folder for what fails")
    options = parser.parse_args()
    handler = RequestHandler(Detector.load(options.model), Limits())
    files, tally, failures = line_files(), Counter[str](), list[str]()
    why: dict[str, str] = {}
    signal.signal(signal.SIGALRM, mutate.stop)
    signal.signal(signal.SIGPROF, mutate.stop)
    since, done, number = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        while done < options.count and time.monotonic() - since < 60 * options.minutes:
            signal.alarm(WAITING * mutate.MAX_SECONDS)
            signal.setitimer(signal.ITIMER_PROF, mutate.MAX_SECONDS)
            name, count, verdict, data = work(
                number, options.seed, files, Path(folder) / "flows.log", handler
            )
            signal.alarm(0)
            signal.setitimer(signal.ITIMER_PROF, 0)
            done += count
            if verdict.split(":")[0] in ("read", "refused"):
                tally[f"{name}: {verdict.split(':')[0]}"] += count
                if verdict.startswith("refused:"):
                    why.setdefault(name, verdict)
            else:
                failures.append(f"{number} ({name}): {verdict}")
                if options.keep is not None:
                    (options.keep / f"{number}").write_bytes(data)
            number += 1
    for failure in failures[:5]:
        print(failure)
    for name, count in sorted(tally.items()):
        print(f"{count:10,} {name}")
    for name, reason in sorted(why.items()):
        print(f"           {name}, for example {reason}")
    print(f"{done:,} damaged records, {len(failures)} failures, {time.monotonic() - since:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
