"""Text of a keepalived configuration, written by keepalived-config.

That package is GPL-3.0, so nothing else imports it, and it is an optional extra: whoever installs `amphorad[vrrp-render]` combines the two.
The agent does without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from amphorad.errors import AmphoradError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amphorad.vrrp.pair import Directive

__all__ = ["WriterMissing", "write_text"]


class WriterMissing(AmphoradError):
    """The optional package is not installed."""


def write_text(directives: Sequence[Directive]) -> str:
    """The file.

    Raises:
        WriterMissing.
    """
    try:
        library = importlib.import_module("keepalived_config")
    except ImportError as error:
        raise WriterMissing("needs the package keepalived-config: pip install 'amphorad[vrrp-render]'") from error
    return "".join(_built(library, directive).to_str() + "\n" for directive in directives)


def _built(library: Any, directive: Directive) -> Any:
    name, words = directive[0], directive[1]
    if len(directive) == 2:
        return library.KeepAlivedConfigParam(name, words)
    block = library.KeepAlivedConfigBlock(name, words)
    for child in directive[2]:
        block.add_param(_built(library, child))
    return block
