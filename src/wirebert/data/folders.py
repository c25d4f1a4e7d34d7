"""What became of each file of a folder or pattern, and whether the labels of several files fit together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wirebert.data.files import ABOUT, FlowFile, is_data, reason_to_skip
from wirebert.data.findings import Finding, format_names
from wirebert.errors import SchemaError
from wirebert.plurals import counted
from wirebert.untrusted_text import printable_name


@dataclass(frozen=True, kw_only=True, slots=True)
class FileListing:
    """One file, and what became of it."""

    path: str
    read_as: str = ""
    """The format in words; empty for a file that is not read by itself."""
    is_labelled: bool = False
    """Whether it has the label column."""
    joined_into: str = ""
    """The log whose flows get columns from this one."""
    skipped: str = ""
    """Why it is not read, and what to do."""
    num_rows: int | None = None
    """None: the file is not read yet."""

    @property
    def described(self) -> str:
        """One line for people."""
        if self.skipped:
            return f"{self.path}: skipped, {self.skipped}"
        if self.joined_into:
            return f"{self.path}: joined into {self.joined_into}"
        rows = "" if self.num_rows is None else f", {counted(self.num_rows, 'row')}"
        return f"{self.path}: {self.read_as}{rows}{', labelled' if self.is_labelled else ''}"


def list_files(
    data: str,
    found: Sequence[Path],
    parts: Sequence[FlowFile],
    label: str | None,
    skipped: Mapping[Path, str],
) -> tuple[FileListing, ...]:
    """Each file that `data` names, by name; of a folder also those that are no data files.

    Args:
        found: The data files.
        parts: Those that are read.
        label: The label column.
        skipped: Data file that is not read -> why.
    """
    read = {part.path: part for part in parts}
    joined = {
        path: part.path for part in parts if part.source is not None for path in part.source.joined_files
    }
    folder = Path(data)
    every = found
    if folder.is_dir():
        every = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder))
    listing: list[FileListing] = []
    for path in every:
        one = FileListing(path=printable_name(path))
        if path in read:
            part = read[path]
            has_label = label in (part.names if part.source is None else part.source.names)
            one = replace(one, read_as=part.described, is_labelled=has_label)
        elif path in joined:
            one = replace(one, joined_into=printable_name(joined[path]))
        else:
            one = replace(one, skipped=skipped.get(path) or _why(path, folder))
        listing.append(one)
    return tuple(listing)


def with_rows(listing: Sequence[FileListing], rows: Mapping[str, int]) -> tuple[FileListing, ...]:
    """The listing with the rows of each file that was read."""
    return tuple(replace(one, num_rows=rows.get(one.path)) if one.read_as else one for one in listing)


def listing_lines(listing: Sequence[FileListing]) -> list[str]:
    """A line for each of several files; none for a single one."""
    return [one.described for one in listing] if len(listing) > 1 else []


def skipped_finding(listing: Sequence[FileListing]) -> tuple[Finding, ...]:
    """A warning about files that are not read, if there are any."""
    skipped = [one for one in listing if one.skipped not in ("", ABOUT)]
    if not skipped:
        return ()
    names = format_names([Path(one.path).name for one in skipped])
    return (
        Finding(
            code="skipped_files",
            severity="warning",
            count=len(skipped),
            example=skipped[0].path,
            message=f"{len(skipped)} of {len(listing)} files {'is' if len(skipped) == 1 else 'are'} not read "
            f"({names}; the first: "
            f"{skipped[0].skipped}); give the files to read by name or pattern, or convert these",
        ),
    )


def describe_parts(parts: Sequence[FlowFile]) -> str:
    """The formats of the files in words, the most common first."""
    counts = Counter(part.described for part in parts)
    if len(counts) == 1:
        return parts[0].described
    return "; ".join(
        f"{count} {'file' if count == 1 else 'files'} {title}" for title, count in counts.most_common()
    )


def check_vocabularies(parts: Sequence[FlowFile], labels: Sequence[set[str]]) -> None:
    """Raise a SchemaError if the last file has no label in common with an earlier one of another format, or
    if both have several labels.

    A folder may hold one file for each class, so a single label of its own is no other vocabulary.
    """
    last, folded = parts[len(labels) - 1], {label.strip().casefold() for label in labels[-1]}
    for part, earlier in zip(parts, labels[:-1], strict=False):
        others = {label.strip().casefold() for label in earlier}
        differs = part.dialect.format != last.dialect.format or min(len(folded), len(others)) > 1
        if folded and others and differs and folded.isdisjoint(others):
            raise SchemaError(
                f"{last.where}: expected labels of one vocabulary, found {format_names(sorted(labels[-1]))}, "
                f"and in {part.where} {format_names(sorted(earlier))}; train on files of one "
                "data set, or give all labels the same names first"
            )


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _why(path: Path, folder: Path) -> str:
    if folder.is_dir() and not is_data(path.relative_to(folder)):
        return reason_to_skip(path)
    return "its name is that of a log joined with a conn log, which it does not fit"
