"""Hierarchical agents, after LLaMP: a supervisor that calls stateless assistants as tools.

The supervisor cannot call the assistants' tools itself. It writes a self-contained request, the
assistant runs its own loop, and the rows of its answer are added to the supervisor's ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragkit.agents.ledger import Ledger
from ragkit.agents.react import ReAct
from ragkit.agents.tools import Tool, ToolResult, tool


@dataclass(frozen=True, slots=True)
class Assistant:
    """Agent that a supervisor calls as a tool.

    Attributes:
        name: Name of the tool.
        about: Description of the tool, in one sentence for the supervisor's prompt.
        agent: The agent.
    """

    name: str
    about: str
    agent: ReAct


def as_tool(assistant: Assistant) -> Tool:
    """Wrap an assistant as a tool with one argument, the complete request.

    Source: LLaMP (Chiang et al. 2024), structured tool with a single string argument. Only the rows
    of the answer are returned, not the state of the assistant's executor. A run without rows
    returns a text with the reason and the advice to split the request.
    """

    def ask(input: str, *, ledger: Ledger) -> ToolResult:
        child_ledger = Ledger(ledger)
        run = assistant.agent.run(input, ledger=child_ledger)
        ledger.merge(child_ledger, run.final.rows)
        text = "" if run.final.rows else run.final.text
        if run.final.refusal and run.final.exit_reason == "refused":
            text = assistant.agent.templates.refusal(run.final.refusal, run.final.note)
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
        sends=any(offered.sends for offered in assistant.agent.offered),
    )


def team_tools(assistants: Sequence[Assistant], own: Sequence[Tool] = ()) -> list[Tool]:
    """Return the supervisor's tools: its assistants, and its own tools such as the calculator."""
    return [*(as_tool(assistant) for assistant in assistants), *own]
