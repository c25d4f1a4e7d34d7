"""How the model does on the validation flows, which choose the best weights and when to stop.

Shape letters: C classes.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32

from wirebert.metrics.confusion import macro_f1
from wirebert.model.batches import score, usual_tokens
from wirebert.model.masked_predictions import MaskedPredictions, predict_masked
from wirebert.training.corruption import RaggedRows
from wirebert.training.feeding import LabelledRows
from wirebert.training.loop import TrainState


class Validation(NamedTuple):
    """How the model does on the validation flows."""

    loss: float
    accuracy: float
    macro_f1: float


def validate(state: TrainState, flows: LabelledRows) -> Validation:
    """Loss, accuracy and macro-F1 on `flows`; the same on all ranks.

    The loss is what training minimises, class weights included, so that the best model by this loss is the best by the
    training's own aim. In pretraining the masked tokens of `flows` are what
    is judged, and their ids take the place of classes.
    """
    if state.model.masked is not None:
        guesses = all_masked_predictions(state, flows)
        return state.communicator.broadcast_object(lambda: masked_validation_metrics(guesses))
    logits = all_logits(state, flows)
    return state.communicator.broadcast_object(lambda: validation_metrics(state, flows, logits))


def all_logits(state: TrainState, flows: LabelledRows) -> Float32[np.ndarray, "flows C"]:
    """Class logits of every flow on rank 0, each of several ranks having scored a part of the flows.

    Where ranks hold parts of the weights each scores all flows, since they compute every pass together: none may then halve
    its batches where its own memory runs out.
    """
    part, device = part_to_score(state, flows), str(state.device)
    max_tokens = usual_tokens(device) if state.is_sharded else None
    logits = score(state.model, part, device=device, precision=state.number_format, max_tokens=max_tokens)
    return logits if scores_all(state) else np.concatenate(state.communicator.all_gather(logits))


def all_masked_predictions(state: TrainState, flows: LabelledRows) -> MaskedPredictions:
    """What the model says of every masked token, the ranks sharing the work in the same way."""
    part = part_to_score(state, flows)
    guesses = predict_masked(state.model, part, device=str(state.device), precision=state.number_format)
    found = [guesses] if scores_all(state) else state.communicator.all_gather(guesses)
    return MaskedPredictions(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def scores_all(state: TrainState) -> bool:
    """Whether each rank scores all flows."""
    return state.is_sharded or state.communicator.size == 1


def part_to_score(state: TrainState, flows: LabelledRows) -> RaggedRows:
    """The flows that this rank scores."""
    num_flows, size = len(flows.class_ids), 1 if scores_all(state) else state.communicator.size
    first, last = (num_flows * (state.communicator.rank % size + end) // size for end in (0, 1))
    return RaggedRows(flows.ids, np.asarray(flows.offsets[first : last + 1]))


def validation_metrics(
    state: TrainState, flows: LabelledRows, logits: Float32[np.ndarray, "flows C"]
) -> Validation:
    """The figures that the flows' logits make."""
    objective = state.host_objective
    class_ids = torch.from_numpy(
        np.array(flows.class_ids, dtype=np.int64)
    )  # a copy: a store on disk is read-only
    loss = objective.total(torch.from_numpy(logits), class_ids) / objective.weight(class_ids)
    predicted = logits.argmax(axis=1)
    return Validation(
        loss=float(loss),
        accuracy=float(np.mean(predicted == flows.class_ids)),
        macro_f1=macro_f1(np.asarray(flows.class_ids), predicted),
    )


def masked_validation_metrics(guesses: MaskedPredictions) -> Validation:
    """The figures that what is said of masked tokens makes."""
    return Validation(
        loss=float(np.mean(guesses.losses, dtype=np.float64)),
        accuracy=float(np.mean(guesses.predicted == guesses.tokens)),
        macro_f1=macro_f1(guesses.tokens, guesses.predicted),
    )
