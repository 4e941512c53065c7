"""SCoR: the golden trials, and the table of the LLaMP benchmark from its arrays."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from ragkit.evaluation.measures.consistency import mean_scor, scor
from ragkit.evaluation.measures.score import Score

DATA = Path(os.environ.get("RAGKIT_DATA", Path(__file__).parents[2] / "shared" / "data"))


def test_scor_when_given_the_golden_trials_gives_the_golden_values():
    result = scor([100, 102, 98, None], truth=101)
    assert result.deviation.value == pytest.approx(1.632993, abs=5e-7)
    assert result.precision.value == pytest.approx(0.942809, abs=5e-7)
    assert result.coherence.value == pytest.approx(0.389532, abs=5e-7)
    assert result.confidence == 0.75
    assert result.scor == pytest.approx(0.292149, abs=5e-7)
    assert result.mae.value == pytest.approx(5 / 3, abs=1e-12)
    assert result.mape.value == pytest.approx(5 / 303, abs=1e-12)


def test_scor_when_there_is_no_answer_or_no_scatter_says_so():
    refused = scor([None, None], truth=1.0)
    assert (refused.scor, refused.confidence) == (0.0, 0.0)
    assert refused.mae == refused.coherence == Score(None, "no trial gave a usable answer")
    once = scor([2.0, None], truth=0.0)
    assert (once.scor, once.mae) == (0.5, Score(2.0))
    assert once.mape == Score(None, "the true value is 0")


def test_scor_when_scaled_does_not_depend_on_the_unit():
    in_ev, in_mev = [1.1, 1.3, None], [1100.0, 1300.0, None]
    assert scor(in_ev, 1.2).scor > 0.6
    assert scor(in_mev, 1200).scor < 1e-30
    scaled = scor(in_ev, 1.2, scale=1.2).scor
    assert scor(in_mev, 1200, scale=1200).scor == pytest.approx(scaled, abs=1e-12)


@pytest.mark.parametrize(
    ("trials", "truth", "scale"),
    [([], 1, 1), ([math.nan], 1, 1), ([1], math.inf, 1), ([1], 1, 0), ([1], 1, math.nan)],
)
def test_scor_when_numbers_are_unusable_is_refused(trials, truth, scale):
    with pytest.raises(ValueError, match="expected"):
        scor(trials, truth, scale=scale)


def test_mean_scor_when_a_question_has_no_answer_counts_it_as_zero():
    mean = mean_scor([scor([1.0, 1.0], 2.0), scor([None], 2.0)])
    assert (mean.scor, mean.mae) == (0.5, Score(1.0))
    assert (mean.n_questions, mean.n_unanswered) == (2, 1)
    assert mean_scor([scor([None], 2.0)]).mae == Score(None, "no question got a usable answer")
    with pytest.raises(ValueError, match="questions is empty"):
        mean_scor([])


# Panel, system, SCoR, MAE: recomputed in SYSTEMS A1. GPT-4's 0.25 for formation energies is the
# mean over the nine questions that it answered; over all ten it is 0.225.
LLAMP = [
    ("3a bulk modulus", "llamp", 0.900, 14.574),
    ("3a bulk modulus", "gpt4", 0.910, 41.225),
    ("3a bulk modulus", "gpt35", 0.762, 42.875),
    ("3a bulk modulus", "gemini", 0.169, 43.429),
    ("3a bulk modulus", "llama3", 0.010, 41.874),
    ("3a bulk modulus", "structchem_gpt35", 0.200, 41.017),
    ("3b formation energy", "llamp", 0.949, 0.001),
    ("3b formation energy", "gpt4", 0.225, 1.680),
    ("3b formation energy", "gpt35", 0.698, 1.756),
    ("3b formation energy", "gemini", 0.724, 1.549),
    ("3b formation energy", "llama3", 0.135, 5.536),
    ("3c band gap", "llamp", 1.000, 0.000),
    ("3c band gap", "gpt4", 0.966, 0.943),
    ("3c band gap", "gpt35", 0.996, 0.981),
    ("3d band gap multiele", "llamp", 0.918, 0.178),
    ("3d band gap multiele", "gpt35", 0.432, 1.138),
    ("3d band gap multiele", "llama3", 0.698, 1.106),
    ("3d band gap multiele", "gpt4", 0.0, None),
]


@pytest.mark.reference
@pytest.mark.parametrize(("panel", "system", "expected", "mae"), LLAMP)
def test_mean_scor_when_run_on_llamp_figure_3_gives_its_table(panel, system, expected, mae):
    path = DATA / "llamp_fig3" / "llamp_fig3_benchmark.json"
    if not path.exists():
        pytest.skip(f"no data at {path}; set RAGKIT_DATA")
    panels = json.loads(path.read_text())["panels"]
    rows = next(row for row in panels if row["panel"] == panel)
    answers = zip(*rows[system], strict=True)
    questions = [scor(trials, ref) for trials, ref in zip(answers, rows["ref"], strict=True)]
    mean = mean_scor(questions)
    assert mean.scor == pytest.approx(expected, abs=6e-4)
    assert mean.mae.value == (None if mae is None else pytest.approx(mae, abs=6e-4))
