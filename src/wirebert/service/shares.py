"""Shares: one client alone cannot take everything that clients have in common."""

from collections import Counter
from typing import Final, final

_KEPT_FREE: Final = 4
"""The last part of so many is for clients that hold less than half."""


@final
class Shares:
    """A bounded amount of connections, bytes or places in a queue, taken by clients.

    A client that holds half of the total gets nothing of the last quarter, so that others always get some.

    >>> places = Shares(8)
    >>> [places.take("greedy", 1) for _ in range(8)].count(True), places.take("other", 2)
    (6, True)
    """

    def __init__(self, total: int) -> None:
        self.total, self.taken = total, 0
        self._of_client: Counter[str] = Counter()

    def take(self, client: str, amount: int) -> bool:
        """Take `amount` for the client; False, and nothing is taken, if it would be too much."""
        is_greedy = self._of_client[client] + amount > self.total / 2
        limit = self.total - (self.total // _KEPT_FREE if is_greedy else 0)
        if self.taken + amount > limit:
            return False
        self.taken += amount
        self._of_client[client] += amount
        return True

    def give_back(self, client: str, amount: int) -> None:
        """Return what was taken."""
        self.taken -= amount
        self._of_client[client] -= amount
        if not self._of_client[client]:
            del self._of_client[client]
