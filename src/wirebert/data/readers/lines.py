"""Text files as blocks of whole lines, and such blocks as tables, for line-based sensor logs."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal, cast

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.json as arrow_json

from wirebert.data.accounting import ParseStats
from wirebert.data.dialect import DAMAGE, Compression, open_bytes, reason_of
from wirebert.data.readers.json_values import MAX_DEPTH, table_of_objects
from wirebert.errors import DataError

UTF8_MARK = b"\xef\xbb\xbf"
MAX_BLOCKS_PER_LINE = 8
_NO_OPENERS = bytes(set(range(256)) - set(b"{[\n"))
_DEEP = re.compile(rb"[{\[]{%d}" % (MAX_DEPTH + 1))


def byte_blocks(path: Path, compression: Compression, block_bytes: int, where: str) -> Iterator[bytes]:
    """The uncompressed bytes of a file without byte-order mark, `block_bytes` at a time.

    Raises:
        DataError: the compressed data is damaged.
    """
    is_first = True
    try:
        with open_bytes(path, compression) as stream:
            while chunk := stream.read(block_bytes):
                yield chunk.removeprefix(UTF8_MARK) if is_first else chunk
                is_first = False
    except DAMAGE as error:
        raise DataError(
            f"{where}: the file is damaged or incomplete ({reason_of(error)}); copy it again"
        ) from error


def line_blocks(path: Path, compression: Compression, block_bytes: int, where: str) -> Iterator[bytes]:
    """Blocks of whole lines, about `block_bytes` each, without byte-order mark; the last line may have no
    line end.

    Raises:
        DataError: the compressed data is damaged, or a line is longer than eight blocks.
    """
    rest = b""
    for chunk in byte_blocks(path, compression, block_bytes, where):
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield rest + chunk[:cut]
        rest = chunk[cut:] if cut else rest + chunk
        if len(rest) > MAX_BLOCKS_PER_LINE * block_bytes:
            raise DataError(
                f"{where}: expected lines shorter than {MAX_BLOCKS_PER_LINE * block_bytes:,} bytes, "
                "found a longer one; raise data.block_mb"
            )
    if rest:
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
    if not is_text_block(block):
        block = _valid_lines(block, parse_stats)
    if not block.strip():
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
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.dictionary(pa.int32(), pa.string())),
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{where}: cannot be read as rows of {len(names)} fields ({reason_of(error)})"
        ) from error
    for row in sorted((row.text, row.actual_columns) for row in ragged):
        text, width = row
        line = parse_stats.num_lines + 1 + block[: max(0, block.find(text.encode()))].count(b"\n")
        parse_stats.reject(line, f"expected {len(names)} fields, found {width}", text)
    parse_stats.num_lines += table.num_rows + len(ragged)
    parse_stats.num_rows += table.num_rows
    return table.rename_columns(list(names))


def parse_json(block: bytes, schema: pa.Schema | None, parse_stats: ParseStats) -> pa.Table:
    """The objects of a block, one a line. With a schema, only its fields; without, all fields.

    A line that is not a JSON object (such as an incomplete last line) is rejected and counted in
    `parse_stats`. A field that is a number in some lines and text in others is text; under a schema, a value
    that does not fit is null and counted.
    """
    if not block.strip():
        return pa.table({}) if schema is None else schema.empty_table()
    if is_text_block(block) and _DEEP.search(block.translate(None, _NO_OPENERS)) is None:
        try:
            table = _read_json(block, schema)
        except pa.ArrowException:
            pass  # some line is damaged, or of another type: they are read one by one
        else:
            parse_stats.num_lines += table.num_rows
            parse_stats.num_rows += table.num_rows
            return table
    return table_of_objects(block, schema, parse_stats)


def is_text_block(block: bytes) -> bool:
    """Whether the bytes are UTF-8."""
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _valid_lines(block: bytes, parse_stats: ParseStats) -> bytes:
    """The lines that are UTF-8, checked one by one; only called for a block with other lines."""
    valid: list[bytes] = []
    for line_number, line in enumerate(block.splitlines(), start=1):
        if is_text_block(line):
            valid.append(line)
        else:
            parse_stats.num_lines += 1
            reason = "bytes that are not valid in the encoding"
            parse_stats.reject(
                parse_stats.num_lines + line_number - 1, reason, line.decode("utf-8", "replace")
            )
    return b"\n".join(valid) + b"\n"


def _read_json(block: bytes, schema: pa.Schema | None) -> pa.Table:
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


def without_first_line(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks of a file without its header."""
    for line_number, block in enumerate(blocks):
        yield block if line_number else block[block.find(b"\n") + 1 :] if b"\n" in block else b""
