"""What other methods say of rows that never were: training rows whose columns are mixed, for a model to learn from.

Each mixed row is a training row in which every column comes from another random training row with some chance, which is
drawn anew for each row; what is far from all training rows is shown, too. Source: Bucila, Caruana and Niculescu-Mizil,
"Model Compression", KDD 2006, section 4, where close rows are mixed (munging); here any two rows.

NOTE[DIFF]: the teacher's probabilities are taken over at all rows by cross entropy, not its logits by squares.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from wirebert.data.labels import UNLABELLED
from wirebert.encoding.rows import EncodedBlock
from wirebert.encoding.store import EncodedFlows, StoreWriter
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.evaluation.rivals import RIVALS, fit_rival
from wirebert.evaluation.tasks import Params, Predict, Rows, Task
from wirebert.evaluation.tree_features import row_numbers
from wirebert.ground import Ground
from wirebert.judging import Part
from wirebert.pipeline import Prepared
from wirebert.training.soft_targets import SoftTargets

BLOCK = 65_536
CALM: Params = {"learning_rate": 0.05, "l2": 5.0, "column_share": 0.4, "class_weight": "balanced"}
"""Of boosted trees that learn slowly from a share of the columns: what the search for NSL-KDD chose."""
TEACHERS: dict[str, tuple[tuple[str, Params], ...]] = {
    "lightgbm": (("lightgbm", CALM | {"leaves": 15, "min_leaf": 5}),),
    "xgboost": (("xgboost", CALM | {"depth": 4}),),
    "plain": (("lightgbm", {}),),
    "tabm": (
        (
            "tabm",
            {
                "width": 128,
                "dropout": 0.3,
                "learning_rate": 0.003,
                "weight_decay": 0.001,
                "class_weight": "sqrt",
            },
        ),
    ),
    "forest": (("forest", {"trees": 200, "max_features": 0.4, "min_leaf": 2, "class_weight": "balanced"}),),
    "logistic": (("logistic", {"C": 0.1, "scaling": "quantile"}),),
}
TEACHERS["trees"] = TEACHERS["lightgbm"] + TEACHERS["xgboost"]
TEACHERS["all"] = TEACHERS["trees"] + TEACHERS["tabm"]
TEACHERS["many"] = TEACHERS["all"] + TEACHERS["forest"] + TEACHERS["logistic"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """What is taught."""

    teacher: str
    copies: float = 2.0
    """Mixed rows for each training row."""
    most: float = 0.5
    """Largest chance of a column to come from another row."""
    mix: float = 0.5
    """The teacher's share in the loss of a row with a label."""
    temperature: float = 1.0


def fit_teacher(name: str, task: Task, seed: int) -> Predict:
    """The mean of what some methods say, each with the settings that its search chose."""
    teachers = [fit_rival(RIVALS[method], task, params, seed) for method, params in TEACHERS[name]]
    return lambda rows: np.mean([teacher(rows) for teacher in teachers], axis=0).clip(1e-6)


def taught_rows(
    lesson: Lesson,
    data: Prepared,
    ground: Ground,
    sides: Sequence[np.ndarray],
    tokenizer: FlowTokenizer,
    flows: EncodedFlows,
    folder: Path,
    seed: int,
) -> tuple[EncodedFlows, SoftTargets]:
    """The training flows with the mixed ones after them, and what the teacher says of all."""
    is_train, is_valid, _ = sides
    task, coding = ground.task(is_train, is_valid)
    say = fit_teacher(lesson.teacher, task, seed)

    is_open = np.zeros(len(data.seen.labels), bool)
    is_open[ground.row_numbers] = True
    table = pa.concat_tables(Part("open", data.flows, is_open).tables()).combine_chunks()
    place = np.full(len(is_open), -1)
    place[ground.row_numbers] = np.arange(len(ground.row_numbers))
    of_flows = row_numbers(place[np.asarray(flows.rows)])
    said = [say(Rows(coding.matrix(ground.measured.take(of_flows)), None))]
    rng = np.random.default_rng([7, seed])
    train = np.flatnonzero(is_train)
    features = [
        column.name for column in ground.schema.features if column.name in ground.measured.column_names
    ]
    with StoreWriter(folder, flows.ids.dtype) as store:
        for first in range(0, len(flows), BLOCK):
            offsets = np.asarray(flows.offsets[first : first + BLOCK + 1])
            ids = np.asarray(flows.ids[offsets[0] : offsets[-1]])
            part = slice(first, first + BLOCK)
            block = EncodedBlock(ids, offsets - offsets[0], 0)
            store.append(block, np.asarray(flows.class_ids[part]), np.asarray(flows.rows[part]))
        left = int(lesson.copies * len(train))
        while left > 0:
            size = min(left, BLOCK)
            left -= size
            own = rng.choice(train, size)
            chance = rng.random(size) * lesson.most
            raw: dict[str, object] = {name: table.column(name) for name in table.column_names}
            seen: dict[str, object] = {}
            for name in features:
                rows = np.where(rng.random(size) < chance, rng.choice(train, size), own)
                raw[name] = table.column(name).take(row_numbers(rows))
                seen[name] = ground.measured.column(name).take(row_numbers(rows))
            for name in set(table.column_names) - set(features):
                raw[name] = table.column(name).take(row_numbers(own))
            block = tokenizer.encode(pa.table(raw))
            store.append(block, np.full(size, UNLABELLED), np.full(size, -1))
            said.append(say(Rows(coding.matrix(pa.table(seen)), None)))
    log_probabilities = np.log(np.concatenate(said)).astype(np.float32)
    return EncodedFlows.open(folder), SoftTargets(
        log_probabilities=log_probabilities, temperature=lesson.temperature, mix=lesson.mix
    )
