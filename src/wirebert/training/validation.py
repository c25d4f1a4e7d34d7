"""Validation during training: the loss that selects the best weights, and metrics.

Shape letters: C classes.
"""

from typing import NamedTuple

import numpy as np
import torch

from wirebert.encoding.token_rows import JaggedRows
from wirebert.metrics.confusion import macro_f1
from wirebert.model.batches import score
from wirebert.model.masked_predictions import MaskedPredictions, predict_masked
from wirebert.shapes import Float32
from wirebert.training.feeding import LabelledFlows
from wirebert.training.loop import TrainState


class Validation(NamedTuple):
    """Metrics on the validation flows."""

    loss: float
    accuracy: float
    macro_f1: float


def validate(state: TrainState, flows: LabelledFlows) -> Validation:
    """Loss, accuracy and macro-F1 on `flows`; the same on all ranks.

    The loss is the training loss, including class weights. In pretraining the metrics are over the masked
    tokens, with their ids as classes.
    """
    if state.model.masked is not None:
        predictions = all_masked_predictions(state, flows)
        return state.communicator.broadcast_object(lambda: masked_validation_metrics(predictions))
    logits = all_logits(state, flows)
    return state.communicator.broadcast_object(lambda: validation_metrics(state, flows, logits))


def all_logits(state: TrainState, flows: LabelledFlows) -> Float32[np.ndarray, "flows C"]:
    """Class logits of every flow on rank 0; with several ranks, each scores a part of the flows.

    Ranks with sharded weights score all flows together; a rank may then not halve its batches alone when
    memory runs out.
    """
    part, device = part_to_score(state, flows), str(state.device)
    max_tokens = state.strategy.scoring_tokens(device)
    logits = score(state.model, part, device=device, precision=state.number_format, max_tokens=max_tokens)
    return logits if state.strategy.scores_all else np.concatenate(state.communicator.all_gather(logits))


def all_masked_predictions(state: TrainState, flows: LabelledFlows) -> MaskedPredictions:
    """The model's prediction of every masked token; the ranks share the work as in `all_logits`."""
    part = part_to_score(state, flows)
    predictions = predict_masked(state.model, part, device=str(state.device), precision=state.number_format)
    by_rank = [predictions] if state.strategy.scores_all else state.communicator.all_gather(predictions)
    return MaskedPredictions(*(np.concatenate(parts) for parts in zip(*by_rank, strict=True)))


def part_to_score(state: TrainState, flows: LabelledFlows) -> JaggedRows:
    """The flows that this rank scores."""
    num_flows, size = len(flows.class_ids), 1 if state.strategy.scores_all else state.communicator.size
    first, last = (num_flows * (state.communicator.rank % size + end) // size for end in (0, 1))
    return JaggedRows(flows.ids, np.asarray(flows.offsets[first : last + 1]))


def validation_metrics(
    state: TrainState, flows: LabelledFlows, logits: Float32[np.ndarray, "flows C"]
) -> Validation:
    """Metrics of the flows' logits."""
    objective = state.host_objective
    # Copied, since a memory-mapped store is read-only.
    class_ids = torch.from_numpy(np.array(flows.class_ids, dtype=np.int64))
    loss = objective.total(torch.from_numpy(logits), class_ids) / objective.weight(class_ids)
    predicted = logits.argmax(axis=1)
    return Validation(
        loss=float(loss),
        accuracy=float(np.mean(predicted == flows.class_ids)),
        macro_f1=macro_f1(np.asarray(flows.class_ids), predicted),
    )


def masked_validation_metrics(predictions: MaskedPredictions) -> Validation:
    """Metrics of the predictions of masked tokens."""
    return Validation(
        loss=float(np.mean(predictions.losses, dtype=np.float64)),
        accuracy=float(np.mean(predictions.predicted == predictions.tokens)),
        macro_f1=macro_f1(predictions.tokens, predictions.predicted),
    )
