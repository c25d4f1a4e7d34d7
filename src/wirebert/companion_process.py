"""Work of the processor beside a busy GPU, in another process: Python's lock stays free for the training."""

import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Generic, TypeVar, cast, final

from wirebert.errors import UserError

Result = TypeVar("Result")
Receive = Callable[[], Any]
"""Waits for the next message of the other side."""

THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Threads of several processes must not be more than the cores: they wait for each other."""

_PROGRAM: Final = "from wirebert.companion_process import run; run()"


@final
class CompanionProcess(Generic[Result]):
    """A function that receives messages and returns a result, in another process if `is_separate`.

    The process starts at once, so that its imports are done when the first message comes. Without it, and if
    it fails otherwise than by an error of the user, `result` calls the function itself.
    """

    def __init__(
        self, function: Callable[[Receive], Result], *, is_separate: bool, num_threads: int = 1
    ) -> None:
        self._function, self._messages = function, list[Any]()
        self._connection: Connection[Any, Any] | None = None
        self._result: tuple[Result] | None = None
        if not is_separate:
            return
        ours, theirs = cast("tuple[Connection[Any, Any], Connection[Any, Any]]", Pipe())
        self._connection = ours
        # A plain program, not multiprocessing's: that would run the user's script again.
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _PROGRAM,
                str(theirs.fileno()),
                function.__module__,
                function.__qualname__,
            ],
            pass_fds=[theirs.fileno()],
            env=os.environ
            | dict.fromkeys(THREADS, str(max(1, num_threads)))
            | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the training, which ends this process
        )
        theirs.close()
        weakref.finalize(self, _end, process, ours)

    def send(self, message: Any) -> None:
        """Pass the next message to the function."""
        self._messages.append(message)
        if self._connection is not None:
            with suppress(OSError):  # it was killed; `result` does its work
                self._connection.send(message)

    def result(self) -> Result:
        """Wait for the result, the same at each call; an error of the user is raised here."""
        if self._result is None:
            self._result = (self._awaited(),)
        return self._result[0]

    def _awaited(self) -> Result:
        if self._connection is not None:
            with suppress(EOFError, OSError):
                value, error = cast("tuple[Result, UserError | None]", self._connection.recv())
                if error is not None:
                    raise error
                return value
        messages = iter(self._messages)
        return self._function(lambda: next(messages))


def run() -> None:
    """The other process: call the function named in the arguments, and send its result back."""
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    messages: SimpleQueue[bytes] = SimpleQueue()

    def read() -> None:
        try:
            while True:
                messages.put(connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(1)  # the training has ended

    def receive() -> Any:
        return cast(Any, ForkingPickler).loads(messages.get())

    Thread(target=read, daemon=True).start()  # at once: the training must not wait for the imports
    function = getattr(import_module(sys.argv[2]), sys.argv[3])
    try:
        answer = function(receive), None
    except UserError as error:
        answer = None, error
    connection.send(answer)


def _end(process: "subprocess.Popen[bytes]", connection: "Connection[Any, Any]") -> None:
    connection.close()
    process.kill()
    process.wait()
