"""Evaluation of answers and of the support check: scores by hand, resuming, the command."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from ragkit import Collection, Document
from ragkit.errors import DatasetError
from ragkit.evaluation.datasets import QASet, Question, SupportPair, SupportSet, load_dataset
from ragkit.evaluation.measures import auroc
from ragkit.evaluation.reading import outcome_of, reading_experiment, score_outcome
from ragkit.evaluation.support import evaluate_support
from ragkit.readers.citations import Verdict
from ragkit.types import Answer, Citation, Refusal, Sentence, ShortAnswer

TEXT = "Iron melts at 1811 K. Tin is soft."
DOCUMENT = Document("metals", TEXT)


def _answer(quote: str, short: str = "", probability: float = 0.9) -> Answer:
    start = TEXT.index(quote)
    citation = Citation("metals", "c", start, start + len(quote), quote, "")
    spans = (ShortAnswer(short, 1, TEXT.index(short), TEXT.index(short) + len(short), 0.9),)
    sentence = Sentence(0, len(quote) + 4, (1,), "quoted", probability)
    return Answer("?", f"{quote} [1]", (sentence,), (citation,), spans=spans if short else ())


REFUSED = Answer("?", "", refusal=Refusal("no_evidence", ()))
MELTS = Question("1", "When does iron melt?", ("1811 K",), ("metals",))
NOTHING = Question("2", "Who found tin?", ())


def _scores(question: Question, answer: Answer) -> dict[str, float]:
    return score_outcome(question, outcome_of(question, answer, 1.0))


def test_scores_of_a_right_answer_a_wrong_one_and_a_refusal():
    right = _scores(MELTS, _answer("Iron melts at 1811 K.", "1811 K"))
    assert right == {
        "seconds": 1.0, "supported": 1.0, "answered": 1.0, "right": 1.0, "risk": 0.0, "F1": 1.0,
        "EM": 1.0, "citation P": 1.0, "citation R": 1.0,
    }  # fmt: skip
    wrong = _scores(MELTS, _answer("Tin is soft."))
    assert (wrong["right"], wrong["risk"], wrong["F1"]) == (0.0, 1.0, 0.0)
    refused = _scores(MELTS, REFUSED)
    assert (refused["answered"], refused["right"], "risk" in refused) == (0.0, 0.0, False)


def test_only_the_first_quote_makes_an_answer_right():
    second = _answer("Iron melts at 1811 K.")
    first = _answer("Tin is soft.")
    both = replace(first, citations=(*first.citations, *second.citations))
    assert _scores(MELTS, both)["right"] == 0.0
    assert _scores(MELTS, second)["right"] == 1.0


def test_scores_of_a_question_without_an_answer():
    assert _scores(NOTHING, REFUSED) == {"seconds": 1.0, "refused": 1.0}
    given = _scores(NOTHING, _answer("Tin is soft."))
    assert (given["refused"], given["risk"]) == (0.0, 1.0)


def test_scores_with_gold_spans_are_of_characters():
    spans = (("metals", 0, 21),)
    question = Question("1", "?", ("a long answer " * 4,), ("metals",), {"spans": spans})
    scores = _scores(question, _answer("melts at 1811 K. Tin"))
    assert scores["right"] == 1.0
    assert scores["citation R"] == pytest.approx(16 / 21)
    assert scores["citation P"] == pytest.approx(16 / 20)
    assert "F1" not in scores  # the answers are whole texts


def test_experiment_when_stopped_goes_on_and_does_not_ask_again(tmp_path):
    asked = []

    def system(question):
        if len(asked) == 1 and not (tmp_path / "second").exists():
            (tmp_path / "second").touch()
            raise KeyboardInterrupt
        asked.append(question)
        return _answer("Iron melts at 1811 K.", "1811 K") if "iron" in question else REFUSED

    data = QASet("toy", "all", (), (MELTS, NOTHING))
    with pytest.raises(KeyboardInterrupt):
        reading_experiment({"one": system}, data, folder=tmp_path)
    found = reading_experiment({"one": system}, data, folder=tmp_path)
    assert asked == [MELTS.text, NOTHING.text]
    assert found.scores["one"]["right"] == {"1": 1.0}
    assert found.scores["one"]["refused"] == {"2": 1.0}
    assert found.risk_coverage("one") == ([0.5], [0.0])
    saved = json.loads((tmp_path / "reading.json").read_text())
    assert saved["rows"] == found.to_dict()["rows"]
    assert saved["outcomes"]["one"][1]["refusal"] == "no_evidence"
    other = reading_experiment({"one": system}, data, settings={"k": 3}, folder=tmp_path)
    assert len(asked) == 4
    assert other.scores["one"]["right"] == {"1": 1.0}


def test_auroc_is_the_share_of_pairs_in_order():
    draw = random.Random(0)
    for _ in range(20):
        scores = [draw.choice([0.1, 0.2, 0.5, 0.9]) for _ in range(12)]
        labels = [True, False, *(draw.random() < 0.5 for _ in range(10))]
        pairs = [
            (a > b) + (a == b) / 2
            for a, x in zip(scores, labels, strict=True) if x
            for b, y in zip(scores, labels, strict=True) if not y
        ]  # fmt: skip
        assert auroc(scores, labels).value == pytest.approx(sum(pairs) / len(pairs))
    assert auroc([0.5], [True]).value is None
    with pytest.raises(ValueError, match="NaN"):
        auroc([float("nan"), 0], [True, False])


def test_support_check_is_counted_by_state():
    states = {"a": ("quoted", 1.0), "b": ("unsure", 0.5), "c": ("contradicted", 0.0)}

    class Judge:
        def __init__(self, hits):
            assert hits[0].chunk.text == "The evidence."

        def judge(self, statement):
            support, probability = states[statement]
            return Verdict(support, probability, "", ())

    pairs = [
        SupportPair(statement, "The evidence.", label, "g", "s")
        for statement, label in (("a", "supported"), ("b", "supported"), ("c", "contradicted"))
    ]
    report = evaluate_support(SupportSet("toy", "dev", tuple(pairs)), judge=Judge)
    assert (report.kept, report.passed, report.unsure) == (0.5, 0.0, pytest.approx(1 / 3))
    assert (report.precision, report.contradicted, report.auroc) == (1.0, 1.0, 1.0)
    assert "supported ones kept      0.500" in str(report)


def test_own_questions_are_read_by_their_format(tmp_path):
    file = tmp_path / "own.jsonl"
    lines = [
        {"question": "When?", "answers": ["now"], "gold": "d"},
        {"question": "Who?", "answers": []},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    data = load_dataset(file)
    assert isinstance(data, QASet)
    assert [(q.answers, q.gold) for q in data.questions] == [(("now",), ("d",)), ((), ())]
    file.write_text('{"question": "When?", "answers": [1]}')
    with pytest.raises(DatasetError, match="line 1"):
        load_dataset(file)


def test_command_evaluates_readers_on_own_questions(ragkit, tmp_path):
    path, file = tmp_path / "metals.rag", tmp_path / "own.jsonl"
    with Collection(path) as collection:
        collection.add([DOCUMENT, Document("wine", "Wine is made from grapes in many countries.")])
    questions = [
        {"question": "At what temperature does iron melt?", "answers": ["1811 K"]},
        {"question": "What is wine made from?", "answers": ["grapes"]},
        {"question": "Who was the first president of Peru?", "answers": []},
    ]
    file.write_text("\n".join(map(json.dumps, questions)))
    options = ("eval", "--data", str(file), "--in", str(path), "--reader", "extractive,spans")
    code, out, _ = ragkit(*options, "--to", str(tmp_path / "runs"), "--json", "--quiet")
    assert code == 0
    result = json.loads(out)
    assert result["scores"]["spans"]["refused"] == {"3": 1.0}
    assert result["scores"]["extractive"]["right"] == {"1": 1.0, "2": 1.0}
    code, out, _ = ragkit(*options, "--quiet")
    assert code == 0
    assert out.splitlines()[0] == "own all: 3 questions"
    for wrong, message in (
        (("--reader", "nobody"), "--reader is 'nobody'"),
        (("--reader", "spans", "--retrievers", "bm25,dense"), "--retrievers is"),
        (("--llm", "smollm2"), "--llm is for --reader"),
        (("--reader", "spans", "--baseline", "llm"), "--baseline is"),
    ):
        code, _, err = ragkit("eval", "--data", str(file), "--in", str(path), *wrong)
        assert code != 0
        assert message in err
    code, _, err = ragkit("eval", "--data", str(file), "--reader", "spans")
    assert code != 0
    assert "name a collection with --in" in err
