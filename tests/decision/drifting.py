"""Traffic of two columns, drawn in bursts: one protocol for many flows on end."""

import numpy as np
import pyarrow as pa

from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.decision.traffic_blocks import ScoredFlows, TrafficBlocks
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.inference.coverage import count_marked, marked_tokens

SCHEMA = FlowSchema(
    name="flows",
    columns=(
        Column(name="bytes", kind=ColumnKind.COUNT, is_feature=True),
        Column(name="proto", kind=ColumnKind.CATEGORY, is_feature=True),
    ),
)
PROTOCOLS = np.array(["tcp", "udp", "icmp"])


def traffic(num_flows: int, seed: int, *, burst: int = 20, factor: float = 1.0) -> pa.Table:
    rng = np.random.default_rng(seed)
    bursts = rng.choice(3, -(-num_flows // burst), p=[0.7, 0.2, 0.1])
    kind = np.repeat(bursts, burst)[:num_flows]
    size = np.round(factor * rng.lognormal(5 + kind, 1))
    return pa.table({"bytes": size, "proto": PROTOCOLS[kind]})


def counted(tokenizer: FlowTokenizer, table: pa.Table, blocks: TrafficBlocks) -> TrafficBlocks:
    """The blocks with these flows, whose attack scores mean nothing."""
    attack = np.random.default_rng(len(table)).random(table.num_rows) / 2
    block = tokenizer.encode(table)
    unseen = count_marked(marked_tokens(tokenizer)[1], block) > 0
    blocks.add(ScoredFlows(block, unseen, attack, None, attack > 0.49))
    return blocks
