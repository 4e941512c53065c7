"""The command line: parse, one library call, print."""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command line; Ctrl-C is answered from the first import on."""
    try:
        from ragkit.cli import main

        main.run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
