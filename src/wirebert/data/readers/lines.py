"""Text files as blocks of whole lines, and such blocks as tables, for line-based sensor logs."""

import operator
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal, cast

import pyarrow as pa
import pyarrow.csv as arrow_csv

from wirebert.data.accounting import ParseStats
from wirebert.data.dialect import Compression, Decoded, damage, damaged, open_bytes, reason_of
from wirebert.data.readers.json_values import table_of_objects
from wirebert.errors import DataError
from wirebert.files import MAX_DEPTH

UTF8_MARK = b"\xef\xbb\xbf"
MAX_BLOCKS_PER_LINE = 8
_NO_OPENERS = bytes(set(range(256)) - set(b"{[\n"))
_DEEP = re.compile(rb"[{\[]{%d}" % (MAX_DEPTH + 1))


def byte_blocks(
    path: Path, compression: Compression, block_bytes: int, where: str, encoding: str = "utf-8"
) -> Iterator[bytes]:
    """The uncompressed text of a file as UTF-8 without byte-order mark, `block_bytes` at a time.

    Raises:
        DataError: the compressed data is damaged.
    """
    is_first = True
    try:
        with open_bytes(path, compression) as raw:
            stream = raw if encoding == "utf-8" else Decoded(raw, encoding)
            while chunk := stream.read(block_bytes):
                yield chunk.removeprefix(UTF8_MARK) if is_first else chunk
                is_first = False
    except damage() as error:
        raise damaged(where, "text" if compression == "none" else compression, error) from error


def line_blocks(
    path: Path,
    compression: Compression,
    block_bytes: int,
    where: str,
    parse_stats: ParseStats,
    encoding: str = "utf-8",
) -> Iterator[bytes]:
    """Blocks of whole lines, about `block_bytes` each, without byte-order mark; the last line may have no
    line end. A line longer than eight blocks is skipped and counted in `parse_stats`.

    Raises:
        DataError: the compressed data is damaged.
    """
    rest, num_skipped, limit = b"", 0, MAX_BLOCKS_PER_LINE * block_bytes
    for chunk in byte_blocks(path, compression, block_bytes, where, encoding):
        if num_skipped:
            end = chunk.find(b"\n") + 1
            num_skipped += end or len(chunk)
            if not end:
                continue
            parse_stats.reject_long(rest, num_skipped, limit)
            rest, num_skipped, chunk = b"", 0, chunk[end:]
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield rest + chunk[:cut]
        rest = chunk[cut:] if cut else rest + chunk
        if len(rest) > limit:
            rest, num_skipped = rest[:block_bytes], len(rest)
    if num_skipped:
        parse_stats.reject_long(rest, num_skipped, limit)
    elif rest:
        yield rest


def parse_delimited(
    block: bytes,
    names: Sequence[str],
    delimiter: str,
    *,
    quote: str | None,
    where: str,
    parse_stats: ParseStats,
) -> pa.Table:
    """The rows of a block, without blank lines; every column is dictionary<int32, string>, not interpreted.

    A row with more or fewer fields than names is rejected and counted in `parse_stats`.

    Raises:
        DataError: Arrow cannot parse the block.
    """
    ragged: list[arrow_csv.InvalidRow] = []

    def note_ragged(row: arrow_csv.InvalidRow) -> Literal["skip"]:
        ragged.append(row)
        return "skip"

    columns = [f"{position}" for position in range(len(names))]
    block = parse_stats.as_utf8(block)
    num_lines = block.count(b"\n") + (not block.endswith(b"\n") and bool(block))
    if not block.strip():
        parse_stats.num_lines += num_lines
        parse_stats.num_blank += num_lines
        empty = pa.array([], pa.dictionary(pa.int32(), pa.string()))
        return pa.table(dict.fromkeys(names, empty))
    try:
        table = arrow_csv.read_csv(
            cast(IO[bytes], pa.BufferReader(block)),
            read_options=arrow_csv.ReadOptions(
                column_names=columns, block_size=max(1 << 20, len(block) // 2)
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter, quote_char=quote or False, invalid_row_handler=note_ragged
            ),
            convert_options=as_texts(columns),
        )
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{where}: cannot be read as rows of {len(names)} fields ({reason_of(error)})"
        ) from error
    if ragged:  # in any order: blocks are parsed side by side
        lines_of: dict[str, list[int]] = {row.text: [] for row in ragged}
        for index, line in enumerate(block.decode("utf-8", "replace").split("\n"), parse_stats.num_lines + 1):
            lines_of.get(line.removesuffix("\r"), []).append(index)
        found = [(lines_of[row.text].pop(0) if lines_of[row.text] else 0, row) for row in ragged]
        for line, row in sorted(found, key=operator.itemgetter(0)):
            reason = f"expected {len(names)} fields, found {row.actual_columns}"
            parse_stats.reject(line or parse_stats.num_lines + 1, reason, row.text)
    if quote is None:  # else a row may take several lines, and blank ones are not counted
        parse_stats.num_blank += num_lines - table.num_rows - len(ragged)
    parse_stats.num_lines += table.num_rows + len(ragged) if quote else num_lines
    parse_stats.num_rows += table.num_rows
    return table.rename_columns(list(names))


def as_texts(columns: Sequence[str]) -> arrow_csv.ConvertOptions:
    """Every column as dictionary<int32, string>, not interpreted."""
    return arrow_csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.dictionary(pa.int32(), pa.string())),
        null_values=[],
        strings_can_be_null=False,
    )


def parse_json(
    block: bytes, schema: pa.Schema | None, parse_stats: ParseStats, known: set[str] | None = None
) -> pa.Table:
    """The objects of a block, one a line. With a schema, only its fields; without, all fields.

    A line that is not a JSON object (such as an incomplete last line) is rejected and counted in
    `parse_stats`. A field that is a number in some lines and text in others is text; under a schema, a value
    that does not fit is null and counted. See `table_of_objects` for the `known` fields.
    """
    if not block.strip():
        return pa.table({}) if schema is None else schema.empty_table()
    block = parse_stats.as_utf8(block)
    if _DEEP.search(block.translate(None, _NO_OPENERS)) is None:
        try:
            table = _read_json(block, schema)
        except pa.ArrowException:
            pass  # some line is damaged, or of another type: they are read one by one
        else:
            parse_stats.num_lines += table.num_rows
            parse_stats.num_rows += table.num_rows
            return table
    return table_of_objects(block, schema, parse_stats, known)


def _read_json(block: bytes, schema: pa.Schema | None) -> pa.Table:
    import pyarrow.json as arrow_json

    return arrow_json.read_json(
        cast(IO[bytes], pa.BufferReader(block)),
        read_options=arrow_json.ReadOptions(block_size=max(1 << 20, len(block) + 1)),
        parse_options=arrow_json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="infer" if schema is None else "ignore"
        ),
    )


def header_names(head: bytes, delimiter: str) -> tuple[str, ...]:
    """The fields of the first line, without spaces and quotes around them.

    >>> header_names(b"ts, te\\r\\n1,2", ",")
    ('ts', 'te')
    """
    line = head.removeprefix(UTF8_MARK).split(b"\n", 1)[0].decode("utf-8", "replace")
    return tuple(name.strip().strip('"') for name in line.split(delimiter))


def without_summary(
    blocks: Iterator[bytes], start: re.Pattern[bytes], parse_stats: ParseStats
) -> Iterator[bytes]:
    """The blocks before the summary of a log, whose lines are a footer."""
    for block in blocks:
        end = start.search(block)
        if end is None:
            yield block
            continue
        yield block[: end.start()]
        for line in block[end.start() :].decode("utf-8", "replace").splitlines():
            parse_stats.num_lines += 1
            parse_stats.add_footer(parse_stats.num_lines, "summary of the log", line)
        return


def without_first_line(blocks: Iterator[bytes], parse_stats: ParseStats) -> Iterator[bytes]:
    """The blocks of a file without its header, which is counted."""
    parse_stats.num_before += 1
    parse_stats.num_lines += 1
    for line_number, block in enumerate(blocks):
        yield block if line_number else block[block.find(b"\n") + 1 :] if b"\n" in block else b""
