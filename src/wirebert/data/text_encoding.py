"""The encoding of a text, by its first bytes."""

from wirebert.data.dialect import Encoding


def detect_encoding(head: bytes, *, is_whole: bool) -> Encoding:
    """UTF-16 by a byte-order mark or by zero bytes, else UTF-8 if the bytes are valid, else a single-byte
    encoding.

    >>> detect_encoding("dur,café".encode("cp1252"), is_whole=True)
    'cp1252'
    """
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if len(head) >= 4 and head.count(0) > 0.4 * len(head):
        even, odd = head[0::2].count(0), head[1::2].count(0)
        if even + odd > 0 and min(even, odd) < 0.02 * max(even, odd):
            return "utf-16-le" if odd > even else "utf-16-be"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        is_cut_character = not is_whole and error.start >= len(head) - 3
        if not is_cut_character and not holds_utf_8(head):
            return single_byte_encoding(head)
    return "utf-8"


def holds_utf_8(head: bytes) -> bool:
    """Whether most characters beyond ASCII are valid UTF-8; the others are then damage."""
    text = head.decode("utf-8", errors="replace")
    num_damaged = text.count("\ufffd")
    return len(text) - len(text.encode("ascii", errors="ignore")) - num_damaged > 2 * num_damaged


def single_byte_encoding(head: bytes) -> Encoding:
    """Windows-1252, or Latin-1 where bytes occur that Windows-1252 leaves undefined."""
    return "latin-1" if set(head) & set(b"\x81\x8d\x8f\x90\x9d") else "cp1252"
