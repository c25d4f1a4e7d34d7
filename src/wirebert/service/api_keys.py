"""API keys from a file, which may change while the service runs, or from the environment."""

import hashlib
import hmac
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from wirebert.errors import ConfigError
from wirebert.plurals import counted

VARIABLE: Final = "WIREBERT_API_KEYS"
"""Environment variable with keys, separated by blanks, commas or line ends."""
MIN_CHARACTERS: Final = 16
LOOK_EVERY_S: Final = 1.0


@final
class ApiKeys:
    """The keys that the service accepts.

    A file is checked for changes on requests, at most once a second. To rotate a key: add the new one, change
    the clients, remove the old one. A file that cannot be read, or has no usable key, changes nothing.

    Args:
        path: file with one key per line; lines that begin with # are comments.
        text: keys from the environment; ignored if there is a file.
        tell: called with a message when a changed file is read or cannot be read.

    Raises:
        ConfigError: the file cannot be read, holds no key, or one that is too short.
    """

    def __init__(
        self, path: Path | None = None, text: str = "", tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self._path, self._tell = path, tell
        self._mark = _mark(path)
        self._digests = _digests(text.replace(",", " "), VARIABLE) if path is None else _read(path)
        self._looked_at = time.monotonic()

    @property
    def are_needed(self) -> bool:
        """Whether requests need a key; without keys the service is open to every client."""
        return bool(self._digests)

    def admit(self, key: str) -> bool:
        """Whether the key is valid. The time that this takes does not depend on how much of it is right."""
        self._look()
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        # Compare with all of them, whichever matches.
        matches = [hmac.compare_digest(digest, valid) for valid in self._digests]
        return any(matches)

    def _look(self) -> None:
        if self._path is None or time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        mark = _mark(self._path)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._digests = _read(self._path)
            self._tell(f"{self._path}: {counted(len(self._digests), 'key')} reloaded")
        except ConfigError as error:
            self._tell(f"the previous keys stay valid: {error}")


def _mark(path: Path | None) -> tuple[int, int, int] | None:
    """Values that change when the file does."""
    try:
        found = None if path is None else path.stat()
    except OSError:
        return None
    return None if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)


def _read(path: Path) -> tuple[bytes, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigError(f"--keys {path}: expected a file of keys, found none ({reason})") from error
    digests = _digests(" ".join(line for line in lines if not line.startswith("#")), f"--keys {path}")
    if not digests:
        raise ConfigError(f"--keys {path}: expected at least one key, found none; write one a line")
    return digests


def _digests(text: str, where: str) -> tuple[bytes, ...]:
    """Digests of the keys: they have equal lengths, and the keys themselves are not stored."""
    keys = text.split()
    if any(len(key) < MIN_CHARACTERS for key in keys):
        raise ConfigError(
            f"{where}: expected keys of at least {MIN_CHARACTERS} characters, found a shorter one; make one "
            "with "
            "`openssl rand -hex 24`"
        )
    return tuple(hashlib.sha256(key.encode()).digest() for key in keys)
