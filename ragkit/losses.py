"""No silent loss: whatever is cut, capped, dropped or skipped is reported, and somebody listens.

Parts call `report(loss)`. Callers open `collect()` around their work; what is reported inside, in
the same thread or task, arrives there. Where nobody listens, the loss is logged as a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ragkit.errors import LossError
from ragkit.types import Loss

_log = logging.getLogger(__name__)


class _Listener:
    def __init__(self, *, strict: bool) -> None:
        self.losses: list[Loss] = []
        self.strict = strict


_listener: ContextVar[_Listener | None] = ContextVar("ragkit_losses", default=None)


def report(loss: Loss) -> None:
    """Tell the innermost `collect()` about a loss.

    Raises:
        LossError: That listener is strict.
    """
    listener = _listener.get()
    if listener is None:
        _log.warning("%s", describe(loss))
        return
    listener.losses.append(loss)
    if listener.strict:
        raise LossError(f"strict=True: {describe(loss)}")


def describe(loss: Loss) -> str:
    """One line for people."""
    return f"{loss.stage}: {loss.what}: lost {loss.lost}, kept {loss.kept} ({loss.why})"


@contextmanager
def collect(*, strict: bool = False) -> Iterator[list[Loss]]:
    """Collect the losses reported inside the block.

    Args:
        strict: Raise `LossError` at the first loss.

    >>> with collect() as losses:
    ...     report(Loss("reading", "passage 7", "80 tokens", "0 tokens", "the window is full"))
    >>> losses[0].what
    'passage 7'
    """
    listener = _Listener(strict=strict)
    token = _listener.set(listener)
    try:
        yield listener.losses
    finally:
        _listener.reset(token)
