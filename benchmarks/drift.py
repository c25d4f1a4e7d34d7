"""How often drift is told where there is none, and how soon where there is.

    python benchmarks/drift.py --seeds 1 2 3 4 5 --tests 40

Without drift: random halves of public data (rows keep their order; the first half is the reference), and generated logs
of one network, whose first half is the reference and whose later stretches are tested. With drift, by the first seed: the
other half of the public data with one change. No model: features, novelty by a third of the rows, and alerts by novelty.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.flows import DataConfig, open_flows
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.synthetic.traffic import generate
from wirebert.decision.drift import MIN_BLOCKS, DriftReference, MeasureDrift
from wirebert.decision.novelty import NoveltyScorer
from wirebert.decision.traffic_blocks import ScoredFlows, TrafficBlocks
from wirebert.encoding.matrix import extract_features, row_numbers
from wirebert.encoding.token_rows import JaggedRows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import DataError
from wirebert.inference.coverage import count_marked, marked_tokens

RATES = (0.01, 0.05)
PUBLIC = {
    "NSL-KDD": ("nsl-kdd/KDDTrain+.txt.gz", ()),
    "UNSW-NB15": ("unsw-nb15/UNSW_NB15_training-set.csv.gz", ()),
    "TON_IoT": ("ton-iot/train_test_network.csv.gz", ("address", "port")),
}


@dataclass(frozen=True)
class Counted:
    """Tokenizer and novelty of one third of some traffic, to count the rest with."""

    tokenizer: FlowTokenizer
    novelty: NoveltyScorer
    threshold: float

    @staticmethod
    def fit(table: pa.Table, schema: FlowSchema, seed: int) -> "Counted":
        rng = np.random.default_rng(seed)
        third = table.filter(pa.array(rng.random(table.num_rows) < 1 / 3))
        half = third.num_rows // 2
        some = extract_features(third.slice(0, half), schema)
        scorer = NoveltyScorer.fit(some, 1000, seed)
        tail = np.quantile(scorer.scores(extract_features(third.slice(half), schema)), 0.99)
        return Counted(FlowTokenizer.fit(schema, lambda: iter([third])), scorer, float(tail))

    def scored(self, table: pa.Table) -> ScoredFlows:
        """The flows with their scores; those above the threshold of novelty count as alerts."""
        block = self.tokenizer.encode(table)
        novelty = self.novelty.scores(extract_features(table, self.tokenizer.schema))
        unseen = count_marked(marked_tokens(self.tokenizer)[1], block) > 0
        return ScoredFlows(block, unseen, None, novelty, novelty >= self.threshold)


Tested = Iterator[tuple[str, DriftReference, TrafficBlocks, Counted]]


def halves(table: pa.Table, schema: FlowSchema, seed: int, num_tests: int) -> Tested:
    """Undrifted: stretches of one random half beside the other."""
    rng = np.random.default_rng(seed)
    counted = Counted.fit(table, schema, 1000 + seed)
    is_first = rng.random(table.num_rows) < 0.5
    kept, later = table.filter(pa.array(is_first)), table.filter(pa.array(~is_first))
    yield from stretches(counted, kept, later, rng, num_tests)


def stretches(
    counted: Counted, kept: pa.Table, later: pa.Table, rng: np.random.Generator, num_tests: int
) -> Tested:
    """The whole of `later`, and stretches of a tenth and a half of it, beside `kept`."""
    blocks = TrafficBlocks(counted.tokenizer)
    blocks.add(counted.scored(kept))
    reference = DriftReference.fit(blocks, counted.tokenizer)
    assert reference is not None, f"fewer than {MIN_BLOCKS} blocks"
    scored = counted.scored(later)
    assert scored.novelty is not None
    assert scored.is_alert is not None
    for name, share, count in (("all", 1.0, 1), ("half", 0.5, num_tests // 4), ("tenth", 0.1, num_tests)):
        length = int(share * later.num_rows)
        for _ in range(count):
            first = int(rng.integers(0, later.num_rows - length + 1))
            part = slice(first, first + length)
            block = JaggedRows(scored.block.ids, scored.block.offsets[first : first + length + 1])
            blocks = reference.new_blocks(counted.tokenizer)
            blocks.add(
                ScoredFlows(block, scored.has_unseen[part], None, scored.novelty[part], scored.is_alert[part])
            )
            yield name, reference, blocks, counted


def random_rows(table: pa.Table, schema: FlowSchema, seed: int, num_tests: int) -> Tested:
    """Undrifted: random rows in random order, so that flows are independent."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(table.num_rows)
    shuffled = table.take(row_numbers(order.astype(np.int64)))
    half = table.num_rows // 2
    counted = Counted.fit(table, schema, seed)
    yield from stretches(counted, shuffled.slice(0, half), shuffled.slice(half), rng, num_tests)


def changed(table: pa.Table, schema: FlowSchema) -> Iterator[tuple[str, pa.Table]]:
    """The table with one change each."""

    def is_long(name: str) -> bool:
        return len(np.unique(table[name].cast(pa.float64()).to_numpy())) > 50

    number = next(c.name for c in schema.features if c.kind.is_numeric and is_long(c.name))
    category = next(c.name for c in schema.features if str(c.kind) == "category")
    at = {name: table.column_names.index(name) for name in (number, category)}
    yield (
        "one number tenfold",
        table.set_column(at[number], number, pc.multiply(table[number].cast(pa.float64()), 10.0)),
    )
    yield "one column absent", table.drop_columns([category])
    is_new = np.random.default_rng(0).random(table.num_rows) < 0.05
    texts = zip(table[category].cast(pa.string()).to_pylist(), is_new.tolist(), strict=True)
    new = pa.array(["never seen" if other else text for text, other in texts], pa.string())
    yield "5 % new values", table.set_column(at[category], category, new)


def verdict(measures: tuple[MeasureDrift, ...], rate: float) -> tuple[bool, bool]:
    """Whether the exchange alone, and both rules, tell drift."""
    some = [one for one in measures if one.p <= rate]
    return bool(some), any(one.distance > one.usual for one in some)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--tests", type=int, default=20, help="stretches of a tenth, for each seed")
    parser.add_argument(
        "--rows", type=int, default=60_000, help="rows of each data set at most, a stretch of the file"
    )
    parser.add_argument(
        "--public", action=argparse.BooleanOptionalAction, default=True, help="public data too"
    )
    parser.add_argument("--out", type=Path, default=Path("drift.json"))
    options = parser.parse_args()
    data = Path(os.environ.get("WIREBERT_DATA", "../shared/data"))
    found: dict[str, list[tuple[bool, bool]]] = {}

    def note(name: str, given: Tested) -> None:
        for length, reference, blocks, counted in given:
            try:
                measures = reference.compare(blocks, counted.tokenizer)
            except DataError:
                continue  # too short for two blocks
            for rate in RATES:
                found.setdefault(f"{name} | {length} | {rate:g}", []).append(verdict(measures, rate))

    for seed in options.seeds:
        generated = pa.concat_tables(list(generate(options.rows, seed)))
        path = options.out.with_suffix(f".{seed}.parquet")
        from pyarrow import parquet

        parquet.write_table(generated, path)
        flows = open_flows(path, DataConfig())
        table = pa.concat_tables(list(flows.blocks())).combine_chunks()
        third = table.num_rows // 3  # to fit on, as reference, to test
        counted = Counted.fit(table.slice(0, third), flows.schema, seed)
        note(
            "generated, later stretches",
            stretches(
                counted,
                table.slice(third, third),
                table.slice(2 * third),
                np.random.default_rng(seed),
                options.tests,
            ),
        )
        path.unlink()
        for name, (place, dropped) in PUBLIC.items() if options.public else ():
            flows = open_flows(data / place, DataConfig(drop=dropped))
            table = pa.concat_tables(list(flows.blocks())).combine_chunks()
            first = int(np.random.default_rng(seed).integers(0, max(1, table.num_rows - options.rows)))
            table = table.slice(first, options.rows)
            note(f"{name}, random halves", halves(table, flows.schema, seed, options.tests))
            note(f"{name}, random order", random_rows(table, flows.schema, seed, options.tests))
            is_first = np.random.default_rng(seed).random(table.num_rows) < 0.5
            kept, later = table.filter(pa.array(is_first)), table.filter(pa.array(~is_first))
            if seed != options.seeds[0]:
                continue
            counted = Counted.fit(table, flows.schema, 1000 + seed)
            for change, other in changed(later, flows.schema):
                note(
                    f"{name}, {change}",
                    stretches(counted, kept, other, np.random.default_rng(seed), options.tests),
                )
        rates = {
            key: (len(told), sum(a for a, _ in told), sum(b for _, b in told)) for key, told in found.items()
        }
        options.out.write_text(json.dumps(rates, indent=1))
        for key, (count, exchanged, both) in rates.items():
            print(f"{key}: {count} tests, exchange alone {exchanged}, both rules {both}", flush=True)
        print(flush=True)


if __name__ == "__main__":
    main()
