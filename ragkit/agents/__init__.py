"""Agents: a ReAct loop over typed tools whose answers name rows of a ledger, never bare numbers."""
