"""Trains the pair model that ships: three stages, each of which can be stopped and gone on with.

    python benchmarks/train_pair.py stage1 --to FOLDER
    python benchmarks/train_pair.py stage2 --to FOLDER
    python benchmarks/train_pair.py stage3 --to FOLDER
    python benchmarks/train_pair.py pack --to FOLDER

`pack` writes the int8 weights of stage 3 to FOLDER/weights. One core with AMX reads about 2,000
tokens a second. Run it with OMP_NUM_THREADS=1: a second thread helps little.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from common import data_root, machine

from ragkit.finetune.loop import TrainOptions, TrainProgress
from ragkit.finetune.pair.recipe import pair_data
from ragkit.finetune.pair.training import PairOptions, train_pair
from ragkit.pair.graph import pack, unpack

OPTIONS = {
    1: TrainOptions(
        max_tokens=14_000_000, batch_tokens=6144, learning_rate=1.5e-4, warmup_tokens=400_000,
        decay_share=1.0, weight_decay=0.01, evaluate_tokens=1_500_000, patience=99,
    ),
    2: TrainOptions(
        max_tokens=5_400_000, batch_tokens=6144, learning_rate=1.1e-4, warmup_tokens=100_000,
        decay_share=1.0, weight_decay=0.01, evaluate_tokens=1_000_000, patience=99, seed=2,
    ),
    3: TrainOptions(
        max_tokens=13_000_000, batch_tokens=6144, learning_rate=1.5e-4, warmup_tokens=100_000,
        decay_share=1.0, weight_decay=0.01, evaluate_tokens=2_000_000, patience=99, seed=3,
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("step", choices=("stage1", "stage2", "stage3", "pack"))
    parser.add_argument("--to", type=Path, required=True, help="folder of the runs")
    options = parser.parse_args()
    print(machine(), flush=True)
    if options.step == "pack":
        write_weights(options.to / "3" / "model", options.to / "weights")
        return
    stage: Any = int(options.step[-1])
    start = options.to / str(stage - 1) / "model" if stage > 1 else None
    data = pair_data(data_root(), stage)
    report = train_pair(
        data, options.to / str(stage), PairOptions(OPTIONS[stage], start=start), on_progress=show
    )
    print(report)


def write_weights(trained: Path, target: Path) -> None:
    """Write the int8 weights of a trained model, and what they need to be used."""
    target.mkdir(parents=True, exist_ok=True)
    pack(unpack(trained / "model.safetensors"), target / "model.safetensors")
    about = json.loads((trained / "ragkit.json").read_text())
    (target / "ragkit.json").write_text(json.dumps(about, indent=1) + "\n")


def show(progress: TrainProgress) -> None:
    if progress.tokens % 250_000 < OPTIONS[1].batch_tokens:
        print(f"{progress.tokens:,} tokens, loss {progress.loss:.3f}", flush=True)


if __name__ == "__main__":
    main()
