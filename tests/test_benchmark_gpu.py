"""The GPU benchmark skips without a device, and runs with the CPU on both sides."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif(  # its import takes seconds
        importlib.util.find_spec("sentence_transformers") is None,
        reason="needs pip install ragkit-framework[local]",
    ),
]

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


def run(*options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    out = tmp_path / "gpu.json"
    assert "finds no CUDA device" in run("--out", str(out))
    assert not out.exists()


def test_with_the_cpu_on_both_sides_the_results_are_equal(tmp_path):
    pytest.importorskip("peft")
    out = tmp_path / "gpu.json"
    shown = run("--device", "cpu", "--tiny", "--seconds", "600", "--out", str(out))
    rows = json.loads(out.read_text())["rows"]
    assert {row["unit"] for row in rows} >= {"texts/s", "queries/s", "tokens/s"}
    assert all(row["difference"] <= row["tolerance"] for row in rows), shown
