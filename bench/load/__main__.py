"""`python -m bench.load` is `python -m bench.locust_run`."""

from __future__ import annotations

import sys

from bench.locust_run import main

if __name__ == "__main__":
    sys.exit(main())
