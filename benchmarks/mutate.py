"""Damaged traffic files through all of `wirebert inspect`: each must end in a result or in one sentence.

    python benchmarks/mutate.py --count 20000 --seed 1 [--state FILE] [--only INDEX]

Small valid files of all formats are damaged at random (bytes changed, cut, doubled, swapped; quotes,
delimiters, line ends and zero bytes inserted; lines repeated, delimiters swapped, values of another type;
compressed and binary data damaged). A file passes if it is inspected,
or refused by a `UserError` of one line; if it takes at most ten seconds; and if every line is accounted
for: header, rows, blank lines, comments, rejected rows and line breaks inside quotes add up to the lines of
the file. With `--state` the work continues where it stopped.
"""

import argparse
import bz2
import gzip
import io
import json
import lzma
import re
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wirebert.data.accounting import ParseStats
from wirebert.data.dialect import Dialect
from wirebert.data.flows import DataConfig
from wirebert.errors import UserError
from wirebert.workflows.inspect import Inspection, inspect_data

MAX_SECONDS = 10
MAX_CASE_BYTES = 20_000
CHUNK = 500
NOT_COUNTED = ("parquet", "nfdump")
"""Formats without rows in lines, or whose records are paired to flows."""
KINDS = (("tcp", "http", "benign"), ("udp", "dns", "benign"), ("icmp", "-", "attack"))
INSERTS = b'"|\'|,|;|\t|\n|\r|\r\n|\0|#|\\|\xff|\xc3| |=|:|""'.split(b"|")

OTHER_VALUES = (
    *(b'"x"', b"-", b"null", b"true", b"1e999", b"-0", b"[1,2]", b'{"a":1}', b"[]", b'""', b"NaN", b"?"),
    *(b"9" * 40, b"1.9 M", b"0x1f", b'"\\ud800"', b"[" * 200, b'{"a":' * 200, "\u0661".encode()),
)


def table_rows(num_rows: int) -> list[list[str]]:
    """A small table of flows, its names first."""
    generator = np.random.default_rng(7)
    rows = [["duration", "proto", "service", "src_bytes", "uri", "label"]]
    for row in range(num_rows):
        duration, num_bytes = f"{generator.exponential():.3f}", str(int(generator.integers(0, 5000)))
        proto, service, label = KINDS[row % 3]
        uri = ("/index.html", "/a,b;c", 'say "hi"', "/x y")[row % 4]
        rows.append([duration, proto, service, num_bytes, uri, label])
    return rows


def delimited(delimiter: str, *, quote: str = '"', header: bool = True, end: str = "\n") -> bytes:
    """The table as text; fields that need quotes have them."""

    def field(text: str) -> str:
        if not any(mark in text for mark in (delimiter, quote, "\n", " ")):
            return text
        return f"{quote}{text.replace(quote, quote * 2)}{quote}"

    rows = table_rows(40)[0 if header else 1 :]
    return "".join(delimiter.join(field(text) for text in row) + end for row in rows).encode()


def key_values() -> bytes:
    """The table as key-value lines."""
    names, *rows = table_rows(40)
    return "".join(
        ", ".join(f"{name}:{text}" for name, text in zip(names, row, strict=True) if name != "uri") + "\n"
        for row in rows
    ).encode()


def parquet() -> bytes:
    """The table as Parquet."""
    names, *rows = table_rows(40)
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def json_lines() -> bytes:
    """The table as JSON lines."""
    names, *rows = table_rows(40)
    return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows).encode()


def zeek() -> bytes:
    """A Zeek conn.log."""
    ends = "ts uid id.orig_h id.orig_p id.resp_h id.resp_p"
    fields = f"{ends} proto service duration orig_bytes resp_bytes conn_state".split()
    types = "time string addr port addr port enum string interval count count string".split()
    head = [
        "#separator \\x09",
        "#set_separator\t,",
        "#empty_field\t(empty)",
        "#unset_field\t-",
        "#path\tconn",
    ]
    head += ["\t".join(["#fields", *fields]), "\t".join(["#types", *types])]
    rows = [
        f"{1500000000 + row}.5\tC{row:06d}\t10.0.0.{row % 9}\t{40000 + row}\t192.168.1.2\t80\ttcp\t"
        f"{'http' if row % 2 else '-'}\t0.{row}\t{row * 10}\t-\tSF"
        for row in range(40)
    ]
    return "\n".join([*head, *rows, "#close\t2020-01-01-00-00-00", ""]).encode()


def named_logs() -> bytes:
    """Zeek logs in JSON, in one file, whose lines say which log they belong to."""
    ends = '"id.orig_h":"10.0.0.1","id.orig_p":1024,"id.resp_h":"10.0.0.2","id.resp_p":443'
    conn = '"proto":"tcp","service":"ssl","conn_state":"SF","duration":0.5'
    rows = (
        f'{{"_path":"conn",{common},{conn},"orig_ip_bytes":{60 + row}}}\n'
        f'{{"_path":"ssl",{common},"version":"TLSv12"}}\n'
        for row in range(20)
        for common in [f'"ts":"2024-03-24T17:15:{row:02}.5Z","uid":"C{row}",{ends}']
    )
    return "".join(rows).encode()


def eve() -> bytes:
    """Suricata's flow events, with alerts and DNS events of version 3."""
    ends = '"src_ip":"10.0.0.1","src_port":1024,"dest_ip":"10.0.0.2","dest_port":53,"proto":"UDP"'
    times = '"start":"2021-06-06T15:57:31.0+0200","end":"2021-06-06T15:57:33.5+0200"'
    sizes = '"pkts_toserver":2,"pkts_toclient":1,"bytes_toserver":120,"bytes_toclient":60'
    dns = '{"version":3,"rcode":"NOERROR","flags":"8180","queries":[{"rrname":"a","rrtype":"A"}]}'
    events = (
        f'"event_type":"flow","app_proto":"dns","flow":{{{sizes},{times}}}',
        f'"event_type":"dns","dns":{dns}',
        '"event_type":"alert","alert":{"signature":"s","severity":1}',
    )
    rows = (
        f'{{"timestamp":"2021-06-06T15:57:{row:02}.272281+0200","flow_id":{row},{ends},{event}}}\n'
        for row in range(20)
        for event in events
    )
    return "".join(rows).encode()


def binetflow() -> bytes:
    """Argus flows."""
    head = "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,sTos,dTos,TotPkts,TotBytes,SrcBytes"
    rows = (
        f"2011/08/10 09:46:{row:02}.5,1.0{row},tcp,10.0.0.1,{1024 + row},   ->,10.0.0.2,80,"
        "FSPA_FSPA,0,0,4,276,156,flow=x\n"
        for row in range(40)
    )
    return (f"{head},Label\n" + "".join(rows)).encode()


def nested_table() -> pa.Table:
    """Rows with structures, lists and dictionaries."""
    rows = [
        {
            "flow": {"bytes": {"in": row, "out": 2 * row}},
            "sizes": [row],
            "proto": KINDS[row % 3][0],
            "label": "a",
        }
        for row in range(40)
    ]
    table = pa.Table.from_pylist(rows)
    return table.set_column(2, "proto", table["proto"].dictionary_encode())


def arrow(kind: str) -> bytes:
    """The nested rows in one of Arrow's formats."""
    table, sink = nested_table(), io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink)
    else:
        new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
        with new(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


def zipped(data: bytes) -> bytes:
    """A zip archive of one file."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("flows.csv", data)
    return sink.getvalue()


def wrapped(wrap: Callable[[str], object]) -> bytes:
    """Suricata's events, each inside of something."""
    return b"".join(json.dumps(wrap(line)).encode() + b"\n" for line in eve().decode().splitlines())


def cases() -> dict[str, bytes]:
    """The small files of tests/cases."""
    folder = Path(__file__).parent.parent / "tests" / "cases"
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".md"))
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files if "__" not in str(path)}
    return {name: data for name, data in found.items() if len(data) <= MAX_CASE_BYTES}


def base_files() -> dict[str, bytes]:
    """Valid files, by what they are."""
    comma = delimited(",")
    return {
        "comma": comma,
        "semicolon": delimited(";", end="\r\n"),
        "tab": delimited("\t", header=False),
        "pipe": delimited("|", end="\r"),
        "blanks": delimited(" "),
        "single quotes": delimited(",", quote="'"),
        "byte-order mark": b"\xef\xbb\xbf" + comma,
        "utf-16": comma.decode().encode("utf-16"),
        "title, comments and totals": b"Report\n\n# note\n" + comma + b"# end\nSummary\ntotal,40\n",
        "key-value lines": key_values(),
        "gzip": gzip.compress(comma),
        "bzip2": bz2.compress(comma),
        "parquet": parquet(),
        "json lines": json_lines(),
        "zeek": zeek(),
        "zeek, logs in one file": named_logs(),
        "suricata": eve(),
        "argus": binetflow(),
        "xz": lzma.compress(comma),
        "zstandard": pa.compress(comma, "zstd", asbytes=True),
        "zip": zipped(comma),
        "gzip, zeek": gzip.compress(zeek()),
        "nested parquet": arrow("parquet"),
        "arrow file": arrow("file"),
        "arrow stream": arrow("stream"),
        "suricata in elasticsearch": wrapped(lambda line: {"_id": "x", "_source": json.loads(line)}),
        "suricata in filebeat": wrapped(lambda line: {"@timestamp": "2021-06-06", "message": line}),
        "suricata in one array": json.dumps(list(map(json.loads, eve().splitlines()))).encode(),
        "suricata over several lines": "\n".join(
            json.dumps(json.loads(line), indent=2) for line in eve().splitlines()
        ).encode(),
        **cases(),
    }


def change_byte(data: bytes, generator: np.random.Generator) -> bytes:
    place = int(generator.integers(0, len(data)))
    return data[:place] + bytes([int(generator.integers(0, 256))]) + data[place + 1 :]


def insert_mark(data: bytes, generator: np.random.Generator) -> bytes:
    place = int(generator.integers(0, len(data) + 1))
    return data[:place] + INSERTS[int(generator.integers(0, len(INSERTS)))] + data[place:]


def cut_out(data: bytes, generator: np.random.Generator) -> bytes:
    start, stop = sorted(generator.integers(0, len(data) + 1, 2).tolist())
    return data[:start] + data[min(stop, start + 200) :]


def cut_off(data: bytes, generator: np.random.Generator) -> bytes:
    return data[: int(generator.integers(0, len(data)))]


def double(data: bytes, generator: np.random.Generator) -> bytes:
    start = int(generator.integers(0, len(data)))
    piece = data[start : start + int(generator.integers(1, 300))]
    return data[:start] + piece * int(generator.integers(2, 5)) + data[start:]


def swap_lines(data: bytes, generator: np.random.Generator) -> bytes:
    lines = data.splitlines(keepends=True)
    one, other = generator.integers(0, len(lines), 2).tolist()
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def fill_with_zeros(data: bytes, generator: np.random.Generator) -> bytes:
    start = int(generator.integers(0, len(data)))
    return data[:start] + b"\0" * int(generator.integers(1, 400)) + data[start:]


def repeat_line(data: bytes, generator: np.random.Generator) -> bytes:
    lines = data.splitlines(keepends=True)
    index = int(generator.integers(0, len(lines)))
    return b"".join([*lines[:index], lines[index] * int(generator.integers(1, 6)), *lines[index:]])


def swap_delimiters(data: bytes, generator: np.random.Generator) -> bytes:
    """One delimiter in place of another, from some place on."""
    start = int(generator.integers(0, len(data)))
    one, other = (b",;|\t :"[index : index + 1] for index in generator.integers(0, 6, 2).tolist())
    return data[:start] + data[start:].replace(one, other, int(generator.integers(1, 20)))


def change_type(data: bytes, generator: np.random.Generator) -> bytes:
    """A number or text in place of which another type stands."""
    values = list(re.finditer(rb'"[^"\n]*"|\d+(?:\.\d+)?', data))
    if not values:
        return data
    value = values[int(generator.integers(0, len(values)))]
    other = OTHER_VALUES[int(generator.integers(0, len(OTHER_VALUES)))]
    return data[: value.start()] + other + data[value.end() :]


MUTATIONS: Sequence[Callable[[bytes, np.random.Generator], bytes]] = (
    *(change_byte, change_byte, insert_mark, insert_mark, insert_mark),
    *(cut_out, cut_off, double, swap_lines, fill_with_zeros),
    *(repeat_line, swap_delimiters, change_type, change_type),
)


def mutated(seed: int, index: int, bases: dict[str, bytes]) -> tuple[str, bytes]:
    """Damaged file number `index` and what it was."""
    generator = np.random.default_rng([seed, index])
    name = list(bases)[index % len(bases)]
    data = bases[name]
    for _ in range(int(generator.integers(1, 5))):
        if data:
            data = MUTATIONS[int(generator.integers(0, len(MUTATIONS)))](data, generator)
    return name, data


def judge(path: Path, data: bytes) -> str:
    """`read`, `refused`, or what went wrong."""
    path.write_bytes(data)
    try:
        found = inspect_data(str(path), DataConfig(max_invalid_fraction=0.5))
        json.loads(found.to_json())
    except UserError as error:
        return "refused" if "\n" not in str(error) else f"message of several lines: {error}"
    except Hang:
        return f"more than {MAX_SECONDS} s"
    except Exception:  # noqa: BLE001 -- whatever else happens is what we look for
        return traceback.format_exc()
    return account(found, data)


def account(found: Inspection, data: bytes) -> str:
    """Whether all rows and lines are accounted for."""
    return account_lines(
        found.profile.invalid_values.lines, found.profile.num_rows, found.flows.dialect, data
    )


def account_lines(lines: ParseStats, num_rows: int, dialect: Dialect, data: bytes) -> str:
    """`read`, or what the counts of a file's lines lack."""
    if num_rows != lines.num_rows and dialect.format not in NOT_COUNTED:
        return f"{num_rows} rows, accounted {lines}"
    is_of_lines = dialect.format in ("zeek", "suricata", "argus", "json_lines")
    if is_of_lines and lines.num_line_breaks not in (0, -1, 1):
        return f"lines not accounted for: {lines}"
    if dialect.format == "delimited" and dialect.compression == "none":
        codec = "utf-8" if dialect.encoding == "utf-8" else dialect.encoding
        text = data.decode(codec, errors="replace").removeprefix("\ufeff")
        num_lines = len(re.findall(r"\r\n|\r|\n", text)) + (text != "" and text[-1] not in "\r\n")
        if lines.num_lines != num_lines or lines.num_line_breaks < 0 or num_rows != lines.num_rows:
            return f"{num_lines} lines, accounted {lines}"
    return "read"


class Hang(BaseException):
    """No OSError, which a reader would take for damage."""


def stop(*_: object) -> None:
    """What a signal does after the time that a file may take."""
    raise Hang


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", type=Path, help="file that keeps what is done")
    parser.add_argument("--only", type=int, help="the index of one file, which is written to standard output")
    options = parser.parse_args()
    if options.only is not None:
        sys.stdout.buffer.write(mutated(options.seed, options.only, base_files())[1])
        return 0
    done, tally = 0, Counter[str]()
    failures: list[str] = []
    if options.state is not None and options.state.exists():
        kept = json.loads(options.state.read_text())
        done, tally, failures = kept["done"], Counter(kept["tally"]), kept["failures"]
    bases = base_files()
    signal.signal(signal.SIGALRM, stop)
    since = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        while done < options.count:
            for index in range(done, min(done + CHUNK, options.count)):
                name, data = mutated(options.seed, index, bases)
                signal.alarm(MAX_SECONDS)
                verdict = judge(Path(folder) / "flows.csv", data)
                signal.alarm(0)
                if verdict in ("read", "refused"):
                    tally[f"{name}: {verdict}"] += 1
                else:
                    tally["failed"] += 1
                    failures.append(f"file {index} ({name}): {verdict}")
            done = min(done + CHUNK, options.count)
            if options.state is not None:
                kept = {"done": done, "tally": tally, "failures": failures}
                options.state.write_text(json.dumps(kept, indent=1))
    for failure in failures[:5]:
        print(failure)
    for name, count in sorted(tally.items()):
        print(f"{count:8,} {name}")
    print(f"{done:,} files, {len(failures)} failures, {time.perf_counter() - since:.0f} s in this call")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
