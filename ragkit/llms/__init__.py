"""Language models: on this machine (`local`) or an OpenAI-compatible server (`endpoint`)."""

from __future__ import annotations

from ragkit.llms.chat import DEFAULTS, check_request, exhaust
from ragkit.llms.load import load_llm

__all__ = ["DEFAULTS", "check_request", "exhaust", "load_llm"]
