"""Report content that is cut, capped, dropped or skipped, so that nothing is lost silently.

Components call `report(loss)`. Callers wrap their work in `collect()`, which receives the losses
reported inside the block in the same thread or task. Outside any such block, a loss is logged as a
warning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ragkit.errors import LossError
from ragkit.types import Loss

_log = logging.getLogger(__name__)


class _Collector:
    def __init__(self, *, strict: bool) -> None:
        self.losses: list[Loss] = []
        self.strict = strict


_collector: ContextVar[_Collector | None] = ContextVar("ragkit_losses", default=None)


def report(loss: Loss) -> None:
    """Add a loss to the innermost `collect()` block.

    Raises:
        LossError: The block was opened with strict=True.
    """
    collector = _collector.get()
    if collector is None:
        _log.warning("%s", describe(loss))
        return
    collector.losses.append(loss)
    if collector.strict:
        raise LossError(f"strict=True: {describe(loss)}")


def describe(loss: Loss) -> str:
    """Format a loss as one line of text."""
    return f"{loss.stage}: {loss.what}: lost {loss.lost}, kept {loss.kept} ({loss.why})"


@contextmanager
def once() -> Iterator[None]:
    """Report each loss of the block once, at its end, however often it occurs."""
    with collect() as losses:
        yield
    for loss in dict.fromkeys(losses):
        report(loss)


@contextmanager
def collect(*, strict: bool = False) -> Iterator[list[Loss]]:
    """Collect the losses that are reported inside the block.

    Args:
        strict: Raise `LossError` at the first loss.

    >>> with collect() as losses:
    ...     report(Loss("reading", "passage 7", "80 tokens", "0 tokens", "the window is full"))
    >>> losses[0].what
    'passage 7'
    """
    collector = _Collector(strict=strict)
    token = _collector.set(collector)
    try:
        yield collector.losses
    finally:
        _collector.reset(token)
