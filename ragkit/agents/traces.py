"""Store agent traces (question, settings, steps, answer) in `RAGKIT_HOME/traces.db`.

Each call is a separate transaction, so steps survive a crash or kill of the process. The journal is
a WAL with `synchronous=NORMAL`: after a power failure the last steps may be missing, but the file
is intact.
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

_LIST_HINT = "`ragkit trace list` lists the runs"
INTERRUPTED = "interrupted"
"""Exit reason of an unfinished run: killed, or still running."""


# Fields that differ between equal runs. They are kept inside the arguments of tools.
_TIME_FIELDS = frozenset({"started", "finished", "seconds", "elapsed_s", "duration_s"})
_VERSION_FIELDS = frozenset({"ragkit", "versions"})


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Start of a run.

    Attributes:
        agent: Name of the agent, or path of its file.
        question: The user's question.
        settings: Everything that the outcome depends on: model, data source, seed, limits,
            permissions, digests of prompts, versions. Must not contain secrets.
        started: Start time in ISO 8601 with the offset from UTC.
    """

    agent: str
    question: str
    settings: Mapping[str, Any]
    started: str


@dataclass(frozen=True, slots=True)
class StoredStep:
    """Stored step.

    Attributes:
        index: Position in the run, from 0.
        kind: "thought", "action", "observation" or "final".
        body: Fields of the step.
    """

    index: int
    kind: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Summary of a stored run. `exit_reason` is "interrupted" for an unfinished run."""

    id: str
    agent: str
    question: str
    started: str
    exit_reason: str
    n_steps: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class StoredRun:
    """Stored run. `answer`, `usage` and `seconds` are None for an unfinished run."""

    id: str
    record: RunRecord
    steps: tuple[StoredStep, ...]
    exit_reason: str
    answer: dict[str, Any] | None
    usage: dict[str, Any] | None
    seconds: float | None


_Summaries = list[RunSummary]  # the class's `list` method shadows the built-in


class TraceStore:
    """Store of traces in a SQLite file, which several processes may write concurrently.

    Args:
        path: The file, created if it does not exist; None uses "traces.db" in
            `ragkit.models.home()`.

    Raises:
        RagkitError: The file cannot be written, is damaged, belongs to another program or was
            created by a newer ragkit.

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
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """Open a write transaction, which waits for other writers before its first read."""
        with trace_errors(self.path), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    def begin(self, record: RunRecord) -> str:
        """Store the start of a run and return its id, such as "20261121-101530-3f2a".

        The id consists of the start time in UTC and four or more hex digits.

        Raises:
            ValueError: The settings contain a secret, or `started` is not a time with an offset.
            TypeError: A setting cannot be stored as JSON.
        """
        secret = secret_in(record.settings)
        if secret:
            raise ValueError(
                f"the settings contain {secret}, which looks like a secret; expected none, since "
                "others may read traces. Pass it as an environment variable"
            )
        start = _parse_start(record.started)
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
            RagkitError: The run does not exist, is finished, or already has this step.
            TypeError: The body cannot be stored as JSON.
        """
        text = canonical_json(body)
        with self._writing() as connection:
            row = connection.execute(
                sa.select(runs.c.seq, runs.c.exit_reason).where(runs.c.id == run_id)
            ).one_or_none()
            if row is None or row.exit_reason is not None:
                raise _cannot_write(run_id, row is not None)
            step = {"run": row.seq, "number": index, "kind": kind, "body": text}
            added = connection.execute(sqlite.insert(steps).values(step).on_conflict_do_nothing())
            if not added.rowcount:
                raise RagkitError(
                    f"the run {run_id} already has a step {index}; expected the next index"
                )

    def finish(
        self,
        run_id: str,
        exit_reason: str,
        answer: Mapping[str, Any],
        usage: Mapping[str, Any],
        seconds: float,
    ) -> None:
        """Store the end of a run.

        Raises:
            RagkitError: The run does not exist or is already finished.
            TypeError: The answer or usage cannot be stored as JSON.
        """
        values = {
            "exit_reason": exit_reason,
            "answer": canonical_json(answer),
            "usage": canonical_json(usage),
            "seconds": float(seconds),
        }
        with self._writing() as connection:
            unfinished = sa.and_(is_run := runs.c.id == run_id, runs.c.exit_reason.is_(None))
            if not connection.execute(sa.update(runs).where(unfinished).values(values)).rowcount:
                seq = connection.scalar(sa.select(runs.c.seq).where(is_run))
                raise _cannot_write(run_id, seq is not None)

    def list(self, limit: int = 20, agent: str | None = None) -> _Summaries:
        """Return summaries of the latest runs, most recent first."""
        if limit < 1:
            raise ValueError(f"limit is {limit}; expected at least 1")
        count = sa.select(sa.func.count()).where(steps.c.run == runs.c.seq).scalar_subquery()
        statement = sa.select(runs, count.label("n_steps")).order_by(runs.c.seq.desc()).limit(limit)
        if agent is not None:
            statement = statement.where(runs.c.agent == canonical_json(agent))
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
                for row in connection.execute(statement)
            ]

    def show(self, run_id: str) -> StoredRun:
        """Return a run with its steps.

        Args:
            run_id: Id of the run, a unique prefix of it, or "last".

        Raises:
            RagkitError: No run or several runs match.
        """
        with trace_errors(self.path), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")  # so that run and steps are from one snapshot
            row = connection.execute(
                sa.select(runs).where(runs.c.seq == _find_run(connection, run_id))
            ).one()
            step_rows = connection.execute(
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
                    StoredStep(step.number, step.kind, self._loads(step.body, dict))
                    for step in step_rows
                ),
                row.exit_reason or INTERRUPTED,
                None if row.answer is None else self._loads(row.answer, dict),
                None if row.usage is None else self._loads(row.usage, dict),
                row.seconds,
            )

    def delete(self, run_id: str) -> None:
        """Delete a run by its complete id.

        Raises:
            RagkitError: The run does not exist.
        """
        with self._writing() as connection:
            if not connection.execute(sa.delete(runs).where(runs.c.id == run_id)).rowcount:
                raise RagkitError(f"there is no run {run_id!r} to delete; {_LIST_HINT}")

    def prune(self, *, keep: int) -> int:
        """Delete all but the latest `keep` runs and return the number of deleted runs."""
        if keep < 0:
            raise ValueError(f"keep is {keep}; expected 0 or more")
        latest = sa.select(runs.c.seq).order_by(runs.c.seq.desc()).limit(keep)
        with self._writing() as connection:
            return connection.execute(sa.delete(runs).where(runs.c.seq.not_in(latest))).rowcount

    def _loads(self, text: object, kind: type) -> Any:
        """Parse a JSON column and check the type of its value."""
        try:
            value = json.loads(str(text))
        except (ValueError, RecursionError) as error:
            raise damaged(self.path, error) from error
        if not isinstance(value, kind):
            raise damaged(self.path, f"{str(text)[:60]} is not a {kind.__name__}")
        return value


def digest(run: StoredRun) -> str:
    """Return a digest of everything that a replay must reproduce: question, settings and steps.

    Ids, program versions, times and durations are excluded, since they differ between equal runs.
    """
    return text_digest(canonical_json(_content(run)))


def compare(a: StoredRun, b: StoredRun) -> str | None:
    """Return the first difference in what `digest` covers, or None if the runs are equal.

    >>> record = RunRecord("materials", "Gap of GaAs?", {"seed": 0}, "2026-11-21T10:15:30+00:00")
    >>> one, two = (
    ...     StoredRun("x", record, (StoredStep(0, "thought", {"text": text}),), "loop", {}, {}, 1.0)
    ...     for text in ("Look it up.", "Look at it.")
    ... )
    >>> compare(one, two)
    "step 1, text: 'Look it up.' and 'Look at it.'"
    """
    content_a, content_b = _content(a), _content(b)
    for name in ("question", "settings"):
        first_difference = difference(content_a[name], content_b[name], name)
        if first_difference:
            return first_difference
    for number, (step_a, step_b) in enumerate(
        zip(content_a["steps"], content_b["steps"], strict=False), 1
    ):
        first_difference = difference(step_a, step_b, "")
        if first_difference:
            return f"step {number}, {first_difference}"
    n_steps = len(content_a["steps"]), len(content_b["steps"])
    if n_steps[0] != n_steps[1]:
        return f"step {min(n_steps) + 1}: one run has {n_steps[0]} steps, the other {n_steps[1]}"
    return None


def _content(run: StoredRun) -> dict[str, Any]:
    settings = {
        name: value for name, value in run.record.settings.items() if name not in _VERSION_FIELDS
    }
    content: dict[str, Any] = json.loads(
        canonical_json(
            {
                "question": run.record.question,
                "settings": _without_times(settings),
                "steps": [{**_without_times(step.body), "kind": step.kind} for step in run.steps],
            }
        )
    )
    return content


def _without_times(value: Any) -> Any:
    """Remove time fields recursively, except inside the arguments of tools."""
    if isinstance(value, Mapping):
        return {
            key: item if key == "arguments" else _without_times(item)
            for key, item in value.items()
            if key not in _TIME_FIELDS
        }
    return [_without_times(item) for item in value] if isinstance(value, list | tuple) else value


def _parse_start(started: str) -> datetime:
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


def _cannot_write(run_id: str, known: bool) -> RagkitError:
    if known:
        return RagkitError(f"the run {run_id} is finished; begin another run to add steps")
    return RagkitError(f"there is no run {run_id!r}; begin a run first. {_LIST_HINT}")


def _find_run(connection: sa.Connection, run_id: str) -> int:
    """Return the sequence number of the run with an id, a unique prefix of one, or "last"."""
    if run_id == "last":
        last = connection.scalar(sa.select(sa.func.max(runs.c.seq)))
        if last is None:
            raise RagkitError("there are no runs yet; `ragkit agent run` records one")
        return int(last)
    has_prefix = runs.c.id.startswith(run_id, autoescape=True)
    statement = sa.select(runs.c.seq, runs.c.id).where(has_prefix).order_by(runs.c.seq)
    is_hex = re.fullmatch("[0-9a-f-]+", run_id) is not None
    matches = connection.execute(statement).all() if is_hex else []
    exact = [seq for seq, id_ in matches if id_ == run_id]
    if exact or len(matches) == 1:
        return int(exact[0] if exact else matches[0].seq)
    if not matches:
        raise RagkitError(f"there is no run {run_id!r}; {_LIST_HINT}")
    examples = ", ".join(id_ for _, id_ in matches[:5])
    raise RagkitError(f"{run_id!r} matches {len(matches)} runs: {examples}. Give a longer prefix")
