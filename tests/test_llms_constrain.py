"""Constrained replies: whatever the weights, the reply is JSON of the schema, and it ends."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from properties import examples
from tiers import smoke
from tiny_models import smol_llama, torch

from ragkit.agents.ledger import Ledger, Quantity
from ragkit.agents.planner import action_schema, parse_action
from ragkit.agents.tools import RowId, Tool, tool
from ragkit.errors import MissingExtra, ModelError
from ragkit.llms.constrain import JsonConstraint, bounded
from ragkit.llms.local import LocalLLM
from ragkit.types import ChatOptions, Message

pytest.importorskip("llguidance")
jsonschema = pytest.importorskip("jsonschema")

Ordering = Literal["FM", "AFM", "FiM", "NM"]


def search_summary(
    formula: str | None = None,
    material_ids: list[str] | None = None,
    elements: list[str] | None = None,
    where: list[str] | None = None,
    fields: str | None = None,
    limit: int = 5,
) -> None:
    """Any property of materials."""


def search_magnetism(
    formula: str, ordering: Ordering | None = None, is_stable: bool | None = None
) -> None:
    """Magnetic ordering."""


def search_gaps(low: float, high: float = 5.0, direct: bool = True, names: list[str] = []) -> None:  # noqa: B006
    """Band gaps between two limits."""


def calculate(expression: str, rows: list[RowId]) -> None:
    """Arithmetic over rows."""


def convert(row: RowId, unit: Literal["eV", "J", "kJ/mol", "cm^-1"]) -> None:
    """A row in another unit."""


def rank(rows: list[RowId], largest: bool = True, at_most: int | None = None) -> None:
    """Rows in order."""


def structure(material_id: str) -> None:
    """A structure file."""


def supercell(material_id: str, repeats: tuple[int, int, int]) -> None:
    """A larger cell."""


def element(name: str, value: Literal["mass", "radius"] | None = None) -> None:
    """A value of an element."""


def tables(filters: dict[str, float], unit: str = "", quoted: int | str | None = None) -> None:
    """Tables by filters."""


def count() -> None:
    """How many materials there are."""


def find_passages(query: str, k: int = 5) -> None:
    """Passages of the library."""


DOZEN: list[Callable[..., None]] = [
    *(search_summary, search_magnetism, search_gaps, calculate, convert, rank, structure),
    *(supercell, element, tables, count, find_passages),
]
TOOLS = {each.__name__: tool(each) for each in DOZEN}
ASK = [Message("system", "Act."), Message("user", "What is the band gap of GaAs?")]


def ledger_of(n_rows: int) -> Ledger:
    ledger = Ledger()
    ledger.add([Quantity(n, property="k") for n in range(n_rows)], "search", {})
    return ledger


LEDGER = ledger_of(12)
SCHEMA = action_schema(list(TOOLS.values()), LEDGER)


@pytest.fixture(scope="module")
def smol() -> LocalLLM:
    try:
        return LocalLLM("smollm2")
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def random_llm(tmp_path_factory) -> LocalLLM:
    """SmolLM2's tokenizer on two layers of random weights: every allowed token is as likely."""
    folder = smol_llama(
        tmp_path_factory.mktemp("random"), hidden_size=32, intermediate_size=32,
        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=4096,
    )  # fmt: skip
    return LocalLLM(str(folder), dtype="float32")


@pytest.fixture(scope="module")
def words(random_llm) -> Any:
    return random_llm._grammar_vocabulary()


def written(llm: LocalLLM, words: Any, schema: Mapping[str, Any], seed: int) -> tuple[str, int]:
    """A reply whose tokens are drawn evenly from those that are allowed, and how many they are."""
    random = np.random.default_rng(seed)
    constraint = JsonConstraint(words, schema, llm.vocab_size)
    tokens: list[int] = []
    while len(tokens) < 4000:
        forced = constraint.forced()
        tokens += forced
        if constraint.finished:
            break
        if not forced:
            tokens.append(int(random.choice(np.flatnonzero(constraint.allowed()))))
            constraint.accept(tokens[-1:])
    return llm.tokenizer.decode(tokens, skip_special_tokens=True), len(tokens)


def is_sound(text: str) -> bool:
    """Whether a reply is an action whose arguments its tool takes."""
    _, action, error = parse_action(text)
    assert action is not None, (error, text)
    if action.tool in TOOLS:
        TOOLS[action.tool].check(action.arguments)
    return True


def actions_of(llm: LocalLLM, n_actions: int) -> list[str]:
    texts = []
    for seed in range(n_actions):
        options = ChatOptions(2000, temperature=1.0, seed=seed, schema=SCHEMA)
        reply = llm.session().chat(ASK, options)
        assert reply.finish_reason == "stop", reply
        assert reply.usage.completion_tokens < 1000
        texts.append(reply.text)
    return texts


@pytest.fixture(autouse=True)
def one_thread():
    """More threads than one cost more than they save on a model this small."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def test_chat_when_the_weights_are_random_then_every_reply_is_an_action(random_llm):
    assert all(map(is_sound, actions_of(random_llm, 4)))


@pytest.mark.models
def test_chat_when_a_hundred_actions_are_drawn_then_all_are_sound(random_llm):
    texts = actions_of(random_llm, 100)  # benchmarks/actions.py draws 2,000
    assert sum(map(is_sound, texts)) == 100
    names = {json.loads(text)["action"]["name"] for text in texts}
    assert {"answer", "refuse"} < names <= {*TOOLS, "answer", "refuse"}


@pytest.mark.models
def test_chat_when_smollm2_acts_then_every_reply_is_an_action(smol):
    assert sum(map(is_sound, actions_of(smol, 5))) == 5  # benchmarks/actions.py draws more


@pytest.mark.parametrize("n_replies", smoke([8, 200], tier="models"))
def test_constraint_when_tokens_are_drawn_evenly_then_every_reply_is_an_action(
    random_llm, words, n_replies
):
    replies = [written(random_llm, words, SCHEMA, seed) for seed in range(n_replies)]
    assert all(is_sound(text) for text, _ in replies)
    assert max(n_tokens for _, n_tokens in replies) < 1000
    names = {json.loads(text)["action"]["name"] for text, _ in replies}
    everything = {*TOOLS, "answer", "refuse"}
    assert names <= everything
    assert names == everything or n_replies < 200


def test_constraint_when_there_are_rows_then_only_those_can_be_named(random_llm, words):
    schema = action_schema([TOOLS["convert"], TOOLS["rank"]], ledger_of(3))
    named = set()
    for seed in range(24):
        arguments = json.loads(written(random_llm, words, schema, seed)[0])["action"]["arguments"]
        rows = [*arguments.get("rows", ()), *([arguments["row"]] if "row" in arguments else ())]
        named |= set(rows)
    assert named == {"r1", "r2", "r3"}


def test_constraint_when_there_are_no_rows_then_no_optional_row_can_be_named(random_llm, words):
    @tool
    def compare(unit: str, row: RowId | None = None, rows: list[RowId] = []) -> None:  # noqa: B006
        """Compare."""

    schema = action_schema([compare], Ledger())
    choices = schema["properties"]["action"]["anyOf"]
    assert [list(each["properties"]["arguments"]["properties"]) for each in choices] == [
        ["unit"],
        ["reason", "note"],
    ]
    for seed in range(10):
        action = parse_action(written(random_llm, words, schema, seed)[0])[1]
        assert action is None or action.tool == "refuse" or compare.check(action.arguments)


ROWS_OF_ONE = action_schema([TOOLS["convert"]], ledger_of(1))


def test_forced_when_tokens_are_replayed_one_by_one_then_each_was_allowed(random_llm, words):
    constraint = JsonConstraint(words, ROWS_OF_ONE, random_llm.vocab_size)
    again = JsonConstraint(words, ROWS_OF_ONE, random_llm.vocab_size)
    random = np.random.default_rng(0)
    n_forced = 0
    while not constraint.finished:
        tokens = constraint.forced()
        n_forced += len(tokens)
        if not tokens:
            if constraint.finished:
                break
            tokens = [int(random.choice(np.flatnonzero(constraint.allowed())))]
            constraint.accept(tokens)
        for token in tokens:
            assert again.allowed()[token]
            again.accept([token])
    assert n_forced > 10
    assert again.finished


def test_forced_when_the_mask_alone_decides_then_the_text_is_the_same(random_llm, words):
    schema = {"type": "object", "properties": {"name": {"const": "search_summary"}}}
    schema |= {"required": ["name"], "additionalProperties": False}
    forced = JsonConstraint(words, schema, random_llm.vocab_size).forced()
    text = random_llm.tokenizer.decode(forced)
    assert text.startswith('{"name": "')
    for seed in range(5):  # token by token there are other ways to write it, and no other text
        random = np.random.default_rng(seed)
        constraint, tokens = JsonConstraint(words, schema, random_llm.vocab_size), []
        while not constraint.finished:
            tokens.append(int(random.choice(np.flatnonzero(constraint.allowed()))))
            constraint.accept(tokens[-1:])
        whole = random_llm.tokenizer.decode(tokens, skip_special_tokens=True)
        assert whole == '{"name": "search_summary"}'
        assert whole.startswith(text)


def test_chat_when_tokens_are_forced_then_the_model_is_asked_less_often(random_llm):
    n_passes = []
    hook = random_llm.model.register_forward_hook(lambda *_: n_passes.append(1))
    try:
        options = ChatOptions(2000, temperature=1.0, schema=ROWS_OF_ONE)
        reply = random_llm.chat([ASK], options)[0]
    finally:
        hook.remove()
    assert len(n_passes) < reply.usage.completion_tokens - 10
    n_passes.clear()
    fixed = {"type": "object", "properties": {"name": {"const": "a"}}, "required": ["name"]}
    reply = random_llm.chat([ASK], ChatOptions(schema=fixed))[0]
    assert (reply.text, reply.finish_reason) == ('{"name": "a"}', "stop")
    assert n_passes == []


@pytest.mark.parametrize("max_tokens", [1, 3, 8])
def test_chat_when_forced_tokens_reach_max_tokens_then_they_are_cut_there(random_llm, max_tokens):
    fixed = {"type": "object", "properties": {"name": {"const": "a long name of many tokens"}}}
    options = ChatOptions(max_tokens, schema=fixed | {"required": ["name"]})
    reply = random_llm.chat([ASK], options)[0]
    assert reply.finish_reason == "length"
    assert reply.usage.completion_tokens == max_tokens
    assert '{"name": "a long name of many tokens"}'.startswith(reply.text)


BOUNDS: list[tuple[dict[str, Any], Callable[[Any], bool]]] = [
    ({"type": "string"}, lambda value: len(value) <= 200),
    ({"type": "string", "maxLength": 5}, lambda value: len(value) <= 5),
    ({"type": "string", "minLength": 300}, lambda value: 300 <= len(value) <= 600),
    (
        {"type": "string", "pattern": "^[a-z]+$"},
        lambda value: len(value) <= 200 and value.islower(),
    ),
    ({"type": "string", "format": "uri"}, lambda value: len(value) <= 200),
    ({"type": "integer"}, lambda value: abs(value) <= 10**9),
    ({"type": "integer", "minimum": 3 * 10**9}, lambda value: value >= 3 * 10**9),
    ({"type": "number"}, lambda value: abs(value) <= 1e9 and round(value, 6) == value),
    ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, lambda value: 0 < value <= 1),
    ({"type": "number", "maximum": -3e9}, lambda value: value <= -3e9),
    ({"type": "array", "items": {"type": "boolean"}}, lambda value: len(value) <= 16),
    ({"type": "array", "items": {"type": "null"}, "minItems": 20}, lambda value: len(value) >= 20),
    ({"type": "array"}, lambda value: len(value) <= 16),
    ({"type": "array", "uniqueItems": True}, lambda value: len(value) <= 16),
    ({"type": "object"}, lambda value: len(value) <= 8 and max(map(len, value), default=0) <= 40),
    (
        {"type": "object", "additionalProperties": {"type": "integer"}},
        lambda value: len(value) <= 8,
    ),
    ({"type": ["string", "null"]}, lambda value: value is None or len(value) <= 200),
    ({}, lambda value: not isinstance(value, dict | list)),
]


@pytest.mark.parametrize(
    ("schema", "holds"), BOUNDS, ids=[json.dumps(schema) for schema, _ in BOUNDS]
)
def test_bounded_when_the_schema_names_no_limit_then_the_reply_ends(
    random_llm, words, schema, holds
):
    for seed in range(4):
        text, n_tokens = written(random_llm, words, {"anyOf": [schema]}, seed)
        value = json.loads(text)
        assert holds(value), value
        assert n_tokens < 3500
        jsonschema.validate(value, {**schema, "uniqueItems": False})


def test_bounded_when_applied_then_leaves_the_given_schema_alone():
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {}}}}
    before = json.dumps(schema)
    bounded(schema)
    assert json.dumps(schema) == before


def test_constraint_when_the_schema_is_not_understood_then_raises(random_llm, words):
    with pytest.raises(ModelError, match="grammar failed"):
        JsonConstraint(words, {"type": "string", "format": "no such"}, random_llm.vocab_size)


TYPES = st.sampled_from(
    [
        *(str, int, float, bool, list[str], list[int], dict[str, int], tuple[int, str], set[str]),
        *(int | str, Ordering, RowId, list[RowId], Any, list[list[float]]),
    ]
)


@st.composite
def signatures(draw: st.DrawFn) -> Tool:
    """A tool with random parameters, required and optional."""
    parameters = []
    for n in range(draw(st.integers(0, 5))):
        kind = draw(TYPES)
        optional = draw(st.booleans())
        default = None if optional else inspect.Parameter.empty
        annotation = kind | None if optional and kind is not Any else kind
        parameters.append((f"p{n}", annotation, default))

    def do(**_: object) -> None:
        """Do it."""

    do.__signature__ = inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            for name, _, default in parameters
        ]
    )
    do.__annotations__ = {name: annotation for name, annotation, _ in parameters}
    return tool(do)


@examples(60, few=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=signatures(), seed=st.integers(0, 10_000))
def test_constraint_when_a_tool_is_random_then_what_is_written_passes_its_check(
    random_llm, words, made, seed
):
    schema = made.parameters(LEDGER)
    value = json.loads(written(random_llm, words, schema, seed)[0])
    jsonschema.validate(value, schema | {"$comment": "uniqueItems is left to the tool"})
    made.check(value)


@pytest.mark.models
def test_chat_when_the_limit_is_near_then_the_action_comes_to_its_end(smol):
    for seed in range(3):
        options = ChatOptions(90, temperature=1.5, seed=seed, schema=SCHEMA)
        reply = smol.session().chat(ASK, options)
        assert reply.finish_reason == "stop", reply.text
        assert is_sound(reply.text)
