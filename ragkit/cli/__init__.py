"""Command line interface: each command parses, calls the library, and prints."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from types import FrameType


def run() -> None:
    """Run the command line; Ctrl-C is handled from the first import on."""
    pressed = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
        _repeat_dropped_interrupts(interrupt)
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_is_not_interrupt)
    try:
        from ragkit.cli import main

        main.run()
    except BaseException:
        if not pressed:  # after an interrupt any error may follow, since C code converts it
            raise
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    finally:
        # During shutdown the signal ends the process silently; shells show exit code 130.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _repeat_dropped_interrupts(interrupt: Callable[[int, FrameType | None], None]) -> None:
    """Repeat interrupts that Python drops in destructors and weak reference callbacks."""
    if not hasattr(signal, "setitimer"):
        return

    def dropped(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            sys.__unraisablehook__(unraisable)

    signal.signal(signal.SIGALRM, interrupt)
    sys.unraisablehook = dropped


def _is_not_interrupt(record: logging.LogRecord) -> bool:
    """Return False for log records of an interrupt, which is reported once at the end."""
    return not (record.exc_info and isinstance(record.exc_info[1], KeyboardInterrupt))
