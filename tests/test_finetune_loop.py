"""A run that was stopped, however, ends like one that was not; what cannot go on says so."""

from __future__ import annotations

import itertools
import json
import math
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fault_helpers import DIED, in_child, on_every_step, temporary_folder
from hypothesis import example, given
from hypothesis import strategies as st
from properties import examples

from ragkit.digests import text_digest
from ragkit.errors import CollectionError, FormatMismatch, Locked, ModelError, RagkitError
from ragkit.finetune.checkpoints import read_checkpoint
from ragkit.finetune.loop import Task, TrainOptions, train

torch = pytest.importorskip("torch")

N_BATCHES = 5  # an epoch
BATCH_TOKENS = 10
N_STEPS = 12  # of a whole run
WHOLE = TrainOptions(
    max_tokens=N_STEPS * BATCH_TOKENS,
    learning_rate=0.05,
    warmup_tokens=30,
    evaluate_tokens=3 * BATCH_TOKENS,
    patience=100,
    checkpoint_seconds=0,
    seed=7,
)
NEVER = math.inf  # seconds until a checkpoint
FILES = ("state.json", "parameters.safetensors", "optimizer.safetensors")


@dataclass(frozen=True)
class Points:
    """A batch: numbers drawn with a seed."""

    seed: int
    n_tokens: int = BATCH_TOKENS
    n_targets: int = 4

    def drawn(self):
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn((self.n_targets, 3), generator=generator)


class Toy:
    """Regression with dropout, so that the random state matters."""

    def __init__(self, recipe="toy"):
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn((3, 2), generator=generator).requires_grad_()
        self.bias = torch.zeros(2, requires_grad=True)
        self.unused = torch.ones(2, requires_grad=True)
        self.kept = []
        self.task = Task(
            parameters={"weight": self.weight, "bias": self.bias, "unused": self.unused},
            batches=lambda epoch: (Points(100 * epoch + i) for i in range(N_BATCHES)),
            loss=lambda batch: self.loss(batch, 0.5),
            recipe={"what": recipe},
            evaluate=self.evaluate,
            save=lambda: self.kept.append(self.numbers()),
        )

    def loss(self, batch, dropout):
        x = batch.drawn()
        y = torch.stack([x.sum(1), x[:, 0]], dim=1)
        dropped = torch.nn.functional.dropout(x, dropout)
        return ((dropped @ self.weight + self.bias - y) ** 2).sum()

    def evaluate(self):
        with torch.inference_mode():
            return float(self.loss(Points(1), 0.0))

    def numbers(self):
        """Every bit of the parameters."""
        tensors = (self.weight, self.bias, self.unused)
        return [each.detach().numpy().tobytes().hex() for each in tensors]


def said(report):
    return replace(report, seconds=0.0)


def whole_run(options=WHOLE):
    toy = Toy()
    with temporary_folder() as folder:
        return said(train(toy.task, folder, options)), toy.numbers(), toy.kept[-1]


def run_until(folder, stop, options=WHOLE, error=KeyboardInterrupt):
    """A new process's run, as far as parameters go, which is interrupted after so many tokens."""

    def on_progress(now):
        if now.tokens >= stop * BATCH_TOKENS:
            raise error

    with pytest.raises(error):
        train(Toy().task, folder, options, on_progress=on_progress)


@given(
    stops=st.lists(
        st.tuples(
            st.integers(1, N_STEPS),
            st.sampled_from([0.0, NEVER]),
            st.sampled_from([KeyboardInterrupt, RuntimeError]),
        ),
        max_size=3,
    ),
    evaluate_tokens=st.sampled_from([1, 3 * BATCH_TOKENS, 10**6]),
)
@example(stops=[(N_BATCHES, 0.0, KeyboardInterrupt)], evaluate_tokens=1)  # an epoch's end
@example(stops=[(N_BATCHES + 1, 0.0, KeyboardInterrupt)], evaluate_tokens=1)
@examples(25, few=8)
@pytest.mark.models
def test_run_when_stopped_anywhere_and_called_again_ends_with_the_same_bits(stops, evaluate_tokens):
    options = replace(WHOLE, evaluate_tokens=evaluate_tokens)
    expected, numbers, kept = whole_run(options)
    with temporary_folder() as folder:
        for stop, seconds, error in stops:
            run_until(folder, stop, replace(options, checkpoint_seconds=seconds), error)
        toy = Toy()
        assert said(train(toy.task, folder, options)) == expected
        assert toy.numbers() == numbers
        assert not toy.kept or toy.kept[-1] == kept


def test_run_when_it_has_ended_returns_its_report_and_parameters_again(tmp_path):
    first, again = Toy(), Toy()
    report = train(first.task, tmp_path, WHOLE)
    assert train(again.task, tmp_path, WHOLE) == report
    assert again.numbers() == first.numbers()
    assert again.kept == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-12", "lock"]


def trained_in_child(folder):
    """What a process says of the run; for processes in which nothing was differentiated yet."""

    def work():
        toy = Toy()
        train(toy.task, folder, replace(WHOLE, max_tokens=3 * BATCH_TOKENS))
        return text_digest(json.dumps(toy.numbers()))

    status, digest = in_child(work)
    assert status == 0, digest
    return digest


def killed_in_child(folder, n):
    """Train in a process that kills itself at its n-th durable step; whether it came to that."""

    def work():
        left = [n]

        def act(name):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        on_every_step(act)
        train(Toy().task, folder, replace(WHOLE, max_tokens=3 * BATCH_TOKENS))

    status, text = in_child(work)
    assert status in (0, -signal.SIGKILL), text
    return status != 0


def kill_at_each(first, apart):
    """What a process of its own does: torch's threads do not outlive a fork."""
    torch.set_num_threads(1)
    weight = torch.zeros(1, requires_grad=True)  # what torch imports late, it imports once
    weight.grad = torch.zeros(1)
    torch.optim.AdamW([weight]).step()
    with temporary_folder() as folder:
        expected = trained_in_child(folder / "whole")
        n = first
        while killed_in_child(folder / f"killed{n}", n):
            assert trained_in_child(folder / f"killed{n}") == expected, n
            names = {path.name for path in (folder / f"killed{n}").iterdir()}
            assert names == {"checkpoint-3", "lock"}, n
            n += apart
        assert n > 30  # three checkpoints of a dozen steps
    sys.exit(DIED)


@pytest.mark.models
@pytest.mark.parametrize("apart", [7, 1])
def test_run_when_killed_at_a_durable_step_ends_with_the_same_bits_and_leaves_nothing(apart):
    first = 1 + random.SystemRandom().randrange(apart)
    command = f"import test_finetune_loop as tests; tests.kill_at_each({first}, {apart})"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert done.returncode == DIED, (first, done.stderr)


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("another", WHOLE),
        ("toy", replace(WHOLE, learning_rate=0.04)),
        ("toy", replace(WHOLE, seed=8)),
        ("toy", replace(WHOLE, label_smoothing=0.1)),
    ],
)
def test_run_when_the_folder_holds_one_with_other_settings_is_refused(tmp_path, recipe, options):
    run_until(tmp_path, 4)
    toy = Toy(recipe)
    with pytest.raises(ModelError, match=r"other settings or data.*another folder"):
        train(toy.task, tmp_path, options)
    assert toy.numbers() == Toy().numbers()


def test_run_when_another_is_under_way_in_its_folder_is_refused(tmp_path):
    def on_progress(now):
        with pytest.raises(Locked, match="another process trains"):
            train(Toy().task, tmp_path, WHOLE)

    train(Toy().task, tmp_path, WHOLE, on_progress=on_progress)


def test_run_when_the_budget_is_raised_goes_on_from_where_it_ended(tmp_path):
    seen = []
    train(Toy().task, tmp_path, WHOLE)
    more = replace(WHOLE, max_tokens=2 * WHOLE.max_tokens)
    report = train(Toy().task, tmp_path, more, on_progress=lambda now: seen.append(now.tokens))
    assert seen == list(range(WHOLE.max_tokens + BATCH_TOKENS, more.max_tokens + 1, BATCH_TOKENS))
    assert (report.steps, report.tokens) == (2 * N_STEPS, more.max_tokens)
    assert report.stopped == "budget"


def test_run_when_the_budget_is_lowered_below_its_end_changes_nothing(tmp_path):
    report = train(Toy().task, tmp_path, WHOLE)
    assert train(Toy().task, tmp_path, replace(WHOLE, max_tokens=1)) == report


def scripted(losses):
    """A toy whose development losses are these."""
    toy, left = Toy(), list(losses)
    toy.task = replace(toy.task, evaluate=lambda: left.pop(0))
    return toy


def test_run_when_the_development_loss_no_longer_falls_stops_and_keeps_the_best(tmp_path):
    toy = scripted([3.0, 2.0, 2.0, 2.5])
    report = train(toy.task, tmp_path, replace(WHOLE, evaluate_tokens=1, patience=2))
    assert report.stopped == "patience"
    assert report.evaluations == ((10, 3.0), (20, 2.0), (30, 2.0), (40, 2.5))
    assert (report.best, report.steps, len(toy.kept)) == (2.0, 4, 2)


def test_run_when_patience_is_raised_after_it_ran_out_goes_on(tmp_path):
    options = replace(WHOLE, evaluate_tokens=1, patience=1)
    assert train(scripted([2.0, 3.0]).task, tmp_path, options).stopped == "patience"
    toy = scripted([1.0, 1.5, 1.6])
    report = train(toy.task, tmp_path, replace(options, patience=2))
    assert report.stopped == "patience"
    assert [loss for _, loss in report.evaluations] == [2.0, 3.0, 1.0, 1.5, 1.6]


def test_run_when_there_is_nothing_to_evaluate_keeps_what_it_ends_with(tmp_path):
    toy = Toy()
    toy.task = replace(toy.task, evaluate=None)
    report = train(toy.task, tmp_path, WHOLE)
    assert toy.kept == [toy.numbers()]
    assert (report.evaluations, report.best, report.stopped) == ((), None, "budget")


def test_run_leaves_the_callers_random_numbers_alone(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train(Toy().task, tmp_path, WHOLE)
    assert torch.equal(torch.rand(2), expected)


def test_each_step_moves_by_the_rate_of_its_tokens(tmp_path):
    # AdamW moves a parameter whose gradient never changes by exactly the rate.
    weight = torch.zeros((), requires_grad=True)
    task = Task({"w": weight}, lambda epoch: [Points(0, n_targets=1)], lambda _: weight, {})
    options = replace(WHOLE, warmup_tokens=35, decay_share=0.5)
    seen = [0.0]
    train(task, tmp_path, options, on_progress=lambda now: seen.append(-weight.item()))
    moved = [b - a for a, b in itertools.pairwise(seen)]
    rising = [0.05 * (n + 1) / 35 for n in (0, 10, 20, 30)]
    falling = [0.05 * left / 60 for left in (50, 40, 30, 20, 10)]
    assert moved == pytest.approx([*rising, 0.05, 0.05, 0.05, *falling], abs=1e-6)


@given(
    tokens=st.integers(0, 2000),
    warmup=st.integers(0, 2000),
    share=st.floats(0, 1),
    budget=st.integers(1, 1000),
)
def test_rate_is_never_below_zero_nor_above_the_learning_rate(tokens, warmup, share, budget):
    options = TrainOptions(budget, learning_rate=0.1, warmup_tokens=warmup, decay_share=share)
    assert 0 <= options.rate(tokens) <= 0.1
    assert options.rate(budget) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"batch_tokens": 0},
        {"evaluate_tokens": 0},
        {"patience": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"decay_share": 1.5},
        {"warmup_tokens": -1},
        {"weight_decay": -0.1},
        {"clip": 0.0},
        {"clip": -1.0},
        {"label_smoothing": 1.0},
        {"checkpoint_seconds": math.nan},
        {"seed": -1},
    ],
)
def test_options_when_out_of_range_say_which(wrong):
    [name] = wrong
    with pytest.raises(ValueError, match=f"{name}.*expected"):
        TrainOptions(**wrong)


def poisoned(where, at):
    """A toy in which a number is none from the step on."""
    toy = Toy()
    steps = []

    def loss(batch):
        steps.append(batch)
        value = toy.loss(batch, 0.0)
        if len(steps) < at:
            return value
        # The root's derivative at 0 is infinite and its value is not.
        return value * math.nan if where == "loss" else value + (toy.bias * 0).abs().sqrt().sum()

    def evaluate():
        return math.nan if len(steps) >= at and where == "development loss" else 1.0

    safe = where == "development loss"
    toy.task = replace(toy.task, loss=toy.task.loss if safe else loss, evaluate=evaluate)
    if safe:
        toy.task = replace(toy.task, loss=lambda batch: steps.append(0) or toy.loss(batch, 0.0))
    return toy


@pytest.mark.parametrize("where", ["loss", "norm of the gradient", "development loss"])
def test_run_when_a_number_is_none_stops_before_it_is_learned_or_written(tmp_path, where):
    toy = poisoned(where, 4)
    with pytest.raises(ModelError, match=f"the {where} is nan at step [34]; lower learning_rate"):
        train(toy.task, tmp_path, replace(WHOLE, evaluate_tokens=1))
    assert all(each.isfinite().all() for each in toy.task.parameters.values())
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.state["state"]["step"] == 3


def test_run_when_an_epoch_is_empty_or_nothing_is_trained_says_so(tmp_path):
    task = replace(Toy().task, batches=lambda epoch: [])
    with pytest.raises(ValueError, match="has no batches"):
        train(task, tmp_path, WHOLE)
    with pytest.raises(ValueError, match="no parameters"):
        train(replace(task, parameters={}), tmp_path, WHOLE)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run's folder with its latest checkpoint."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    run_until(folder, 6)
    return folder


def checkpoint_of(folder):
    [checkpoint] = folder.glob("checkpoint-*")
    return checkpoint


def edited(change):
    def damage(file):
        state = json.loads(file.read_text())
        change(state)
        file.write_text(json.dumps(state))

    return damage


def tensors_edited(change):
    def damage(file):
        from safetensors.torch import load, save

        tensors = load(file.read_bytes())
        change(tensors)
        file.write_bytes(save(tensors))

    return damage


def made_a_folder(file):
    file.unlink()
    file.mkdir()


def made_a_pipe(file):
    file.unlink()
    os.mkfifo(file)


def unknown_name(tensors):
    tensors["exp_avg:nobody"] = tensors["exp_avg:weight"].clone()


DAMAGES = [
    *[(name, Path.unlink) for name in FILES],
    *[(name, lambda file: file.write_bytes(b"")) for name in FILES],
    *[(name, lambda file: file.write_bytes(file.read_bytes()[:-1])) for name in FILES],
    *[(name, lambda file: file.write_bytes(file.read_bytes()[:20])) for name in FILES],
    *[(name, lambda file: file.write_bytes(b"\x80\x04K\x01.")) for name in FILES],  # a pickle
    *[(name, made_a_folder) for name in FILES],
    *[(name, made_a_pipe) for name in FILES],
    ("state.json", lambda file: file.write_text("[]")),
    ("state.json", lambda file: file.write_text("{}")),
    ("state.json", lambda file: file.write_text("[" * 200_000)),
    ("state.json", lambda file: file.write_bytes(b"\xff\xfe{")),
    ("state.json", edited(lambda state: state.pop("recipe"))),
    ("state.json", edited(lambda state: state.pop("state"))),
    ("state.json", edited(lambda state: state.update(state=[1]))),
    ("state.json", edited(lambda state: state["state"].update(tokens="many"))),
    ("state.json", edited(lambda state: state["state"].update(step=None))),
    ("state.json", edited(lambda state: state["state"].update(step=math.inf))),
    ("state.json", edited(lambda state: state["state"].update(evaluations=[1]))),
    ("state.json", edited(lambda state: state["state"].update(foreign=1))),
    ("parameters.safetensors", tensors_edited(lambda each: each.pop("bias"))),
    ("parameters.safetensors", tensors_edited(lambda each: each.update(bias=torch.ones(3)))),
    ("optimizer.safetensors", tensors_edited(lambda each: each.clear())),
    ("optimizer.safetensors", tensors_edited(lambda each: each.pop("random"))),
    ("optimizer.safetensors", tensors_edited(lambda each: each.update(random=torch.ones(3)))),
    ("optimizer.safetensors", tensors_edited(lambda each: each.pop("exp_avg:bias"))),
    (
        "optimizer.safetensors",
        tensors_edited(lambda each: each.update({"exp_avg:bias": torch.ones(3)})),
    ),
    (
        "optimizer.safetensors",
        tensors_edited(lambda each: each.update({"step:bias": torch.tensor(-1.0)})),
    ),
    ("optimizer.safetensors", tensors_edited(unknown_name)),
]


@pytest.mark.parametrize("at", range(len(DAMAGES)))
def test_checkpoint_when_damaged_or_foreign_is_refused_in_words(stopped, tmp_path, at):
    name, damage = DAMAGES[at]
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    damage(checkpoint_of(folder) / name)
    toy = Toy()
    with pytest.raises(ModelError, match=r"remove it|another folder") as caught:
        train(toy.task, folder, WHOLE)
    assert str(folder) in str(caught.value)
    assert toy.numbers() == Toy().numbers()
    shutil.rmtree(checkpoint_of(folder))  # as the message says
    train(toy.task, folder, WHOLE)


def test_checkpoint_when_of_another_version_is_refused_in_words(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    edited(lambda state: state.update(format=99))(checkpoint_of(tmp_path / "run") / "state.json")
    with pytest.raises(FormatMismatch, match="another version; remove it"):
        train(Toy().task, tmp_path / "run", WHOLE)


@given(st.sampled_from(FILES), st.data())
@examples(40)
def test_checkpoint_when_any_bytes_are_changed_goes_on_or_says_why_not(stopped, name, data):
    with temporary_folder() as folder:
        shutil.copytree(stopped, folder / "run")
        file = checkpoint_of(folder / "run") / name
        content = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        file.write_bytes(bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))]))
        with suppress(RagkitError):
            train(Toy().task, folder / "run", WHOLE)


@contextmanager
def files_of_at_most(n_bytes):
    """The nearest to a full disk: writing beyond the limit fails in the operating system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", FILES)
def test_run_when_the_disk_is_full_keeps_the_earlier_checkpoint(tmp_path, name):
    run_until(tmp_path, 6)
    before = {path.name: path.read_bytes() for path in checkpoint_of(tmp_path).iterdir()}
    written = Path.write_text

    def full(path, *arguments, **named):  # state.json is smaller than what is written before it
        with files_of_at_most(10):
            return written(path, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        if name == "state.json":
            patch.setattr(Path, "write_text", full)
        limit = {FILES[0]: 10**6, FILES[1]: 10, FILES[2]: len(before[FILES[1]]) + 10}[name]
        with (
            files_of_at_most(limit),
            pytest.raises(CollectionError, match=r"cannot be written: File too large.*free space"),
        ):
            train(Toy().task, tmp_path, WHOLE)
    assert {path.name: path.read_bytes() for path in checkpoint_of(tmp_path).iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-5", "lock"]
    again = Toy()
    expected, numbers, _ = whole_run()
    assert said(train(again.task, tmp_path, WHOLE)) == expected
    assert again.numbers() == numbers


def test_folder_when_it_is_a_file_is_refused_in_words(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(CollectionError, match="cannot be written"):
        train(Toy().task, tmp_path / "run", WHOLE)


def test_nothing_is_unpickled_when_a_run_goes_on(tmp_path, monkeypatch):
    run_until(tmp_path, 6)

    def refuse(*arguments, **named):
        raise AssertionError("unpickled")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    assert said(train(Toy().task, tmp_path, WHOLE)) == whole_run()[0]
