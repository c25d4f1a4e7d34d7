"""Labels as people write them: spellings of one label, names of benign traffic, names that tell nothing."""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

ANY_LABEL = "*"
"""In a label map: every label without an entry. Mapped to itself: each of them is its own class."""

TRUTH_PAIRS = (("false", "true"), ("f", "t"), ("no", "yes"), ("n", "y"))
"""Spellings of booleans, the benign one first."""

PLACEHOLDERS = frozenset(("none", "n/a", "na", "nan", "null", "empty", "nolabel", "notapplicable"))

_GAPS = re.compile("[\\s_\\-\u2010-\u2015\u2212\x96\x97\ufffd]+")
"""Blanks, underscores, dashes, and what is left of a dash in the wrong encoding."""

_NUMBER = re.compile(r"\+?(-?\d+)(\.0*)?")
_BENIGN = re.compile(
    r"(?:benign|normal|norm|legit|legitimate|clean|harmless|regular)"
    r"(?:traffic|flows?|activity|behaviou?r|connections?|network|data|class|packets?|label)?"
    r"|(?:no|non|not)(?:an?)?(?:attack|malicious|malware|intrusion|anomaly|anomalous|botnet|threat)s?"
)
_TELLS_NOTHING = re.compile(r"(?<!ab)normal|benign|legit|background|unknown|unlabel|undefined|unclassified")


@lru_cache(maxsize=20_000)
def fold_label(label: str) -> str:
    """The label without case, blanks, underscores, dashes, trailing dots, and differences of Unicode forms.

    A sign is no dash: labels that are numbers keep theirs.

    >>> [fold_label(label) for label in ("FTP-Patator", "ftp_patator ", "Normal.", "-1", "1.0", "---")]
    ['ftppatator', 'ftppatator', 'normal', '-1', '1', '---']
    """
    text = unicodedata.normalize("NFKC", label).casefold().strip()
    number = _NUMBER.fullmatch(text)
    if number:
        return number[1]
    folded = _GAPS.sub("", text).rstrip(".")
    return text if not folded or folded.isdecimal() else folded


def means_benign(label: str) -> bool:
    """Whether the label by itself says that there was no attack.

    >>> [means_benign(label) for label in ("BenignTraffic", "non-attack", "Abnormal", "Background")]
    [True, True, False, False]
    """
    return _BENIGN.fullmatch(fold_label(label)) is not None


def is_placeholder(label: str) -> bool:
    """Whether the label stands for "nothing", such as `---`: no attack in some files, no label in others."""
    folded = fold_label(label)
    return folded in PLACEHOLDERS or not any(map(str.isalnum, folded))


def is_doubtful(label: str) -> bool:
    """Whether the label may mean benign or unlabelled traffic, which its name alone does not settle.

    >>> [is_doubtful(label) for label in ("Background", "Unknown", "flow=From-Normal-V42", "abnormal")]
    [True, True, True, False]
    """
    return is_placeholder(label) or _TELLS_NOTHING.search(fold_label(label)) is not None


def benign_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names that mean "no attack" among all names of a file.

    Those that say so. Where none does: zero if all names are numbers, false beside true, or background.

    >>> benign_names(["Benign", "Normal", "dos"]), benign_names(["0", "1"]), benign_names(["0", "dos"])
    (('Benign', 'Normal'), ('0',), ())
    """
    ordered = sorted(names)
    folded = {name: fold_label(name) for name in ordered}
    saying = tuple(name for name in ordered if means_benign(name))
    if saying:
        return saying
    if all(re.fullmatch(r"\d+", text) for text in folded.values()):
        return tuple(name for name, text in folded.items() if int(text) == 0)
    pairs = [no for no, yes in TRUTH_PAIRS if set(folded.values()) == {no, yes}]
    return tuple(name for name, text in folded.items() if text in pairs or text.startswith("background"))
