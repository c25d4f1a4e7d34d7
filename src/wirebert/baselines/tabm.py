"""TabM: a deep network for tables, from its authors' library, with early stopping by log-loss. Optional.

Source: Gorishniy, Kotelnikov and Babenko, TabM: Advancing Tabular Deep Learning with Parameter-Efficient
Ensembling, ICLR 2025.

NOTE[DIFF]: numbers are scaled by quantile, without piecewise-linear embeddings.
"""

import copy

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from wirebert.baselines.boosting import need
from wirebert.baselines.task import Params, Predict, Rows, ScaledFeatures, Task, class_weights
from wirebert.shapes import Float32, Float64

MAX_EPOCHS = 60
TABM_PATIENCE = 6
"""Epochs without a lower log-loss after which training stops."""

BATCH_SIZE = 1024
_SCORED_AT_ONCE = 8192


def fit_tabm(task: Task, params: Params, seed: int) -> Predict:
    """TabM on scaled numbers and one-hot frequent codes, on a GPU if there is one."""
    tabm = need("tabm")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prepare = ScaledFeatures.fit(task, "quantile", seed)
    train = _tensor(prepare(task.train), device)
    stop = _tensor(prepare(task.stop), device)
    train_ids, stop_ids = (torch.from_numpy(ids).to(device) for ids in (task.train_ids, task.stop_ids))
    weights = class_weights(task.train_ids, task.num_classes, params.get("class_weight"))
    weight = torch.from_numpy(weights).float().to(device)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: torch.nn.Module = tabm.TabM.make(
            n_num_features=train.shape[1],
            d_out=task.num_classes,
            n_blocks=int(params.get("blocks") or 3),
            d_block=int(params.get("width") or 512),
            dropout=float(params.get("dropout") or 0.0),
        ).to(device)
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=float(params.get("learning_rate") or 2e-3),
            weight_decay=float(params.get("weight_decay") or 0.0),
        )
        best, best_state, waited = float("inf"), copy.deepcopy(model.state_dict()), 0
        for _ in range(MAX_EPOCHS):
            model.train()
            for rows in torch.randperm(len(train), generator=generator).split(BATCH_SIZE):
                logits_BKC: Tensor = model(train[rows.to(device)])
                ids = train_ids[rows.to(device)].repeat_interleave(logits_BKC.shape[1])
                loss = cross_entropy(logits_BKC.flatten(0, 1), ids, weight=weight)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            probabilities = _probabilities(model, stop)
            chosen = (
                probabilities[torch.arange(len(probabilities), device=device), stop_ids]
                if len(stop)
                else None
            )
            log_loss = -float(chosen.clamp_min(1e-7).log().mean()) if chosen is not None else -1.0
            if log_loss < best:
                best, best_state, waited = log_loss, copy.deepcopy(model.state_dict()), 0
            else:
                waited += 1
            if waited >= TABM_PATIENCE:
                break
    model.load_state_dict(best_state)

    def predict(rows: Rows) -> Float64[np.ndarray, "flows classes"]:
        return _probabilities(model, _tensor(prepare(rows), device)).double().cpu().numpy()

    return predict


def _tensor(
    numbers: Float64[np.ndarray, "flows dense"], device: torch.device
) -> Float32[Tensor, "flows dense"]:
    return torch.from_numpy(numbers).float().to(device)


@torch.inference_mode()
def _probabilities(
    model: torch.nn.Module, numbers: Float32[Tensor, "flows dense"]
) -> Float32[Tensor, "flows classes"]:
    """The mean over the network's internal ensemble."""
    model.eval()
    return torch.cat([model(part).softmax(-1).mean(1) for part in numbers.split(_SCORED_AT_ONCE)])
