"""Training on several GPUs of this machine without a launcher: the command starts the other ranks itself."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final, final

from wirebert.companion_process import THREADS
from wirebert.telemetry.processors import num_processors
from wirebert.telemetry.threads import import_pytorch

if TYPE_CHECKING:
    from wirebert.training.parallel.process_group import ProcessGroup

_LOOK_S: Final = 0.2
_GRACE_S: Final = 12.0
"""Time to end by itself after a rank failed; it may hang, waiting for a GPU that waits for that rank."""


@final
@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a training."""

    number: int
    group: "ProcessGroup | None" = None
    """They have joined it, if a launcher has started them."""

    @contextmanager
    def joined(self) -> Generator["ProcessGroup"]:
        """The group of all; those that are not there yet are started."""
        if self.group is not None:
            yield self.group
            return
        with other_ranks(self.number):
            import_pytorch()
            import_module("wirebert.workflows.rank_jobs")  # needed soon, and the others are not here yet
            from wirebert.training.parallel.process_group import init_process_group

            with init_process_group(os.environ) as group:
                yield group


@contextmanager
def other_ranks(num_ranks: int) -> Generator[None]:
    """Be the first of `num_ranks` ranks in this block; the others import PyTorch while this one begins.

    They are started as torchrun starts them, so `init_process_group` joins them.
    """
    if num_ranks == 1:
        yield
        return
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = str(listening.getsockname()[1])
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared = address | {"WORLD_SIZE": str(num_ranks), "LOCAL_WORLD_SIZE": str(num_ranks)}
    threads = dict.fromkeys(THREADS, str(max(1, num_processors() // num_ranks)))
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "wirebert", "train"],
            env=os.environ | threads | shared | _places(rank),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process, which tells the others
        )
        for rank in range(1, num_ranks)
    ]
    is_over = threading.Event()
    threading.Thread(target=_watch, args=(ranks, is_over), name="lost ranks", daemon=True).start()
    os.environ.update(shared | _places(0))
    try:
        yield
    finally:
        is_over.set()
        for name in shared | _places(0):
            del os.environ[name]
        for process in ranks:
            process.kill()
            process.wait()


def _places(rank: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def _watch(ranks: Sequence["subprocess.Popen[bytes]"], is_over: threading.Event) -> None:
    """End this process, even if it hangs, after a rank has failed."""
    while not is_over.wait(_LOOK_S):
        lost = next((place for place, process in enumerate(ranks, 1) if process.poll()), None)
        if lost is not None and not is_over.wait(_GRACE_S):
            sys.stderr.write(
                f"wirebert: rank {lost}: this process of the training ended without saying why (killed, for "
                "lack of memory?); go on with --resume\n"
            )
            sys.stderr.flush()
            os._exit(2)
