"""Delimited text -> blocks of strings. Nothing is interpreted here."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal, cast

import pyarrow as pa
import pyarrow.csv as arrow_csv

from wirebert.data.dialect import Dialect, open_bytes, reason_of
from wirebert.errors import DataError


class NotUtf8Error(DataError):
    """The file was taken for UTF-8 by its head, and is not."""


def read(
    path: Path, dialect: Dialect, block_bytes: int, *, names: Sequence[str], where: str = ""
) -> Iterator[pa.Table]:
    """Blocks of rows in file order; every column is dictionary<int32, string>.

    Where blocks begin depends on the file and `block_bytes` alone. Blank lines are left out.

    Raises:
        DataError: a row has more or fewer fields than `names`, or bytes do not belong to the encoding.
    """
    where = where or str(path)
    try:
        yield from _read(path, dialect, block_bytes, names, use_threads=True)
    except pa.ArrowInvalid as error:
        raise _explain(error, path, dialect, block_bytes, names, where) from error
    except (OSError, EOFError, UnicodeError) as error:
        raise DataError(
            f"{where}: the file is damaged, incomplete or not {dialect.encoding} ({reason_of(error)})"
        ) from error


def _read(
    path: Path,
    dialect: Dialect,
    block_bytes: int,
    names: Sequence[str],
    *,
    use_threads: bool,
    ragged: list[arrow_csv.InvalidRow] | None = None,
) -> Iterator[pa.Table]:
    def note_ragged(row: arrow_csv.InvalidRow) -> Literal["error"]:
        if ragged is not None:
            ragged.append(row)
        return "error"

    columns = [f"{position}" for position in range(len(names))]  # names may repeat what Arrow reserves
    with open_bytes(path, dialect.compression) as raw:
        stream = (
            raw
            if dialect.encoding == "utf-8"
            else pa.transcoding_input_stream(raw, dialect.encoding, "utf-8")
        )
        reader = arrow_csv.open_csv(
            cast(IO[bytes], stream),
            read_options=arrow_csv.ReadOptions(
                column_names=columns,
                skip_rows_after_names=int(dialect.has_header),
                block_size=block_bytes,
                use_threads=use_threads,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char=dialect.quote or False,
                double_quote=dialect.quote is not None,
                newlines_in_values=dialect.quote is not None,
                invalid_row_handler=note_ragged,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.dictionary(pa.int32(), pa.string())),
                null_values=[],
                strings_can_be_null=False,
            ),
        )
        for batch in reader:
            if batch.num_rows:
                yield pa.Table.from_batches([batch]).rename_columns(list(names))


def _explain(
    error: pa.ArrowInvalid,
    path: Path,
    dialect: Dialect,
    block_bytes: int,
    names: Sequence[str],
    where: str,
) -> DataError:
    """What Arrow's complaint means to the owner of the file."""
    text = reason_of(error)
    if "UTF8" in text or "utf-8" in text.lower():
        return NotUtf8Error(
            f"{where}: expected UTF-8 text, found other bytes; set data.encoding to cp1252 or latin-1 ({text})"
        )
    if "straddling" in text:
        return DataError(
            f"{where}: expected rows shorter than {block_bytes:,} bytes, found a longer one or a quote that is "
            "never closed; raise data.block_mb or close the quote"
        )
    # Only one thread knows row numbers, so the bad row is looked up once more.
    ragged: list[arrow_csv.InvalidRow] = []
    try:
        for _ in _read(path, dialect, block_bytes, names, use_threads=False, ragged=ragged):
            pass
    except pa.ArrowInvalid:
        if ragged:
            row = ragged[0]
            number = (row.number or 0) - dialect.has_header
            return DataError(
                f"{where}, row {number}: expected {row.expected_columns} fields, found {row.actual_columns} in "
                f"{row.text[:80]!r}; correct or remove the row"
            )
    return DataError(f"{where}: can not be read as {dialect.describe()} ({text})")
