import json
import os
from pathlib import Path

import numpy as np
import pytest

from ragkit import Collection, Document, HybridRetriever
from ragkit.errors import DatasetError
from ragkit.evaluation.datasets import read_run
from ragkit.evaluation.experiment import Experiment, experiment
from ragkit.evaluation.measures import R, nDCG
from ragkit.evaluation.plots import plot_differences, plot_latency
from ragkit.evaluation.runs import SystemRun, make_run, search_documents
from ragkit.evaluation.tuning import retrieval_trial, tune
from ragkit.testing import HashEmbedder
from ragkit.types import Chunk, Hit

MATERIALS = ["gallium", "silicon", "lithium", "iron", "copper", "zinc", "tin", "lead"]
QUERIES = {f"q-{name}": f"melting point of {name}" for name in MATERIALS}
QRELS = {f"q-{name}": {name: 1} for name in MATERIALS}


@pytest.fixture
def collection(tmp_path):
    with Collection(tmp_path / "metals.rag", embedder=HashEmbedder()) as made:
        made.add(
            [
                Document(name, f"The melting point of {name} is {i}00 K. It was found long ago.")
                for i, name in enumerate(MATERIALS)
            ]
        )
        yield made


class Long:
    """Every document has fifty chunks, so that k chunks are far fewer documents."""

    def __init__(self):
        self.asked = []

    def retrieve(self, queries, k=10, *, where=None):
        self.asked.append(k)
        chunks = [
            Hit(Chunk(f"{d}:{c}-{c}", str(d), "x", c, c), 1000.0 - 50 * d - c)
            for d in range(6)
            for c in range(50)
        ]
        return [chunks[:k] for _ in queries]


def test_search_documents_when_documents_have_many_chunks_goes_on_until_there_are_k():
    retriever = Long()
    (found,) = search_documents(retriever, ["q"], 3)
    assert found == {"0": 1000.0, "1": 950.0, "2": 900.0}
    assert retriever.asked == [6, 24, 96, 384]
    (everything,) = search_documents(Long(), ["q"], 100)
    assert list(everything) == ["0", "1", "2", "3", "4", "5"]


def test_experiment_when_systems_are_compared_has_a_row_a_measure(collection, tmp_path):
    systems = {name: collection.retriever(name) for name in ("bm25", "dense")}
    found = experiment(systems, QUERIES, QRELS, [nDCG @ 10, R @ 1], folder=tmp_path / "out")
    assert [(row.system, row.measure) for row in found.rows] == [
        ("bm25", "nDCG@10"), ("bm25", "R@1"), ("dense", "nDCG@10"), ("dense", "R@1"),
    ]  # fmt: skip
    best = found.rows[0]
    assert (best.mean, best.low, best.high, best.p) == (1.0, 1.0, 1.0, None)
    assert all(0 < row.p <= row.p_holm <= 1 for row in found.rows[2:])
    saved = json.loads((tmp_path / "out" / "experiment.json").read_text())
    assert saved["scores"]["bm25"]["R@1"] == dict.fromkeys(sorted(QUERIES), 1.0)
    assert saved["manifests"]["dense"]["source"]["embedder"] == HashEmbedder().fingerprint
    assert read_run(tmp_path / "out" / "bm25.run") == found.runs["bm25"].run
    assert "bm25" in found.table()
    assert "<td>bm25</td>" in found._repr_html_()
    assert found.milliseconds("bm25") > 0


def test_experiment_when_values_are_known_compares_as_by_hand():
    qrels = {f"q{i}": {"good": 1} for i in range(4)}
    good = SystemRun("good", {query: {"good": 1.0} for query in qrels}, {})
    bad = SystemRun("bad", {query: {"other": 1.0} for query in qrels}, {})
    found = Experiment([bad, good], qrels, [R @ 1])
    (base, better) = found.rows
    assert (base.mean, better.mean, better.difference) == (0.0, 1.0, 1.0)
    assert better.p == better.p_holm == 2 / 2**4  # two of the sixteen sign choices are as extreme
    assert np.array_equal(found.values("good", "R@1"), np.ones(4))


@pytest.mark.parametrize(
    ("runs", "qrels", "options", "why"),
    [
        ([], QRELS, {}, "at least one of each"),
        (["a", "a"], QRELS, {}, "no name twice"),
        (["a"], QRELS, {"baseline": "b"}, "expected one of a"),
        (["a"], {"q": {"d": 1}}, {}, "expected at least 2 for an interval"),
    ],
)
def test_experiment_when_it_cannot_be_says_why(runs, qrels, options, why):
    with pytest.raises(ValueError, match=why):
        Experiment([SystemRun(name, {}, {}) for name in runs], qrels, [R @ 1], **options)


def test_experiment_when_no_query_is_judged_says_so(collection):
    with pytest.raises(ValueError, match="none of the 8 queries has a judgement"):
        experiment({"bm25": collection.retriever("bm25")}, QUERIES, {"other": {}}, [R @ 1])


class Counting:
    def __init__(self, retriever, stop_after=1000):
        self.retriever, self.n, self.stop_after = retriever, 0, stop_after

    def retrieve(self, queries, k=10, *, where=None):
        if self.n + len(queries) > self.stop_after:
            os._exit(9)
        self.n += len(queries)
        return self.retriever.retrieve(queries, k, where=where)


def test_make_run_when_the_process_dies_goes_on_where_it_was(collection, tmp_path):
    queries = {f"q{i}": f"melting point of {MATERIALS[i % 8]} number {i}" for i in range(60)}
    retriever = collection.retriever("bm25")
    file = tmp_path / "bm25.jsonl"
    whole = make_run("bm25", retriever, queries, 5)
    child = os.fork()
    if child == 0:
        make_run("bm25", Counting(retriever, stop_after=40), queries, 5, file=file)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with file.open("ab") as stream:
        stream.write(b'["q40", {"gal')  # what a power failure leaves
    again = Counting(retriever)
    resumed = make_run("bm25", again, queries, 5, file=file)
    assert again.n == 1 + 60 - 32  # a warm-up; two batches of 16 were on the disk
    assert resumed.run == whole.run
    last = Counting(retriever)
    assert make_run("bm25", last, queries, 5, file=file).run == whole.run
    assert last.n == 0
    other = Counting(retriever)
    assert make_run("bm25", other, queries, 6, file=file).run.keys() == whole.run.keys()
    assert other.n == 1 + 60  # another k is another run


def test_make_run_when_the_file_is_damaged_names_the_line(collection, tmp_path):
    file = tmp_path / "bm25.jsonl"
    make_run("bm25", collection.retriever("bm25"), QUERIES, 5, file=file)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:2], "{broken", *lines[3:]]) + "\n")
    with pytest.raises(DatasetError, match=r"bm25\.jsonl line 3 is not JSON"):
        make_run("bm25", collection.retriever("bm25"), QUERIES, 5, file=file)


def test_tune_when_one_setting_is_better_takes_it():
    queries = [f"q{i}" for i in range(200)]
    rng = np.random.default_rng(0)
    trials = {
        name: noisy(rng, mean, milliseconds)
        for name, mean, milliseconds in [
            ("cheap", 0.4, 1.0), ("good", 0.6, 3.0), ("poor", 0.3, 2.0), ("slow", 0.9, 50.0),
        ]
    }  # fmt: skip
    found = tune(trials, queries, latency_ms=10)
    assert (found.choice, found.cheapest, found.too_slow) == ("good", "cheap", ("slow",))
    assert found.is_better
    assert found.p < 0.05
    assert str(found).startswith("take good: on the hold-out better than cheap")


def test_tune_when_nothing_differs_wins_no_more_often_than_the_level():
    queries = [f"q{i}" for i in range(60)]
    rng = np.random.default_rng(7)
    wins = 0
    for _ in range(300):
        trials = {f"s{i}": noisy(rng, 0.5, float(i)) for i in range(8)}
        found = tune(trials, queries)
        wins += found.is_better
        assert found.choice == (found.winner if found.is_better else "s0")
    # Two-sided at 5 %, and only the upper side is a win: 2.5 % of 300, and three deviations.
    assert wins <= 7.5 + 3 * (300 * 0.025 * 0.975) ** 0.5


def noisy(rng, mean, milliseconds):
    """A setting whose score of a query is drawn once."""
    drawn = {}

    def trial(queries):
        scores = [drawn.setdefault(query, rng.normal(mean, 0.2)) for query in queries]
        return scores, milliseconds

    return trial


def test_tune_when_the_queries_are_few_or_all_is_slow_says_so():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="1 settings and 3 queries"):
        tune({"a": noisy(rng, 0, 1)}, ["a", "b", "c"])
    with pytest.raises(
        ValueError, match=r"no setting is within 0.5 ms per query; the fastest .* 1.0"
    ):
        tune({"a": noisy(rng, 0, 1)}, [str(i) for i in range(20)], latency_ms=0.5)


def test_retrieval_trial_when_tried_scores_each_query_once(collection):
    counting = Counting(collection.retriever("bm25"))
    trial = retrieval_trial(counting, QUERIES, QRELS, nDCG @ 10, k=5)
    scores, milliseconds = trial(list(QUERIES))
    assert scores == [1.0] * 8
    assert milliseconds > 0
    trial(list(QUERIES)[:4])
    assert counting.n == 8


@pytest.fixture
def beir(tmp_path):
    folder = tmp_path / "metals"
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": n, "title": "", "text": f"The melting point of {n}."} for n in MATERIALS]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"_id": query, "text": text} for query, text in QUERIES.items()]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [f"q-{name}\t{name}\t1" for name in MATERIALS]
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]))
    return folder


def test_eval_and_compare_when_run_from_the_command_line(ragkit, beir):
    options = ("--retrievers", "bm25,dense", "--measures", "nDCG@10,R@1", "--to", "out")
    done = ragkit("eval", "--data", "metals", *options, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["rows"][0]["mean"] == 1.0
    again = ragkit("eval", "--data", "metals", *options)
    assert again.code == 0, again.err
    assert "bm25    R@1      1.0000  [1.0000, 1.0000]" in again.out
    runs = ("compare", "out/bm25.run", "out/dense.run", "--data", "metals", "--measures", "R@1")
    compared = ragkit(*runs)
    assert compared.code == 0, compared.err
    assert compared.out.startswith("8 queries\n")
    assert "vs bm25" in compared.out
    neither = ragkit(*runs[:3])
    assert neither.code == 2
    assert "--data NAME or --qrels FILE" in neither.err


def test_eval_when_the_collection_holds_other_documents_says_so(ragkit, beir):
    folder = beir.parent
    (folder / "other.txt").write_text("Nothing of the kind.")
    assert ragkit("index", "add", "other.txt", "--to", "other.rag").code == 0
    done = ragkit("eval", "--data", "metals", "--in", "other.rag")
    assert done.code == 1
    assert "has none of the 8 judged documents" in " ".join(done.err.split())


def test_eval_when_the_data_are_unknown_names_what_is_known(ragkit, tmp_path):
    done = ragkit("eval", "--data", "no-such-set")
    assert done.code == 1
    assert "no-such-set" in done.err
    assert "nfcorpus" in done.err
    assert not list(Path(tmp_path).iterdir())


def test_plots_when_drawn_show_every_query_and_system(collection, tmp_path):
    systems = {name: collection.retriever(name) for name in ("bm25", "dense")}
    found = experiment(systems, QUERIES, QRELS, [R @ 1])
    differences = plot_differences(found, "dense", "R@1")
    heights = [bar.get_height() for bar in differences.axes[0].patches]
    assert heights == sorted(
        (found.values("dense", "R@1") - found.values("bm25", "R@1")).tolist(), reverse=True
    )
    latency = plot_latency(found, "R@1")
    assert {text.get_text() for text in latency.axes[0].texts} == {"bm25", "dense"}
    for number, figure in enumerate((differences, latency)):
        figure.savefig(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")


def test_experiment_when_the_system_changes_does_not_take_the_old_run(collection, tmp_path):
    def hybrid(weights):
        parts = [collection.retriever("bm25"), collection.retriever("dense")]
        return {"hybrid 1": HybridRetriever(parts, method="minmax", weights=weights)}

    folder = tmp_path / "out"
    first = experiment(hybrid([1, 0]), QUERIES, QRELS, [R @ 1], folder=folder)
    second = experiment(hybrid([0, 1]), QUERIES, QRELS, [R @ 1], folder=folder)
    fresh = experiment(hybrid([0, 1]), QUERIES, QRELS, [R @ 1])
    assert second.runs["hybrid 1"].run == fresh.runs["hybrid 1"].run
    assert second.runs["hybrid 1"].run != first.runs["hybrid 1"].run
    assert (folder / "hybrid_1.run").exists()
    collection.add(Document("tin", "Nothing about it any more."))
    third = experiment(hybrid([0, 1]), QUERIES, QRELS, [R @ 1], folder=folder)
    assert third.runs["hybrid 1"].run != second.runs["hybrid 1"].run


def test_experiment_when_k_is_below_a_cutoff_says_so(collection):
    with pytest.raises(ValueError, match="k is 5, but a measure has the cutoff 10"):
        experiment({"bm25": collection.retriever("bm25")}, QUERIES, QRELS, [nDCG @ 10], k=5)


def test_tune_when_the_last_are_too_slow_takes_an_earlier_one():
    queries = [f"q{i}" for i in range(200)]
    rng = np.random.default_rng(0)

    def slower(mean):
        trial = noisy(rng, mean, 1.0)
        return lambda names: (trial(names)[0], 5.0 if len(names) < 30 else 50.0)

    trials = {"a": slower(0.9), "b": slower(0.8), "c": noisy(rng, 0.4, 1), "d": noisy(rng, 0.3, 1)}
    found = tune(trials, queries, latency_ms=10)
    assert found.choice == "c"
    assert set(found.too_slow) == {"a", "b"}


def test_eval_when_the_folder_holds_another_corpus_refuses(ragkit, beir):
    rows = (beir / "corpus.jsonl").read_text()
    assert ragkit("eval", "--data", "metals", "--to", "out").code == 0
    (beir / "corpus.jsonl").write_text(rows.replace('"lead"', '"led"').replace("lead", "led"))
    qrels = beir / "qrels" / "test.tsv"
    qrels.write_text(qrels.read_text().replace("\tlead\t", "\tled\t"))
    done = ragkit("eval", "--data", "metals", "--to", "out")
    assert done.code == 1
    assert "holds 1 documents that are not in the corpus" in " ".join(done.err.split())


def test_eval_when_names_are_wrong_says_so_before_any_work(ragkit, beir):
    for option in (
        ("--retrievers", "bm25,dens"), ("--retrievers", "bm25,bm25"), ("--baseline", "bm52"),
        ("--measures", "R@5,R@5"), ("--measures", "R"),
    ):  # fmt: skip
        done = ragkit("eval", "--data", "metals", "--to", "out", *option)
        assert done.code == 2, option
        assert not (beir.parent / "out").exists(), option


def test_compare_when_a_run_is_of_other_queries_refuses(ragkit, beir):
    folder = beir.parent
    (folder / "a.run").write_text("q-tin Q0 tin 1 1.0 a\nbroken\n")
    (folder / "b.run").write_text("other Q0 tin 1 1.0 b\n")
    options = ("--data", "metals", "--measures", "R@1")
    strict = ragkit("compare", "a.run", *options)
    assert strict.code == 1
    assert "line 2" in strict.err
    lenient = ragkit("compare", "a.run", *options, "--lenient")
    assert lenient.code == 0, lenient.err
    assert "7 of 8 judged queries count as 0" in lenient.err
    other = ragkit("compare", "b.run", *options)
    assert other.code == 1
    assert "has none of the 8 judged queries" in " ".join(other.err.split())
