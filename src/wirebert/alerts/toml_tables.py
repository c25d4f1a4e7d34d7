"""A TOML file of users that holds tables of one name, such as [[rule]]."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from wirebert.errors import ConfigError
from wirebert.files import read_toml_file


def read_tables(path: Path, name: str) -> dict[str, object]:
    """The content of the file, bounded in size and depth.

    Raises:
        ConfigError: it cannot be read, or is no TOML.
    """
    try:
        return read_toml_file(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: expected a TOML file of [[{name}]] tables, found none that can be read "
            f"({error.strerror}); check its name and permissions"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path}: expected TOML with [[{name}]] tables ({error}); correct it") from error


def tables_of(plain: Mapping[str, object], name: str, where: str) -> Sequence[object]:
    """The tables of that name, which are all that the file may hold.

    Raises:
        ConfigError: it holds something else.

    >>> tables_of({"rule": [{"port": 1}]}, "rule", "quiet.toml")
    [{'port': 1}]
    """
    tables = plain.get(name, [])
    if set(plain) - {name} or not isinstance(tables, list):
        raise ConfigError(f"{where}: expected [[{name}]] tables, found {', '.join(plain)}; correct it")
    return tables
