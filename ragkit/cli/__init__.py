"""The command line: parse, one library call, print."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from types import FrameType


def run() -> None:
    """Run the command line; Ctrl-C is answered from the first import on."""
    pressed = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
        _try_again(interrupt)
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_is_news)
    try:
        from ragkit.cli import main

        main.run()
    except BaseException:
        if not pressed:  # else whatever was raised: C code turns an interrupt into other errors
            raise
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    finally:
        # While Python shuts down the signal ends it, which shells show as 130, without a word.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _try_again(interrupt: Callable[[int, FrameType | None], None]) -> None:
    """Interrupt once more where Python drops an interrupt: in a destructor or a weak reference."""
    if not hasattr(signal, "setitimer"):
        return

    def dropped(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            sys.__unraisablehook__(unraisable)

    signal.signal(signal.SIGALRM, interrupt)
    sys.unraisablehook = dropped


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a log record tells of anything but an interrupt, which is told once, at the end."""
    return not (record.exc_info and isinstance(record.exc_info[1], KeyboardInterrupt))
