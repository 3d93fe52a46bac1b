"""The command line; see `amphorad.cli`."""

from __future__ import annotations

import sys

from amphorad.cli.commands import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
