"""What a command does with findings: it tells each of them once, and fails on warnings if it is strict."""

from collections.abc import Iterable

from wirebert.data.findings import Finding
from wirebert.errors import DataError
from wirebert.plurals import counted
from wirebert.untrusted_text import warn


def tell(findings: Iterable[Finding]) -> None:
    """Print findings that are not accepted to standard error, each once, with its code."""
    for line in dict.fromkeys(f"{one.code}: {one.message}" for one in findings if not one.is_accepted):
        warn(line)


def require_no_warnings(
    findings: Iterable[Finding], *, strict: bool = True, can_accept: bool = False
) -> None:
    """Raise a DataError for a warning or an error that is not accepted. Call it after all output.

    Args:
        can_accept: whether the command has the setting that accepts findings.
    """
    failing = [one for one in findings if one.severity != "info" and not one.is_accepted]
    if strict and failing:
        names = list(
            dict.fromkeys(one.code if one.column is None else f"{one.code}:{one.column}" for one in failing)
        )
        hint = f"; or set data.accepted_findings={names[0]!r} to accept it" if can_accept else ""
        raise DataError(
            f"--strict: {counted(len(names), 'finding')} ({', '.join(names)}); the first: "
            f"{failing[0].message}{hint}"
        )
