"""How fast this machine is just now, to read beside every time: machines differ, and are shared."""

import time

import numpy as np

MATRIX_SIZE = 1024


def matrix_gflops() -> float:
    """Speed of a 1,024 x 1,024 float32 matrix product, in billion operations per second."""
    matrix = np.ones((MATRIX_SIZE, MATRIX_SIZE), np.float32)
    np.matmul(matrix, matrix)  # the first product also starts threads
    start = time.perf_counter()
    for _ in range(5):
        np.matmul(matrix, matrix)
    return 5 * 2 * MATRIX_SIZE**3 / (time.perf_counter() - start) / 1e9
