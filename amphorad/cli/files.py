"""Reading a configuration file for the operator who named it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amphorad.dialects import haproxy
from amphorad.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_file"]


def read_file(path: Path) -> str:
    """The text of a configuration file.

    Raises:
        ConfigError: it cannot be read, is too long, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(haproxy.MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise ConfigError(error.strerror or str(error), file=str(path)) from error
    return haproxy.decode(data, file=str(path))
