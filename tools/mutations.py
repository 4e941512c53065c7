"""Do the tests notice a mistake? `python tools/mutations.py` makes 30, one at a time, and sees.

Each mutant is a slip that a programmer could make, three for each of ten invariants of ragkit. They
were chosen from the sources and the documentation, without looking at the tests. A mutant is caught
if `make test` fails with it. All are applied to copies; the working tree is never changed.

A mutant names the text that it replaces. When that text is changed, `--check` says so, and the slip
has to be found again in the new source.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIRED = 28
LIMIT_S = 600.0  # of the tests of one mutant; make test takes a few minutes
PYTEST = (
    *(sys.executable, "-m", "pytest", "-q", "-x", "-n", "2", "--dist", "loadgroup"),
    *("-m", "not faults and not models", "-p", "no:cacheprovider"),
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A slip in one file.

    Attributes:
        invariant: What it breaks.
        file: File, relative to the root of the repository.
        old: Text that is replaced; it occurs exactly once in the file.
        new: Text in its place.
        why: The slip, in words.
    """

    invariant: str
    file: str
    old: str
    new: str
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the tests say to a mutant, or to none.

    Attributes:
        caught: True if a test failed, or if the tests did not end in time.
        by: The failed test, "time-out", or "".
        seconds: Duration of the tests.
    """

    caught: bool
    by: str
    seconds: float


MUTANTS = (
    Mutant(
        "offsets",
        "ragkit/chunking/chunker.py",
        "return Chunk(chunk_id, document.id, document.text[start:end], start, end, metadata)",
        'text = " ".join(document.text[start:end].split())\n'
        "    return Chunk(chunk_id, document.id, text, start, end, metadata)",
        "a chunk's white space is tidied, so it is no slice of its document",
    ),
    Mutant(
        "offsets",
        "ragkit/chunking/chunker.py",
        "is_sentence=False)\n            start = _lstrip_start(text, cut, end)",
        "is_sentence=False)\n            start = _lstrip_start(text, cut + 1, end)",
        "the next part of a long sentence begins one character late, and that character is lost",
    ),
    Mutant(
        "offsets",
        "ragkit/collection/ingest.py",
        "end=chunk.end,",
        "end=chunk.start + len(chunk.text.encode()),",
        "the stored end counts bytes instead of code points",
    ),
    Mutant(
        "ties",
        "ragkit/indexes/ranking.py",
        "order = np.lexsort((rows, -rounded))[:k]",
        "order = np.argsort(rounded)[::-1][:k]",
        "an ascending sort turned round puts the higher row of a tie first",
    ),
    Mutant(
        "ties",
        "ragkit/collection/snapshot.py",
        "key=lambda match: (-match.score, ids[match.number]))[:k] for pool in top",
        "key=lambda match: (-match.score, match.number))[:k] for pool in top",
        "ties between segments go by the chunk's number, which depends on the order of adding",
    ),
    Mutant(
        "ties",
        "ragkit/retrievers/hybrid.py",
        "return sorted(hits, key=lambda hit: (-hit.score, hit.chunk.id))[:k]",
        "return sorted(hits, key=lambda hit: -hit.score)[:k]",
        "fused ties go by the order of the retrievers instead of by id",
    ),
    Mutant(
        "commit",
        "ragkit/collection/ingest.py",
        "        segment = self._staged.write(self._context) if len(self._staged) else None\n"
        "        if self._uncommitted:\n"
        "            self.generation = self._store.commit_generation("
        "self._job, segment, self._finished)\n",
        "        if self._uncommitted:\n"
        "            self.generation = self._store.commit_generation("
        "self._job, None, self._finished)\n"
        "            if len(self._staged):\n"
        "                new = [self._staged.write(self._context)]\n"
        "                self.generation = self._store.replace_segments([], new, dropped=())\n",
        "the documents are committed before their segment is written, which gets its own commit",
    ),
    Mutant(
        "commit",
        "ragkit/store/store.py",
        "sa.update(documents).where(earlier).values(died=generation)",
        "sa.update(documents).where(earlier).values(died=generation - 1)",
        "a replaced version dies a generation early, for readers that still search that one",
    ),
    Mutant(
        "commit",
        "ragkit/store/store.py",
        "    staged = condition & documents.c.born.is_(None)\n",
        "    staged = condition\n",
        "staging a new version deletes the live one before the commit",
    ),
    Mutant(
        "filter",
        "ragkit/collection/snapshot.py",
        "key = repr(filters.to_sql(where))",
        "key = filters.to_sql(where)[0]",
        "filters are cached by their SQL without its values: another year finds the first year",
    ),
    Mutant(
        "filter",
        "ragkit/indexes/bm25.py",
        "            if allowed is not None:\n"
        "                totals[~allowed] = 0.0\n"
        "            matches = np.flatnonzero(totals >= 0.5e-6)\n"
        "            best = best_rows(totals[matches], matches, k)\n",
        "            matches = np.flatnonzero(totals >= 0.5e-6)\n"
        "            best = best_rows(totals[matches], matches, k)\n"
        "            if allowed is not None:\n"
        "                best = best[0][allowed[best[1]]], best[1][allowed[best[1]]]\n",
        "the filter is applied to the k best rows, of which fewer than k then remain",
    ),
    Mutant(
        "filter",
        "ragkit/store/filters.py",
        'return f"IFNULL({self._operator_sql(field, str(operator), value)}, 0)"',
        "return self._operator_sql(field, str(operator), value)",
        "a condition on a missing field is NULL in SQL, and so is its negation",
    ),
    Mutant(
        "ledger",
        "ragkit/collection/context.py",
        "return bytes.fromhex(text_digest(indexed_text(title, text, table)))",
        "return bytes.fromhex(text_digest(text))",
        "the key leaves out the title, so two documents share the vector of an equal chunk",
    ),
    Mutant(
        "ledger",
        "ragkit/store/store.py",
        "ledger.c.fingerprint == fingerprint, ledger.c.role == role, ledger.c.key.in_(batch)\n",
        "ledger.c.role == role, ledger.c.key.in_(batch)\n",
        "the rows of another embedder's vectors are returned",
    ),
    Mutant(
        "ledger",
        "ragkit/store/store.py",
        "str(last.row + 1)",
        "str(last.row)",
        "the next vectors overwrite the last one, whose key stays",
    ),
    Mutant(
        "citations",
        "ragkit/readers/citations.py",
        "start=chunk.start + start,\n        end=chunk.start + end,",
        "start=start,\n        end=end,",
        "the offsets of a citation count from the chunk instead of the document",
    ),
    Mutant(
        "citations",
        "ragkit/readers/verification.py",
        "if citation.digest and text_digest(document.text) != citation.digest:",
        "if not matches and citation.digest and text_digest(document.text) != citation.digest:",
        "a changed document is not stale while the quote still stands at its place",
    ),
    Mutant(
        "citations",
        "ragkit/readers/assemble.py",
        "numbers.append(self._citations.index(citation) + 1)",
        "numbers.append(len(self._citations))",
        "a source that is cited again gets the number of the newest citation",
    ),
    Mutant(
        "grammar",
        "ragkit/llms/constrain.py",
        'node.get("patternProperties"):\n        return closed\n',
        'node.get("patternProperties"):\n        return node\n',
        "an object with named properties may also get others",
    ),
    Mutant(
        "grammar",
        "ragkit/llms/generating.py",
        "return np.where(allowed, logits, np.float32(-np.inf))",
        "return logits * allowed",
        "a forbidden token gets logit 0 instead of minus infinity",
    ),
    Mutant(
        "grammar",
        "ragkit/llms/search.py",
        "        state = constraint.advance(state, token)\n        if state is None:\n",
        "        if constraint.advance(state, token) is None:\n",
        "the prefix is checked, but the search starts at the state before it",
    ),
    Mutant(
        "units",
        "ragkit/agents/units.py",
        'units.Quantity(1, "planck_constant"),',
        'units.Quantity(1, "hbar"),',
        "frequencies become energies by h-bar instead of h: 2 pi too small",
    ),
    Mutant(
        "units",
        "ragkit/agents/units.py",
        "if source.dimensionality != target.dimensionality "
        "or angle_power(source) != angle_power(target):",
        "if source.dimensionality != target.dimensionality:",
        "hertz and radians per second convert into each other, 2 pi off",
    ),
    Mutant(
        "units",
        "ragkit/agents/calculator.py",
        "values.append((row, convert(_float_value(quantity), quantity.unit, unit)))",
        "values.append((row, convert(_float_value(quantity), unit, quantity.unit)))",
        "rows of another unit are converted the wrong way round",
    ),
    Mutant(
        "permission",
        "ragkit/agents/react.py",
        "return approve is not None and approve(tool, action.arguments, copied)",
        "return approve is None or approve(tool, action.arguments, copied)",
        "with nobody to ask, a call that must be approved runs",
    ),
    Mutant(
        "permission",
        "ragkit/agents/react.py",
        "(candidate for candidate in self.offered if candidate.name == action.tool), None",
        "(candidate for candidate in self.agent.tools if candidate.name == action.tool), None",
        "a denied tool is not offered, but a planner that names it reaches it",
    ),
    Mutant(
        "permission",
        "ragkit/agents/observations.py",
        "for i in range(len(part) - _COPY_CHARS + 1)",
        "for i in range(len(part) - _COPY_CHARS)",
        "an argument that ends with the twelve copied characters does not count as copied",
    ),
    Mutant(
        "budget",
        "ragkit/readers/long_context.py",
        "available = llm.context_window - answer_tokens",
        "available = llm.context_window",
        "the prompt may fill the window and leave no room for the answer",
    ),
    Mutant(
        "budget",
        "ragkit/agents/react.py",
        "max_tokens=min(limits.step_tokens, n_left),",
        "max_tokens=limits.step_tokens,",
        "the last step may take more tokens than the run has left",
    ),
    Mutant(
        "budget",
        "ragkit/embedders/tokenizer.py",
        "[*ids[: max_tokens - 1], ids[-1]]",
        "[*ids[:max_tokens], ids[-1]]",
        "a truncated text has one token more than the model reads",
    ),
)


def find_faults(folder: Path) -> list[str]:
    """Return a line for each mutant that cannot be applied, or that is no valid Python."""
    faults = []
    for number, mutant in enumerate(MUTANTS, start=1):
        path = folder / mutant.file
        text = path.read_text("utf-8") if path.is_file() else ""
        n_found = text.count(mutant.old)
        if n_found != 1:
            faults.append(f"{number}: {mutant.file} has {n_found} times {mutant.old!r}")
            continue
        try:
            ast.parse(text.replace(mutant.old, mutant.new))
        except SyntaxError as error:
            faults.append(f"{number}: {mutant.file} is no Python after it: {error}")
    return faults


def apply_mutant(folder: Path, mutant: Mutant) -> None:
    """Change the mutant's file in a copy."""
    path = folder / mutant.file
    path.write_text(path.read_text("utf-8").replace(mutant.old, mutant.new), "utf-8")


def copy_working_tree(target: Path) -> None:
    """Copy the files that git tracks, and new ones that it does not ignore, as they are now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, names.split("\0")):
        if not os.path.lexists(ROOT / name):
            continue  # deleted, and the deletion not committed
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


def plan_stages(folder: Path, file: str) -> Iterator[list[str]]:
    """Yield pytest's arguments for tests near the file, for those further away, and for the rest.

    Near are the test files that name its module, then those that name the module's last part, then
    those that name its package. Together the stages are all tests, whatever the order.
    """
    module = file.removesuffix(".py").replace("/", ".")
    package, _, last_part = module.rpartition(".")
    texts = {
        str(path.relative_to(folder)): path.read_text("utf-8")
        for path in sorted((folder / "tests").rglob("test_*.py"))
    }
    own = [file]  # its examples
    done: list[str] = []
    for name in (module, last_part, package):
        word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
        near = [path for path, text in texts.items() if path not in done and word.search(text)]
        if near:
            yield [*own, *near]
            done += [*own, *near]
            own = []
    yield [f"--ignore={path}" for path in done]


def run_tests(folder: Path, stages: Iterator[list[str]]) -> Verdict:
    """Run the stages until a test fails or the time is over."""
    start = time.monotonic()
    for arguments in stages:
        remaining = LIMIT_S - (time.monotonic() - start)
        try:
            failed = _first_failure(folder, arguments, remaining)
        except subprocess.TimeoutExpired:
            return Verdict(True, "time-out", time.monotonic() - start)
        if failed:
            return Verdict(True, failed, time.monotonic() - start)
    return Verdict(False, "", time.monotonic() - start)


def _first_failure(folder: Path, arguments: Sequence[str], limit_s: float) -> str:
    """Return the test that fails, or "".

    Raises:
        TimeoutExpired: The tests did not end in time; they have been killed.
        RuntimeError: pytest did not run the tests, which says nothing about the mutant.
    """
    code, output = _run([*PYTEST, *arguments], folder, limit_s)
    if code in (0, 5):  # 5: no tests, all of these are of another tier
        return ""
    summary = output.rpartition("short test summary info")[2]
    failed = re.search(r"^(?:FAILED|ERROR) (\S+\.py.*?)(?: - .*)?$", summary, re.MULTILINE)
    if code not in (1, 2) or failed is None:
        raise RuntimeError(f"pytest ended with {code}, without a failed test:\n{output[-1000:]}")
    return failed[1]


def _run(command: Sequence[str], folder: Path, limit_s: float) -> tuple[int, str]:
    """Run a command in a copy; return its exit code and output, or kill it if it takes too long."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(folder),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that the workers can be killed with it
        )
        try:
            code = process.wait(max(limit_s, 0))
        except BaseException:  # the time is over, or Ctrl-C
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        output.seek(0)
        return code, output.read()


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of `make test`, with the copy's ragkit before the installed one."""
    data = {"RAGKIT_DATA": str(ROOT.parent / "shared" / "data")}
    inherited = {name: text for name, text in os.environ.items() if name != "RAGKIT_HYPOTHESIS"}
    return data | inherited | {"PYTHONPATH": str(folder), "RAGKIT_OFFLINE": "1"}


def _check_import(folder: Path) -> None:
    _, output = _run([sys.executable, "-c", "import ragkit; print(ragkit.__file__)"], folder, 60)
    if not output.startswith(str(folder)):
        raise RuntimeError(f"the tests of {str(folder)!r} would import {output.strip()}")


def run_mutants(work: Path, numbers: Sequence[int], report: list[dict[str, object]]) -> None:
    """Test mutants in copies of `work / "clean"`; print a row for each and add it to the report."""
    for number in numbers:
        mutant = MUTANTS[number - 1]
        folder = work / f"mutant{number}"
        shutil.copytree(work / "clean", folder, symlinks=True)
        apply_mutant(folder, mutant)
        verdict = run_tests(folder, plan_stages(folder, mutant.file))
        shutil.rmtree(folder)
        report.append({"number": number} | asdict(mutant) | asdict(verdict))
        state = "caught" if verdict.caught else "SURVIVED"
        place = mutant.file.removeprefix("ragkit/")
        _say(
            f"{number:2}  {mutant.invariant:10}  {place:26}  {state:8}  {verdict.seconds:4.0f} s  "
            f"{verdict.by or mutant.why}"
        )


def _run_baseline(work: Path) -> int:
    verdict = run_tests(work / "clean", iter([[]]))
    result = f"fails: {verdict.by}" if verdict.caught else "passes"
    _say(f"without a mutant the run {result} ({verdict.seconds:.0f} s)")
    return int(verdict.caught)


def _run_selection(work: Path, numbers: Sequence[int], file: Path | None) -> int:
    report: list[dict[str, object]] = []
    code = 0
    try:
        run_mutants(work, numbers, report)
    except KeyboardInterrupt:
        _say("interrupted")
        code = 130
    except RuntimeError as error:
        _say(f"{len(report) + 1} of {len(numbers)}: {error}")
        code = 2
    n_caught = sum(row["caught"] is True for row in report)
    n_late = sum(row["by"] == "time-out" for row in report)
    late = f", {n_late} by time-out" if n_late else ""
    _say(f"caught {n_caught} of {len(report)}{late}")
    if file is not None:
        file.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    required = REQUIRED if len(numbers) == len(MUTANTS) else len(numbers)
    return code or int(n_caught < required)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Make 30 mistakes, one at a time, and see if the tests notice.",
        epilog=f"Exit code 1: fewer than {REQUIRED} are caught, or not all of a selection.",
    )
    names = list(dict.fromkeys(mutant.invariant for mutant in MUTANTS))
    parser.add_argument("--only", nargs="+", type=int, metavar="N", help="mutants by number")
    parser.add_argument("--invariant", choices=names, help="the three mutants of one invariant")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to a file")
    parser.add_argument("--check", action="store_true", help="only check that all can be applied")
    parser.add_argument("--baseline", action="store_true", help="only run the tests without one")
    arguments = parser.parse_args()
    if not {*(arguments.only or ())} <= {*range(1, len(MUTANTS) + 1)}:
        parser.error(f"--only takes numbers from 1 to {len(MUTANTS)}")
    return arguments


def _select(arguments: argparse.Namespace) -> list[int]:
    return [
        number
        for number, mutant in enumerate(MUTANTS, start=1)
        if number in (arguments.only or [number])
        and mutant.invariant == (arguments.invariant or mutant.invariant)
    ]


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = _parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # removes the copies, as Ctrl-C does
    with tempfile.TemporaryDirectory(prefix="ragkit-mutations-") as name:
        clean = Path(name).resolve() / "clean"
        copy_working_tree(clean)
        faults = find_faults(clean)
        if faults or arguments.check:
            _say("\n".join(faults) or f"all {len(MUTANTS)} mutants can be applied")
            return 2 if faults else 0
        _check_import(clean)
        if arguments.baseline:
            return _run_baseline(clean.parent)
        return _run_selection(clean.parent, _select(arguments), arguments.json)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except RuntimeError as error:
        sys.exit(str(error))
