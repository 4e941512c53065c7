"""Wording around the data that a model is shown.

Adapters store the templates of their training and are used with those, so that the defaults below
can be improved without training again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ragkit.errors import ModelError


@dataclass(frozen=True, slots=True)
class Templates:
    """Format strings for `str.format`.

    Attributes:
        question: The user's turn that opens a run; `question`.
        observation: A tool's result as a user's turn; `text`.
        hidden: In place of an observation that no longer fits into the window.
        quantity: A ledger row with a value; `id`, `subject` (with a space behind it), `property`,
            `value`.
        quote: A ledger row with a quotation; `id`, `text`.
        returned: Size of a page of results; `n`, `total`, `unit`.
        showing: Number of rows that fit into an observation; `n`, `total`.
        in_ledger: Added to `showing` if the ledger holds the other rows.
        nothing: An empty result.
        direct: A result that goes to the user instead of the model.
        not_held: An assistant's refusal, as its supervisor reads it; likewise the next three.
        unclear: The request does not say enough.
        off_topic: The assistant's tools do not fit the request.
        unavailable: The data could not be reached.
        note: Added to a refusal that has a note; `note`.
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
"""The current wording, which people read whatever a model was trained with."""
