"""Traces of agent runs in `RAGKIT_HOME/traces.db`: what was asked, every step, what came of it.

Each call is a transaction of its own, so what was added is there after a crash or a kill of the
process. The journal is a WAL with `synchronous=NORMAL`: after a power failure the last steps may be
missing, and the file is whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from ragkit.agents.canonical import canonical_json, difference, secret_in
from ragkit.agents.trace_file import damaged, open_traces, runs, steps, trace_errors
from ragkit.digests import text_digest
from ragkit.errors import RagkitError
from ragkit.models import home

_HOW_TO_LIST = "`ragkit trace list` shows what there is"
INTERRUPTED = "interrupted"
"""The exit reason of a run without an end: killed, or not at its end yet."""


# What differs between two runs that do the same. Arguments of a tool may have such names too.
_TIMES = frozenset({"started", "finished", "seconds", "elapsed_s", "duration_s"})
_VERSIONS = frozenset({"ragkit", "versions"})


@dataclass(frozen=True, slots=True)
class RunRecord:
    """How a run began.

    Attributes:
        agent: Its name, or the path of its file.
        question: As asked.
        settings: Everything that the outcome depends on: model, back end, seed, limits,
            permissions, prompts by digest, versions. No secrets.
        started: ISO 8601, with the offset from UTC.
    """

    agent: str
    question: str
    settings: Mapping[str, Any]
    started: str


@dataclass(frozen=True, slots=True)
class StoredStep:
    """A step as it was stored.

    Attributes:
        index: Counted from 0.
        kind: "thought", "action", "observation" or "final".
        body: The step's fields.
    """

    index: int
    kind: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A line of the list of runs. `exit_reason` is "interrupted" for a run without an end."""

    id: str
    agent: str
    question: str
    started: str
    exit_reason: str
    n_steps: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as it was stored; `answer`, `usage` and `seconds` are None for one without an end."""

    id: str
    record: RunRecord
    steps: tuple[StoredStep, ...]
    exit_reason: str
    answer: dict[str, Any] | None
    usage: dict[str, Any] | None
    seconds: float | None


_Summaries = list[RunSummary]  # inside the class `list` is the method


class TraceStore:
    """The traces in a file; several processes may write at once.

    Args:
        path: The file; None: "traces.db" in `ragkit.models.home()`. It is made if it is missing.

    Raises:
        RagkitError: The file cannot be written, is damaged, is another program's or was made by a
            newer ragkit.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, TraceStore(Path(folder) / "t.db") as store:
    ...     run = RunRecord("materials", "Gap of GaAs?", {"seed": 0}, "2026-11-21T10:15:30+00:00")
    ...     run_id = store.begin(run)
    ...     store.add_step(run_id, 0, "thought", {"text": "Look it up."})
    ...     run_id[:16], store.show("last").exit_reason
    ('20261121-101530-', 'interrupted')
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = home() / "traces.db" if path is None else path
        self._engine = open_traces(self.path)

    def __enter__(self) -> TraceStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction that waits for the other writers before it reads anything."""
        with trace_errors(self.path), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    def begin(self, record: RunRecord) -> str:
        """The id of a new run: its start in UTC and four hex digits, "20261121-101530-3f2a".

        Raises:
            ValueError: The settings hold a secret, or `started` is no time with an offset.
            TypeError: A setting is nothing that JSON can hold.
        """
        secret = secret_in(record.settings)
        if secret:
            raise ValueError(
                f"the settings hold {secret}, which is named like a secret; traces are read by "
                "others. Leave it out, and give it by the environment"
            )
        start = _utc(record.started)
        values = {
            "agent": canonical_json(record.agent),
            "question": canonical_json(record.question),
            "settings": canonical_json(record.settings),
            "started": record.started,
        }
        with self._writing() as connection:
            seq = (connection.scalar(sa.select(sa.func.max(runs.c.seq))) or 0) + 1
            for attempt in range(1000):
                text = canonical_json([seq, attempt, values])
                run_id = f"{start:%Y%m%d-%H%M%S}-{text_digest(text)[: 4 + attempt // 10]}"
                if not connection.scalar(sa.select(runs.c.seq).where(runs.c.id == run_id)):
                    break
            connection.execute(sa.insert(runs).values(seq=seq, id=run_id, **values))
        return run_id

    def add_step(self, run_id: str, index: int, kind: str, body: Mapping[str, Any]) -> None:
        """Add a step.

        Raises:
            RagkitError: There is no such run, it has ended, or it has this step already.
            TypeError: The body holds something that JSON cannot hold.
        """
        text = canonical_json(body)
        with self._writing() as connection:
            row = connection.execute(
                sa.select(runs.c.seq, runs.c.exit_reason).where(runs.c.id == run_id)
            ).one_or_none()
            if row is None or row.exit_reason is not None:
                raise _not_open(run_id, row is not None)
            step = {"run": row.seq, "number": index, "kind": kind, "body": text}
            added = connection.execute(sqlite.insert(steps).values(step).on_conflict_do_nothing())
            if not added.rowcount:
                raise RagkitError(
                    f"the run {run_id} has a step {index} already; expected the next number"
                )

    def finish(
        self,
        run_id: str,
        exit_reason: str,
        answer: Mapping[str, Any],
        usage: Mapping[str, Any],
        seconds: float,
    ) -> None:
        """Store how a run ended.

        Raises:
            RagkitError: There is no such run, or it has ended already.
            TypeError: The answer or usage holds something that JSON cannot hold.
        """
        values = {
            "exit_reason": exit_reason,
            "answer": canonical_json(answer),
            "usage": canonical_json(usage),
            "seconds": float(seconds),
        }
        with self._writing() as connection:
            still = sa.and_(its := runs.c.id == run_id, runs.c.exit_reason.is_(None))
            if not connection.execute(sa.update(runs).where(still).values(values)).rowcount:
                found = connection.scalar(sa.select(runs.c.seq).where(its))
                raise _not_open(run_id, found is not None)

    def list(self, limit: int = 20, agent: str | None = None) -> _Summaries:
        """The latest runs, the last one that began first."""
        if limit < 1:
            raise ValueError(f"limit is {limit}; expected at least 1")
        count = sa.select(sa.func.count()).where(steps.c.run == runs.c.seq).scalar_subquery()
        wanted = sa.select(runs, count.label("n_steps")).order_by(runs.c.seq.desc()).limit(limit)
        if agent is not None:
            wanted = wanted.where(runs.c.agent == canonical_json(agent))
        with trace_errors(self.path), self._engine.connect() as connection:
            return [
                RunSummary(
                    row.id,
                    self._loads(row.agent, str),
                    self._loads(row.question, str),
                    row.started,
                    row.exit_reason or INTERRUPTED,
                    row.n_steps,
                    row.seconds,
                )
                for row in connection.execute(wanted)
            ]

    def show(self, run_id: str) -> StoredRun:
        """A run with its steps.

        Args:
            run_id: Its id, the beginning of one that no other has, or "last".

        Raises:
            RagkitError: No run or several are meant.
        """
        with trace_errors(self.path), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")  # so that run and steps are of one moment
            row = connection.execute(
                sa.select(runs).where(runs.c.seq == _find(connection, run_id))
            ).one()
            found = connection.execute(
                sa.select(steps).where(steps.c.run == row.seq).order_by(steps.c.number)
            ).all()
            return StoredRun(
                row.id,
                RunRecord(
                    self._loads(row.agent, str),
                    self._loads(row.question, str),
                    self._loads(row.settings, dict),
                    row.started,
                ),
                tuple(
                    StoredStep(each.number, each.kind, self._loads(each.body, dict))
                    for each in found
                ),
                row.exit_reason or INTERRUPTED,
                None if row.answer is None else self._loads(row.answer, dict),
                None if row.usage is None else self._loads(row.usage, dict),
                row.seconds,
            )

    def delete(self, run_id: str) -> None:
        """Delete a run, named by its whole id.

        Raises:
            RagkitError: There is none.
        """
        with self._writing() as connection:
            if not connection.execute(sa.delete(runs).where(runs.c.id == run_id)).rowcount:
                raise RagkitError(f"there is no run {run_id!r} to delete; {_HOW_TO_LIST}")

    def prune(self, *, keep: int) -> int:
        """Delete all runs but the latest `keep`; how many were deleted."""
        if keep < 0:
            raise ValueError(f"keep is {keep}; expected 0 or more")
        kept = sa.select(runs.c.seq).order_by(runs.c.seq.desc()).limit(keep)
        with self._writing() as connection:
            return connection.execute(sa.delete(runs).where(runs.c.seq.not_in(kept))).rowcount

    def _loads(self, text: object, kind: type) -> Any:
        """The value of a column that holds JSON."""
        try:
            value = json.loads(str(text))
        except (ValueError, RecursionError) as error:
            raise damaged(self.path, error) from error
        if not isinstance(value, kind):
            raise damaged(self.path, f"{str(text)[:60]} stands where a {kind.__name__} was")
        return value


def digest(run: StoredRun) -> str:
    """Of what a replay must give again: question, settings and steps.

    Without ids, versions of programs, times and durations: those of two runs that do the same
    differ.
    """
    return text_digest(canonical_json(_content(run)))


def compare(a: StoredRun, b: StoredRun) -> str | None:
    """The first difference in what `digest` covers, or None if it is the same bytes.

    >>> record = RunRecord("materials", "Gap of GaAs?", {"seed": 0}, "2026-11-21T10:15:30+00:00")
    >>> one, two = (
    ...     StoredRun("x", record, (StoredStep(0, "thought", {"text": text}),), "loop", {}, {}, 1.0)
    ...     for text in ("Look it up.", "Look at it.")
    ... )
    >>> compare(one, two)
    "step 1, text: 'Look it up.' and 'Look at it.'"
    """
    first, second = _content(a), _content(b)
    for name in ("question", "settings"):
        found = difference(first[name], second[name], name)
        if found:
            return found
    for number, (one, two) in enumerate(zip(first["steps"], second["steps"], strict=False), 1):
        found = difference(one, two, "")
        if found:
            return f"step {number}, {found}"
    n_steps = len(first["steps"]), len(second["steps"])
    if n_steps[0] != n_steps[1]:
        return f"step {min(n_steps) + 1}: one run has {n_steps[0]} steps, the other {n_steps[1]}"
    return None


def _content(run: StoredRun) -> dict[str, Any]:
    settings = {name: value for name, value in run.record.settings.items() if name not in _VERSIONS}
    content: dict[str, Any] = json.loads(
        canonical_json(
            {
                "question": run.record.question,
                "settings": _timeless(settings),
                "steps": [{**_timeless(each.body), "kind": each.kind} for each in run.steps],
            }
        )
    )
    return content


def _timeless(value: Any) -> Any:
    """A value without times; the arguments of tools are kept whole."""
    if isinstance(value, Mapping):
        return {
            key: each if key == "arguments" else _timeless(each)
            for key, each in value.items()
            if key not in _TIMES
        }
    return [_timeless(each) for each in value] if isinstance(value, list | tuple) else value


def _utc(started: str) -> datetime:
    try:
        time = datetime.fromisoformat(started)
    except ValueError:
        time = datetime.min  # has no offset
    if time.tzinfo is None:
        raise ValueError(
            f"started is {started!r}; expected ISO 8601 with an offset, such as "
            "'2026-11-21T10:15:30+00:00'"
        )
    return time.astimezone(UTC)


def _not_open(run_id: str, known: bool) -> RagkitError:
    if known:
        return RagkitError(f"the run {run_id} has ended, and nothing is added; begin another one")
    return RagkitError(f"there is no run {run_id!r}; begin one first. {_HOW_TO_LIST}")


def _find(connection: sa.Connection, run_id: str) -> int:
    """The run that is meant by an id, the beginning of one, or "last"."""
    if run_id == "last":
        last = connection.scalar(sa.select(sa.func.max(runs.c.seq)))
        if last is None:
            raise RagkitError("there are no runs yet; `ragkit agent run` makes one")
        return int(last)
    begins = runs.c.id.startswith(run_id, autoescape=True)
    wanted = sa.select(runs.c.seq, runs.c.id).where(begins).order_by(runs.c.seq)
    known = re.fullmatch("[0-9a-f-]+", run_id) is not None
    found = connection.execute(wanted).all() if known else []
    exact = [seq for seq, each in found if each == run_id]
    if exact or len(found) == 1:
        return int(exact[0] if exact else found[0].seq)
    if not found:
        raise RagkitError(f"there is no run {run_id!r}; {_HOW_TO_LIST}")
    some = ", ".join(each for _, each in found[:5])
    raise RagkitError(f"{run_id!r} begins {len(found)} runs: {some}. Give more of the id")
