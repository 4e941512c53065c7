"""A supervisor and its assistants, after LLaMP: each assistant has one tool and no memory.

The supervisor cannot call the tools itself. It writes a request that says everything, the assistant
runs its own loop, and the rows it names come back into the supervisor's ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragkit.agents.ledger import Ledger
from ragkit.agents.react import ReAct
from ragkit.agents.tools import Tool, ToolResult, tool


@dataclass(frozen=True, slots=True)
class Assistant:
    """An agent that the supervisor can ask.

    Attributes:
        name: What the supervisor calls it.
        about: What it knows, in a sentence for the supervisor's prompt.
        agent: Its own loop.
    """

    name: str
    about: str
    agent: ReAct


def as_tool(assistant: Assistant) -> Tool:
    """The assistant as a tool with one argument, the complete request.

    Source: LLaMP (Chiang et al. 2024), the structured tool with a single string argument; only what
    the assistant found comes back, not its executor's state. A run that ends without rows comes
    back as text: why, and that the request can be split.
    """

    def ask(input: str, *, ledger: Ledger) -> ToolResult:
        own = Ledger(ledger)
        run = assistant.agent.run(input, ledger=own)
        ledger.take(own, run.final.rows)
        text = "" if run.final.rows else run.final.text
        if not run.final.complete and not run.final.rows:
            text += " Split the request into several smaller ones, or ask for fewer rows."
        return ToolResult(
            evidence=list(run.final.rows.values()),
            text=text,
            usage=run.usage,
            steps=run.steps,
        )

    ask.__doc__ = (
        f"{assistant.about}\n\nArgs:\n    input: The complete question, with all context.\n"
    )
    return tool(
        ask,
        name=assistant.name,
        timeout_s=assistant.agent.limits.max_seconds * 1.5 + 5,
        sends=any(each.sends for each in assistant.agent.offered),
    )


def team_tools(assistants: Sequence[Assistant], own: Sequence[Tool] = ()) -> list[Tool]:
    """What the supervisor can call: its assistants, and its own tools (the calculator)."""
    return [*(as_tool(each) for each in assistants), *own]
