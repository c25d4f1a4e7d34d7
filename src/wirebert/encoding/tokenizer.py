"""`FlowTokenizer`: typed tables to token ids and back.

A row is `[CLS]`, one token per feature slot in schema order, then each text column as its `column:` token and
its pieces. With leave-out, a row omits the features that hold their column's most frequent value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wirebert.data.readers.key_values import parse_key_values
from wirebert.data.schema.conversion import InvalidValues, convert
from wirebert.data.schema.schema import ColumnKind, FlowSchema
from wirebert.encoding.columns import (
    Blocks,
    ColumnEncoder,
    TrainingCounts,
    distinct,
    encoder_from_dict,
    encoder_to_dict,
)
from wirebert.encoding.combinations import absent_parts, all_features, combine, combined_blocks
from wirebert.encoding.config import LONGEST_ROW, EncodingConfig
from wirebert.encoding.hugging_face import write_hugging_face
from wirebert.encoding.text import Subwords
from wirebert.encoding.token_rows import JaggedRows, TextCells, join_rows, within_budget
from wirebert.encoding.vocabulary import ABSENT, MISSING, SPECIAL_TOKENS, UNSEEN, Slot, Vocabulary, escape
from wirebert.encoding.wordpieces import initial_subwords
from wirebert.errors import ConfigError
from wirebert.serialization import settings_from_dict, settings_to_dict
from wirebert.shapes import Bool, Int, Int32, Integer, UInt16, UInt32

TEXT_STATES = ("<missing>", "<empty>", "<absent>", "")
"""Tokens of a text column, with `column:` last; a text is never unseen, so the second is the empty text."""
_HAS_TEXT = 3

Ids = UInt16[np.ndarray, "..."] | UInt32[np.ndarray, "..."]
_MAX_MISFIT_FRACTION = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowTokenizer:
    """Maps typed tables to token ids, fitted on training rows. Immutable; equal state gives equal ids."""

    schema: FlowSchema
    config: EncodingConfig
    encoders: tuple[ColumnEncoder, ...]
    """One per feature column other than text, in schema order."""
    subwords: Subwords | None
    """Subwords of text columns, or the WordPieces; None in a compact vocabulary without text columns."""

    def __post_init__(self) -> None:
        needed, most = 1 + len(self.slots), self.config.max_length
        if needed > most:
            raise_it = f", or raise encoding.max_length to {needed}" if needed <= LONGEST_ROW else ""
            raise ConfigError(
                f"expected features of at most {most} tokens together, the longest row of a model, found "
                f"{len(all_features(self.schema))} of {needed}; leave out at least {needed - most} columns "
                f"with --drop NAME (or a kind, such as port){raise_it}"
            )

    @classmethod
    def fit(cls, schema: FlowSchema, blocks: Blocks, config: EncodingConfig | None = None) -> "FlowTokenizer":
        """The tokenizer for `schema`, fitted on training rows; their order does not matter."""
        return cls.of_counts(schema, count_rows(schema, blocks), config)

    @classmethod
    def of_counts(
        cls, schema: FlowSchema, counts: TrainingCounts, config: EncodingConfig | None = None
    ) -> "FlowTokenizer":
        """The tokenizer for `schema`, fitted on what `count_rows` counted in training rows."""
        config = config or EncodingConfig()
        fitted = counts.fit(config)
        return cls(schema=schema, config=config, encoders=fitted.encoders, subwords=fitted.subwords)

    # Tokens

    @cached_property
    def text_columns(self) -> tuple[str, ...]:
        """Names of the text columns, in the order of a row."""
        return tuple(column.name for column in self.schema.features if column.kind is ColumnKind.TEXT)

    @cached_property
    def omits_most_frequent(self) -> bool:
        """Whether rows leave out features that hold their column's most frequent value."""
        return (
            not self.text_columns
            if self.config.omit_most_frequent is None
            else self.config.omit_most_frequent
        )

    @cached_property
    def _slots_by_encoder(self) -> tuple[tuple[Slot, ...], ...]:
        return tuple(encoder.slots for encoder in self.encoders)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The feature positions of a row, text columns last."""
        features = [slot for slots in self._slots_by_encoder for slot in slots]
        texts = [
            Slot(name=name, special_states=TEXT_STATES, values=(), default=MISSING)
            for name in self.text_columns
        ]
        return (*features, *texts)

    @cached_property
    def slot_names(self) -> tuple[str, ...]:
        """The columns, and `column.bit` for flags."""
        return tuple(slot.name for slot in self.slots)

    @cached_property
    def _slot_starts(self) -> Int32[np.ndarray, " slots"]:
        """Id of each slot's first token: after the special tokens, or after the WordPieces."""
        first = len(SPECIAL_TOKENS)
        if self.config.vocabulary == "extend":
            assert self.subwords is not None, "fit gives this vocabulary its pieces"
            first = len(self.subwords.strings)
        sizes = [len(slot) for slot in self.slots]
        return (first + np.cumsum([0, *sizes])[: len(sizes)]).astype(np.int32)

    @cached_property
    def _first_subword(self) -> int:
        """The offset from a piece's index to its token id."""
        if self.config.vocabulary == "extend":
            return 0
        return len(SPECIAL_TOKENS) + sum(len(slot) for slot in self.slots)

    @cached_property
    def _entries(self) -> Vocabulary:
        features = [token for slot in self.slots for token in slot.tokens]
        pieces = [] if self.subwords is None else self.subwords.strings
        if self.config.vocabulary == "extend":
            words = [piece if piece in SPECIAL_TOKENS else escape(piece) for piece in pieces]
            return Vocabulary((*words, *features))
        return Vocabulary((*SPECIAL_TOKENS, *features, *map(escape, pieces)))

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Canonical strings by id."""
        return self._entries.tokens

    @property
    def num_tokens(self) -> int:
        """Size of the vocabulary."""
        return len(self._entries)

    @property
    def dtype(self) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
        """Type of the ids."""
        return self._entries.dtype

    @property
    def pad_id(self) -> int:
        """Id of `[PAD]`."""
        return self._entries.ids["[PAD]"]

    @property
    def cls_id(self) -> int:
        """Id of `[CLS]`, which starts every row."""
        return self._entries.ids["[CLS]"]

    @cached_property
    def token_slots(self) -> Int32[np.ndarray, " tokens"]:
        """Slot of each token; -1 for special tokens and pieces."""
        slots = np.full(self.num_tokens, -1, np.int32)
        for index, (start, slot) in enumerate(zip(self._slot_starts, self.slots, strict=True)):
            slots[start : start + len(slot)] = index
        return slots

    @cached_property
    def slot_special(self) -> Int32[np.ndarray, "slots 3"]:
        """Ids of `<missing>`, `<unseen>` (for numbers `<above>`, for texts `<empty>`) and `<absent>`."""
        return self._slot_starts[:, None] + np.array([MISSING, UNSEEN, ABSENT], np.int32)

    @cached_property
    def slot_columns(self) -> Int32[np.ndarray, " slots"]:
        """Index of each slot's column; the bits of a flags column share one."""
        sizes = [len(encoder.slots) for encoder in self.encoders] + [1] * len(self.text_columns)
        return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)

    @cached_property
    def slot_groups(self) -> Int32[np.ndarray, " slots"]:
        """Index of each slot's group; columns grouped in the schema share one."""
        names = [*(encoder.column for encoder in self.encoders), *self.text_columns]
        group_of = {column.name: column.group for column in self.schema.columns if column.group}
        keys = [("group", group_of[name]) if name in group_of else ("column", name) for name in names]
        index_of = {key: index for index, key in enumerate(dict.fromkeys(keys))}
        return np.array([index_of[key] for key in keys], np.int32)[self.slot_columns]

    @cached_property
    def slot_special_states(self) -> tuple[Int32[np.ndarray, " marks"], ...]:
        """Per slot, the ids that training may lack: those in `slot_special`, `<rare>`, `<negative>`, ..."""
        return tuple(
            start + np.arange(len([mark for mark in slot.special_states if mark]), dtype=np.int32)
            for start, slot in zip(self._slot_starts, self.slots, strict=True)
        )

    @cached_property
    def default_ids(self) -> Int32[np.ndarray, " slots"]:
        """Per slot, the id of the most frequent value in training, which leave-out omits."""
        return self._slot_starts + np.array([slot.default for slot in self.slots], np.int32)

    @cached_property
    def ordered_numbers(self) -> tuple[Int32[np.ndarray, " numbers"], ...]:
        """Ids of each numeric column's bins and exact values, from low to high."""
        pairs = zip(self._slot_starts, self.slots, strict=True)
        return tuple(start + np.array(slot.ordered, np.int32) for start, slot in pairs if slot.ordered)

    # Tables to ids

    def encode(self, table: pa.Table) -> JaggedRows:
        """Ids of every row. Missing feature columns become `<absent>`; unknown columns are ignored."""
        return self._encode(combine(table, self.schema.combinations), {})

    def encode_key_values(self, lines: Sequence[str]) -> JaggedRows:
        """Ids of rows given as text, `protocol_type:tcp, service=http`; a missing key becomes `<absent>`.

        Raises:
            DataError: a line is not key-value text, or most values of a column do not fit its kind.
        """
        if not lines:
            return self._encode(pa.table({}), {})
        raw = parse_key_values(lines)
        invalid_values = InvalidValues()
        table = convert(raw, self.schema, invalid=invalid_values, first_row=1)
        invalid_values.check(_MAX_MISFIT_FRACTION, "key-value text")
        is_absent = {
            name: raw[name].is_null().to_numpy() for name in table.column_names if raw[name].null_count
        }
        if table.num_columns == 0:  # a table without columns has lost its number of rows
            table = pa.table({"": pa.nulls(len(lines))})
        combinations = self.schema.combinations
        return self._encode(combine(table, combinations), absent_parts(is_absent, combinations))

    def _encode(self, table: pa.Table, is_absent: Mapping[str, Bool[np.ndarray, " rows"]]) -> JaggedRows:
        num_features = len(self.slots) - len(self.text_columns)
        matrix = np.empty((table.num_rows, 1 + num_features), self.dtype)
        matrix[:, 0] = self.cls_id
        present = set(table.column_names)
        at = 0
        for encoder, slots in zip(self.encoders, self._slots_by_encoder, strict=True):
            positions = slice(at, at + len(slots))
            at += len(slots)
            cells = matrix[:, 1 + positions.start : 1 + positions.stop]
            if encoder.column in present:
                self._fill(cells, table[encoder.column], encoder, self._slot_starts[positions])
            else:
                cells[:] = self.slot_special[positions, 2]
            if encoder.column in is_absent:
                cells[is_absent[encoder.column]] = self.slot_special[positions, 2]
        is_written = None
        if self.omits_most_frequent:
            defaults = np.array([self.pad_id, *self.default_ids[:num_features]], self.dtype)
            is_written = matrix != defaults  # [CLS] differs from [PAD], so it stays
        texts, num_truncated = self._encode_texts(table, is_absent)
        return join_rows(matrix, is_written, texts, num_truncated)

    def _fill(
        self,
        cells: Ids,
        column: pa.ChunkedArray,
        encoder: ColumnEncoder,
        starts: Int32[np.ndarray, " slots"],
    ) -> None:
        """Write a column's ids into its cells of the matrix."""
        row, dtype = 0, cells.dtype
        for part in distinct(column):
            ids = (encoder.encode(part.values) + starts).astype(dtype)
            if part.codes is not None:
                ids = np.concatenate([ids, (starts + MISSING).astype(dtype)[None]])[part.codes]
            cells[row : row + part.num_rows] = ids
            row += part.num_rows

    @cached_property
    def text_budget(self) -> int:
        """Maximum pieces per text column, such that the longest row fits."""
        room = self.config.max_length - 1 - len(self.slots)
        return min(self.config.max_text_tokens, room // max(len(self.text_columns), 1))

    def _encode_texts(
        self, table: pa.Table, is_absent: Mapping[str, Bool[np.ndarray, " rows"]]
    ) -> tuple[list[TextCells], int]:
        """The cells of each text column, and the number of cells cut to the budget."""
        cells: list[TextCells] = []
        num_truncated = 0
        starts = self._slot_starts[len(self.slots) - len(self.text_columns) :].tolist()
        for name, start in zip(self.text_columns, starts, strict=True):
            texts, codes = _distinct_texts(table, name)
            if name in is_absent:
                codes = np.where(is_absent[name], len(texts) + 1, codes)
            distinct, is_cut = self._text_ids(texts, start)
            num_truncated += int(is_cut[codes].sum())
            cells.append(TextCells(distinct, codes))
        return cells, num_truncated

    def _text_ids(self, texts: list[str], start: int) -> tuple[JaggedRows, Bool[np.ndarray, " texts"]]:
        """Ids of each text, then of a missing and an absent one; and which were cut."""
        assert self.subwords is not None, "fit gives a table with text columns its pieces"
        cut, is_cut = within_budget(self.subwords.encode([*texts, "", ""]), self.text_budget)
        heads = [_HAS_TEXT if text else UNSEEN for text in texts] + [MISSING, ABSENT]
        flat = np.insert(cut.ids + self._first_subword, cut.offsets[:-1], start + np.array(heads))
        offsets = cut.offsets + np.arange(len(cut.offsets))
        if self.omits_most_frequent:  # leave-out omits missing texts, never texts
            flat = np.delete(flat, offsets[-3])
            offsets[-2:] -= 1
        return JaggedRows(flat, offsets), is_cut

    # Ids to words

    def to_text(self, ids: Integer[np.ndarray, " row"]) -> str:
        """Canonical text of one row, without the leading `[CLS]`, which `tokenizer.json` adds."""
        return self._entries.text(ids[1:].tolist() if len(ids) and ids[0] == self.cls_id else ids.tolist())

    def decode(self, ids: Integer[np.ndarray, " row"]) -> dict[str, str]:
        """The value of each slot of one row; a left-out slot has its most frequent value.

        Text lacks the part that the budget cut. Special tokens such as `[PAD]` are ignored.
        """
        values = (
            {slot.name: slot.texts[slot.default] for slot in self.slots} if self.omits_most_frequent else {}
        )
        texts: dict[str, list[int]] = {}
        current = ""
        for token in ids.tolist():
            index = int(self.token_slots[token])
            if index >= 0:
                slot, local = self.slots[index], token - int(self._slot_starts[index])
                values[slot.name] = slot.texts[local]
                if slot.special_states is TEXT_STATES and local == _HAS_TEXT:
                    current = slot.name
                    texts[current] = []
            elif current and self.vocabulary[token] not in SPECIAL_TOKENS:
                texts[current].append(token - self._first_subword)
        if self.subwords is not None:
            values |= {name: self.subwords.decode(pieces) for name, pieces in texts.items()}
        return values

    def new_token_subwords(self) -> tuple[Int32[np.ndarray, " new"], list[Int32[np.ndarray, " subwords"]]]:
        """For "extend": the new token ids, and the WordPieces whose mean initialises each embedding."""
        if self.config.vocabulary != "extend" or self.subwords is None:
            return np.empty(0, np.int32), []
        starts = initial_subwords(self.slots, self.subwords)
        return np.arange(self.subwords.num_given, self.num_tokens, dtype=np.int32), starts

    # Saved state

    def write_hugging_face(self, folder: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, which give canonical text the same ids."""
        write_hugging_face(self._entries, folder)

    def to_dict(self) -> dict[str, Any]:
        """The whole state as plain values for JSON; floats are exact."""
        return {
            "schema": self.schema.to_dict(),
            "config": settings_to_dict(self.config),
            "encoders": [encoder_to_dict(encoder) for encoder in self.encoders],
            "subwords": None if self.subwords is None else asdict(self.subwords),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "FlowTokenizer":
        """The tokenizer that `to_dict` wrote."""
        return cls(
            schema=FlowSchema.from_dict(state["schema"]),
            config=settings_from_dict(EncodingConfig, state["config"], "encoding."),
            encoders=tuple(encoder_from_dict(encoder) for encoder in state["encoders"]),
            subwords=None if state["subwords"] is None else Subwords(**state["subwords"]),
        )


def count_rows(schema: FlowSchema, blocks: Blocks) -> TrainingCounts:
    """The values of training rows, and of combinations of columns."""
    counts = TrainingCounts(all_features(schema))
    combined = combined_blocks(blocks, schema.combinations)
    for block in combined() if callable(combined) else combined:
        counts.add(block)
    return counts


def _distinct_texts(table: pa.Table, name: str) -> tuple[list[str], Int[np.ndarray, " rows"]]:
    """A column's distinct texts and each row's index: `len(texts)` is a null, one more an absent column."""
    if name not in table.column_names:
        return [], np.ones(table.num_rows, np.int64)
    column = table[name].unify_dictionaries() if pa.types.is_dictionary(table[name].type) else table[name]
    for part in distinct(pa.chunked_array([column.combine_chunks()])):
        assert part.codes is not None, "only plain numbers are not worth finding the distinct of"
        return [text or "" for text in part.values.to_pylist()], part.codes  # without nulls
    return [], np.empty(0, np.int64)
