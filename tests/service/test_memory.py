import subprocess
import sys

SCRIPT = """
import os, sys, threading
from wirebert.service.memory import bound_heap
if sys.argv[1] == "bound":
    bound_heap()
def work():
    for _ in range(20):
        [bytes(200_000) for _ in range(50)]
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(os.environ.get("ONEDNN_PRIMITIVE_CACHE_CAPACITY"), open("/proc/self/maps").read().count("---p"))
"""


def arenas(how: str) -> tuple[str, int]:
    found = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
    capacity, reserved = found.stdout.split()
    return capacity, int(reserved)


def test_threads_share_one_heap_after_it():
    assert arenas("bound")[0] == "0"
    assert arenas("bound")[1] < arenas("free")[1]
