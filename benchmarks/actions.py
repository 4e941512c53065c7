"""Do actions parse, whatever the weights are?

    python benchmarks/actions.py [--random N] [--smollm2 N] [--out FILE]

Actions are drawn at temperature 1 under the grammar of the materials agent's live tools, without
and with ledger rows: by a tiny model with random weights on SmolLM2's tokenizer, for which every
allowed token is about as likely, and by SmolLM2 itself. An action counts as sound if it parses, its
tool exists and the tool's own check takes its arguments or refuses a value for what it means (a
formula that is none), not for its type.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import transformers
from common import BENCHMARKS, heading

from ragkit.agents.definition import AgentOptions, load_agent
from ragkit.agents.ledger import Ledger, Quantity
from ragkit.agents.planner import ANSWER, REFUSE, action_schema, parse_action
from ragkit.agents.tools import Tool, ToolError
from ragkit.llms.local import LocalLLM
from ragkit.testing import ScriptedLLM
from ragkit.types import ChatOptions, Message

ASK = [Message("system", "Act."), Message("user", "What is the band gap of GaAs?")]
TYPES = (
    "is missing",
    "is no argument",
    "valid integer",
    "valid number",
    "valid string",
    "valid list",
)


def random_model(like: LocalLLM, folder: Path) -> LocalLLM:
    """Two layers of random weights, seed 0, on another model's tokenizer."""
    import torch

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=like.vocab_size,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4096,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    like.tokenizer.save_pretrained(folder)
    return LocalLLM(str(folder), dtype="float32")


def ledger_of(n_rows: int) -> Ledger:
    """A ledger with as many rows."""
    ledger = Ledger()
    ledger.add([Quantity(n, property="k") for n in range(n_rows)], "search", {})
    return ledger


def fault(text: str, tools: dict[str, Tool]) -> str:
    """Why a reply is no sound action; "" if it is one."""
    _, action, error = parse_action(text)
    if action is None:
        return error
    if action.tool in (ANSWER, REFUSE):
        return ""
    if action.tool not in tools:
        return f"no tool {action.tool}"
    try:
        tools[action.tool].check(action.arguments)
    except ToolError as error_:
        return str(error_) if any(word in str(error_) for word in TYPES) else ""
    return ""


def draw(llm: LocalLLM, n: int, tools: list[Tool]) -> dict[str, Any]:
    """Draw actions, half of them without ledger rows."""
    schemas = []
    for ledger in (Ledger(), ledger_of(12)):
        live = [tool for tool in tools if len(ledger) or not tool.names_rows]
        schemas.append(action_schema(live, ledger))
    by_name = {tool.name: tool for tool in tools}
    faults: Counter[str] = Counter()
    names: Counter[str] = Counter()
    n_tokens, started = [], time.perf_counter()
    for seed in range(n):
        options = ChatOptions(2000, temperature=1.0, seed=seed, schema=schemas[seed % 2])
        reply = llm.session().chat(ASK, options)
        n_tokens.append(reply.usage.completion_tokens)
        why = "cut off" if reply.finish_reason == "length" else fault(reply.text, by_name)
        faults.update([why] if why else [])
        if not why:
            names[json.loads(reply.text)["action"]["name"]] += 1
        if seed % 50 == 49:
            print(f"{llm.name.rsplit('/', 1)[-1]}: {seed + 1}/{n}", file=sys.stderr)
    return {
        "drawn": n,
        "sound": n - sum(faults.values()),
        "faults": dict(faults),
        "tools": len(names),
        "longest": max(n_tokens, default=0),
        "mean tokens": round(sum(n_tokens) / max(1, n), 1),
        "seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    """Draw, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=int, default=2000)
    parser.add_argument("--smollm2", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    about = heading()
    tools = list(load_agent("materials", AgentOptions(llm=ScriptedLLM(["{}"]))).offered)
    smol = LocalLLM("smollm2")
    with tempfile.TemporaryDirectory() as name:
        rows = {
            "random weights": draw(random_model(smol, Path(name)), options.random, tools),
            "SmolLM2": draw(smol, options.smollm2, tools),
        }
    for name, row in rows.items():
        print(f"{name}: {row}")
    out = options.out or BENCHMARKS / "results" / f"{about['date']}-actions.json"
    out.write_text(json.dumps({**about, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
