"""TON_IoT's train_test_network.csv -> canonical columns: renamed Zeek columns, and two labels."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.accounting import ParseStats
from wirebert.data.arrow_columns import change_texts, combine_chunks, dictionary_encode, to_integers
from wirebert.data.dialect import Compression
from wirebert.data.readers.lines import header_names, line_blocks, parse_delimited, without_first_line
from wirebert.data.schema.schema import ColumnKind, FlowSchema
from wirebert.data.sensors.canonical import (
    canonical_columns,
    flow_schema,
    protocol_names,
    sensor_table,
    service_names,
)

TON_IOT_REQUIRED = frozenset(
    "src_ip dst_ip proto conn_state src_bytes src_ip_bytes dst_pkts dns_qclass http_trans_depth".split()
)
TRUTH_LETTERS = {"T": "1", "F": "0"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TonIotFlows:
    """The flows of TON_IoT's table."""

    path: Path
    where: str
    compression: Compression
    raw_names: tuple[str, ...]
    title: str = "TON_IoT table"
    joined_files: tuple[Path, ...] = ()
    format: str = "ton_iot"

    @property
    def _columns(self) -> dict[str, str]:
        return {name: raw for name, raw in sensor_table("ton_iot").columns.items() if raw in self.raw_names}

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical columns, and the labels."""
        return tuple(self._columns)

    @property
    def schema(self) -> FlowSchema:
        """The canonical schema with the columns that only this data set has."""
        return flow_schema("ton_iot", self.names, sensor_table("ton_iot").own_columns)

    def read(self, block_bytes: int, parse_stats: ParseStats | None = None) -> Iterator[pa.Table]:
        """Blocks of flows in file order."""
        table, parse_stats = sensor_table("ton_iot"), parse_stats or ParseStats()
        lines = line_blocks(self.path, self.compression, block_bytes, self.where, parse_stats)
        for block in without_first_line(lines, parse_stats):
            rows = parse_delimited(
                block, self.raw_names, ",", quote='"', where=self.where, parse_stats=parse_stats
            )
            canonical: dict[str, pa.Array] = {
                name: combine_chunks(rows[raw]) for name, raw in self._columns.items()
            }
            for name, condition in table.only_where.items():
                if name in canonical and condition in rows.column_names:
                    applies = pc.greater(to_integers(rows[condition]), pa.scalar(0))
                    canonical[name] = _where(applies, dictionary_encode(canonical[name]))
            for name in canonical:
                column = canonical_columns().get(name)
                if column is not None and column.kind is ColumnKind.BOOLEAN:
                    canonical[name] = change_texts(
                        canonical[name], lambda text: TRUTH_LETTERS.get(text, text)
                    )
            canonical["protocol"] = protocol_names(canonical["protocol"])
            canonical["service"] = service_names(canonical["service"], table)
            yield pa.table(canonical)


def open_ton_iot(path: Path, head: bytes, compression: Compression, where: str) -> TonIotFlows | None:
    """The TON_IoT table that begins with `head`; None for another file."""
    fields = header_names(head, ",")
    if not set(fields) >= TON_IOT_REQUIRED or len(set(fields)) < len(fields):
        return None
    return TonIotFlows(path=path, where=where, compression=compression, raw_names=fields)


def _where(applies: pa.Array, column: pa.DictionaryArray) -> pa.Array:
    indices = pc.if_else(applies, column.indices, pa.scalar(None, column.indices.type))
    return pa.DictionaryArray.from_arrays(indices, column.dictionary)
