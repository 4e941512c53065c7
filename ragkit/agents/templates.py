"""Templates for the text around the data in a model's conversation.

An adapter stores the templates it was trained with and is used with those, so that the defaults can
be improved without retraining.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ragkit.errors import ModelError


@dataclass(frozen=True, slots=True)
class Templates:
    """Format strings for `str.format`.

    Attributes:
        question: First user turn of a run; fields: `question`.
        observation: User turn with a tool's result; fields: `text`.
        hidden: Replaces an observation that no longer fits into the context window.
        quantity: Ledger row with a value; fields: `id`, `subject` (with a trailing space),
            `property`, `value`.
        quote: Ledger row with a quotation; fields: `id`, `text`.
        returned: Size of a page of results; fields: `n`, `total`, `unit`.
        showing: Number of rows that fit into an observation; fields: `n`, `total`.
        in_ledger: Appended to `showing` if the ledger contains the other rows.
        nothing: Empty result.
        direct: Result that goes to the user instead of the model.
        not_held: Text of the refusal "not_held"; likewise the next three.
        unclear: The question is ambiguous.
        off_topic: The tools do not fit the question.
        unavailable: The data source cannot be reached.
        note: Appended to a refusal with a note; fields: `note`.
    """

    question: str = "Question: {question}"
    observation: str = "Observation:\n{text}"
    hidden: str = "| (left out to save space)"
    quantity: str = "{id}: {subject}{property} = {value}"
    quote: str = "{id}: {text}"
    returned: str = "returned {n} of {total} {unit}"
    showing: str = "showing {n} of {total} rows"
    in_ledger: str = " (the ledger has them all)"
    nothing: str = "nothing was returned"
    direct: str = "the file is shown to the person"
    not_held: str = "No value found."
    unclear: str = "No answer: the question does not say enough."
    off_topic: str = "No answer: the tools are not for this question."
    unavailable: str = "No answer: the data could not be reached."
    note: str = " Note: {note}"

    def refusal(self, reason: str, note: str = "") -> str:
        """Return the text of a refusal, see `ragkit.agents.steps.REFUSALS`."""
        text: str = getattr(self, reason)
        return text + self.note.format(note=note) if note else text

    @classmethod
    def from_json(cls, values: object) -> Templates:
        """Build templates from an adapter's `ragkit.json`.

        Raises:
            ModelError: A template is missing, unknown or not a string.
        """
        names = {field.name for field in fields(cls)}
        if (
            not isinstance(values, Mapping)
            or set(values) != names
            or not all(isinstance(text, str) for text in values.values())
        ):
            raise ModelError(
                f"the adapter's templates are {str(values)[:80]!r}; expected a string for each of "
                f"{', '.join(sorted(names))}"
            )
        return cls(**values)


TEMPLATES = Templates()
"""Default templates, also used for texts that users read, independent of a model's training."""
