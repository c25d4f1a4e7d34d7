"""The ranks of a training as workers of Ray Train: a process each, joined by `torch.distributed`."""

import tempfile
from collections.abc import Callable, Iterable
from typing import Any, Final

from wirebert.cluster.executors import Losses
from wirebert.cluster.ray_executor import WORKER_BYTES, RayCluster
from wirebert.errors import ConfigError, RankLostError, TrainingError, UserError

_DEATHS: Final = ("RayActorError", "ActorDiedError", "ActorUnavailableError", "WorkerHealthCheckFailedError")
"""How Ray tells that the process of a rank has ended."""


def run_ranks(cluster: RayCluster, work: Callable[[], None], progress: Callable[[], object]) -> None:
    """Call `work` on every rank, as torchrun starts it; when a rank died, on all ranks again.

    `progress` is asked when a rank died; one that has changed since the death before allows more deaths.

    Source: TorchTrainer of Ray Train sets up the process group, and the variables that torchrun sets.

    Raises:
        ConfigError: Ray or Ray Train is not installed, or the cluster has no room for a rank.
        DataError: ranks die again and again.
        TrainingError: the cluster failed.
        UserError: as raised by a rank.
    """
    ray = cluster.connect()
    try:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError
    except ImportError as error:
        raise ConfigError(
            f"--cluster needs Ray Train, of which {error.name} is not installed; install it with `pip "
            "install 'wirebert[ray]'`"
        ) from error
    cluster.end_workers()
    num_ranks, losses, before = cluster.room(ray), Losses(), progress()
    with_gpus = ray.cluster_resources().get("GPU", 0) >= num_ranks
    resources = {"CPU": 1, "memory": WORKER_BYTES} | ({"GPU": 1} if with_gpus else {})
    while True:
        with tempfile.TemporaryDirectory(prefix="wirebert-ranks-") as storage:
            trainer: Any = TorchTrainer(
                work,
                torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if with_gpus else "gloo"),
                scaling_config=ScalingConfig(
                    num_workers=num_ranks, use_gpu=with_gpus, resources_per_worker=resources
                ),
                run_config=RunConfig(name="ranks", storage_path=storage),
            )
            try:
                trainer.fit()
                return
            except WorkerGroupError as error:
                raise_cause(error.worker_failures.values())
            except TrainingFailedError as error:
                reason = str(error).strip().splitlines()[-1][:200]
                raise TrainingError(f"the cluster failed ({reason}); go on with --resume") from error
        if (now := progress()) != before:
            losses.forget()
        before = now
        losses.add("a rank of the training", "all go on from the newest checkpoint", "checkpoints are kept")


def raise_cause(failures: Iterable[Exception]) -> None:
    """Raise what a rank failed with; return if the only cause is that a rank died."""
    causes = [getattr(failure, "_base_exc", failure) for failure in failures]
    own = [
        cause
        for cause in causes
        if not isinstance(cause, RankLostError | SystemExit) and type(cause).__name__ not in _DEATHS
    ]
    if own:
        raise next((cause for cause in own if isinstance(cause, UserError)), own[0])
