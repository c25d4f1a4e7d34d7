"""Generated traffic: any number of labelled flows of a generated network, the same for the same seed.

A block of flows covers about a third of a day and depends only on the seed and its index, so the first rows
do not depend on the number of rows, and memory is constant. Classes overlap: no model can be right on every
row, and some attacks (scans, brute force, beacons, slow exfiltration) are visible only over several flows.
"""

# The pyarrow stubs lack type arguments, and know neither text literals nor boolean arrays as arguments.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.synthetic.attacks import ATTACK_CALLS, ATTACKS
from wirebert.data.synthetic.benign import BENIGN, BENIGN_CALLS
from wirebert.data.synthetic.network import Network
from wirebert.data.synthetic.stealthy import STEALTHY_ATTACKS
from wirebert.data.synthetic.text import joined_lines, of_letters
from wirebert.data.synthetic.wire import Scene

FLOWS_PER_BLOCK = 8_000
BLOCKS_PER_DAY = 3
MIDNIGHT = np.datetime64("2026-03-02T00:00:00", "us")
"""Start of the generated time."""
MISSING = "-"
"""A missing value in a generated CSV file."""
LOSS = 0.01
"""Fraction of values that the sensor loses, in the columns with losses."""

_LOSSY = ("service", "duration_s", "src_payload_bytes", "dst_payload_bytes", "user_agent")
_UID_LETTERS = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", np.uint8)


def generate(
    num_rows: int, seed: int, block_rows: int = 50_000, *, stealthy: bool = False
) -> Iterator[pa.Table]:
    """Tables of `block_rows` flows (the last one shorter), in order of time; missing values are null.

    With `stealthy`, all attacks are visible only over several flows.

    >>> first = next(generate(3, seed=0))
    >>> first.num_rows, first.column_names[:4], first.column_names[-1]
    (3, ['ts', 'uid', 'src_ip', 'src_port'], 'label')
    """
    network = Network(seed)
    waiting: list[pa.Table] = []
    num_waiting = num_done = 0
    for block_index in range(-(-num_rows // FLOWS_PER_BLOCK)):
        flows = _block(network, block_index, stealthy=stealthy)
        waiting.append(flows.slice(0, num_rows - num_done))
        num_done += waiting[-1].num_rows
        num_waiting += waiting[-1].num_rows
        while num_waiting >= block_rows or (num_waiting and num_done == num_rows):
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, block_rows)
            waiting = [joined.slice(block_rows)]
            num_waiting = waiting[0].num_rows


def write_csv(path: str | Path, num_rows: int, seed: int, *, stealthy: bool = False) -> None:
    """Write generated flows as comma-separated text with a header, quoted where needed."""
    with Path(path).open("wb") as file:
        for index, table in enumerate(generate(num_rows, seed, stealthy=stealthy)):
            if index == 0:
                file.write((",".join(table.column_names) + "\n").encode())
            file.write(joined_lines([_csv_fields(column) for column in table.combine_chunks().columns], ","))


def _block(network: Network, block_index: int, *, stealthy: bool) -> pa.Table:
    generator = np.random.default_rng([network.seed, 7, block_index])
    scene = Scene(network, generator, block_index / BLOCKS_PER_DAY, (block_index + 1) / BLOCKS_PER_DAY)
    parts = [(activity(scene), "benign") for activity in BENIGN_CALLS]
    parts += [(attack(scene), attack.__name__) for attack in ATTACK_CALLS if not stealthy]
    attacks = STEALTHY_ATTACKS if stealthy else ATTACKS
    parts += [
        (attack(scene, round(fraction * FLOWS_PER_BLOCK)), attack.__name__)
        for attack, fraction in attacks.items()
    ]
    weights = np.array(list(BENIGN.values()))
    rest = FLOWS_PER_BLOCK - sum(flows.num_rows for flows, _ in parts)
    counts = generator.multinomial(rest, weights / weights.sum()).tolist()
    parts += [(activity(scene, count), "benign") for activity, count in zip(BENIGN, counts, strict=True)]
    labels = pa.concat_arrays([pa.repeat(pa.scalar(label), flows.num_rows) for flows, label in parts])
    joined = pa.concat_tables([flows for flows, _ in parts]).append_column("label", labels)
    return as_sensed(scene, joined.take(pc.sort_indices(joined.column("time_s"))).combine_chunks())


def as_sensed(scene: Scene, flows: pa.Table) -> pa.Table:
    """Columns as a sensor writes them: hosts as addresses, times as dates, some values lost."""
    columns = {name: flows.column(name).combine_chunks() for name in flows.column_names}
    addresses = pa.array(scene.network.addresses)
    time_us = (columns.pop("time_s").to_numpy() * 1e6).astype("timedelta64[us]")
    ends = {
        "ts": pc.replace_substring(
            pa.array(MIDNIGHT + time_us, pa.timestamp("us", "UTC")).cast(pa.string()), " ", "T"
        ),
        "uid": _uids(scene.generator, flows.num_rows),
        "src_ip": addresses.take(columns.pop("source")),
        "src_port": columns.pop("src_port"),
        "dst_ip": addresses.take(columns.pop("destination")),
    }
    for name in _LOSSY:
        is_lost = pa.array(scene.generator.random(flows.num_rows) < LOSS)
        columns[name] = pc.if_else(is_lost, pa.scalar(None, columns[name].type), columns[name])
    columns["duration_s"] = pc.round(columns["duration_s"], 6)
    return pa.table({**ends, **columns})


def _uids(generator: np.random.Generator, count: int) -> pa.Array:
    letters = _UID_LETTERS[generator.integers(0, len(_UID_LETTERS), (count, 18), np.uint8)]
    letters[:, 0] = ord("C")
    return of_letters(letters)


def _csv_fields(column: pa.ChunkedArray) -> pa.ChunkedArray:
    texts = column.cast(pa.string())
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(texts, '"', '""'), '"', "")
    needs_quotes = pc.match_substring_regex(texts, '[",\r\n]')
    return pc.fill_null(pc.if_else(needs_quotes, quoted, texts), MISSING)
