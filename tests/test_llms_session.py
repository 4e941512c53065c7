"""Sessions and their key-value caches: fewer tokens are read, and replies do not change."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from tiers import smoke
from tiny_models import smol_llama, torch

from ragkit.llms.generating import Session
from ragkit.llms.kv_cache import KVCache
from ragkit.llms.llama import LlamaLLM
from ragkit.llms.local import LocalLLM
from ragkit.llms.session import open_session
from ragkit.testing import ScriptedLLM
from ragkit.types import ChatOptions, Message, Reply, Usage

SYSTEM = Message("system", "You answer with tools.")
FIRST = [SYSTEM, Message("user", "Question: the gap of GaAs?")]
SECOND = [*FIRST, Message("assistant", "look"), Message("user", "Observation:\n| r1: 0.186 eV")]
OTHER = [SYSTEM, Message("user", "Question: the gap of silicon, please?")]
ELSEWHERE = [Message("system", "You are another agent."), Message("user", "Hello")]


@pytest.fixture(scope="module", params=smoke([LlamaLLM, LocalLLM], tier="models"))
def llm(request, tmp_path_factory) -> LocalLLM | LlamaLLM:
    """Two layers of random weights, SmolLM2's tokenizer, a window of 192; by both engines."""
    folder = smol_llama(
        tmp_path_factory.mktemp("random"), hidden_size=32, intermediate_size=32,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=192, tie_word_embeddings=True,
    )  # fmt: skip
    kinds = {LocalLLM: lambda: LocalLLM(str(folder), dtype="float32")}
    return kinds.get(request.param, lambda: LlamaLLM(str(folder)))()


@pytest.fixture(autouse=True)
def one_thread():
    """More threads than one cost more than they save on a model this small."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def read(llm, monkeypatch):
    """The number of tokens of each forward pass, as they happen."""
    lengths: list[int] = []
    reads = llm._engine.read

    def noted(tokens: Sequence[int], cache: object) -> object:
        lengths.append(len(tokens))
        return reads(tokens, cache)

    monkeypatch.setattr(llm._engine, "read", noted)
    return lengths


def drawn(seed: int, max_tokens: int = 8) -> ChatOptions:
    return ChatOptions(max_tokens, temperature=1.0, seed=seed)


def told(session: Session, *conversations: Sequence[Message]) -> list[Reply]:
    return [session.chat(each, drawn(seed)) for seed, each in enumerate(conversations)]


def test_session_when_others_ran_before_then_gives_the_same_bytes(llm):
    alone = told(llm.session(), FIRST, SECOND, OTHER)
    told(llm.session(), ELSEWHERE)
    told(llm.session(), OTHER, FIRST)
    assert told(llm.session(), FIRST, SECOND, OTHER) == alone


def test_session_when_two_take_turns_then_neither_hears_the_other(llm):
    alone = [told(llm.session(), FIRST, SECOND), told(llm.session(), OTHER, ELSEWHERE)]
    one, two = llm.session(), llm.session()
    mixed: list[list[Reply]] = [[], []]
    for seed, pair in enumerate([(FIRST, OTHER), (SECOND, ELSEWHERE)]):
        for at, (session, conversation) in enumerate(zip((one, two), pair, strict=True)):
            mixed[at].append(session.chat(conversation, drawn(seed)))
    assert mixed == alone


def test_session_when_two_run_in_threads_then_each_is_as_alone(llm):
    alone = told(llm.session(), FIRST, SECOND)
    results: list[list[Reply]] = []
    threads = [
        threading.Thread(target=lambda: results.append(told(llm.session(), FIRST, SECOND)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [alone] * 3


@pytest.mark.parametrize(
    "earlier", [[FIRST], [OTHER], [ELSEWHERE], [FIRST, OTHER], [OTHER, FIRST, SECOND]], ids=len
)
def test_session_when_prompts_diverge_then_replies_are_those_of_a_fresh_one(llm, earlier):
    session = llm.session()
    told(session, *earlier)
    greedy = ChatOptions(12)
    assert session.chat(SECOND, greedy) == llm.session().chat(SECOND, greedy)
    assert session.chat(SECOND, greedy) == llm.chat([SECOND], greedy)[0]


def test_session_when_the_prompt_grows_then_reads_only_what_is_new(llm, read):
    system = [Message("system", "Only in this test."), FIRST[1]]
    longer = [*system, *SECOND[2:]]
    session = llm.session()
    session.chat(system, ChatOptions(1))
    n_first = llm.count_tokens(system)
    assert (len(read), sum(read)) == (2, n_first)  # the system message, then the rest
    n_system = read[0]
    read.clear()
    session.chat(longer, ChatOptions(1))
    assert read == [llm.count_tokens(longer) - n_first]
    read.clear()
    llm.session().chat(system, ChatOptions(1))
    assert read == [n_first - n_system]


def test_session_when_asked_the_same_again_then_reads_one_token(llm, read):
    session = llm.session()
    first = session.chat(FIRST, ChatOptions(1))
    read.clear()
    assert session.chat(FIRST, ChatOptions(1)) == first
    assert read == [1]


def test_session_when_used_then_usage_counts_the_whole_prompt(llm):
    session = llm.session()
    for conversation in (FIRST, SECOND, FIRST):
        reply = session.chat(conversation, drawn(1, 5))
        assert reply.usage == Usage(llm.count_tokens(conversation), 5)


def test_session_when_the_window_is_full_then_says_so_and_goes_on(llm):
    session = llm.session()
    before = session.chat(FIRST, drawn(3))
    with pytest.raises(ValueError, match=r"the context window of .* is 192"):
        session.chat([SYSTEM, Message("user", "word " * 200)], drawn(3))
    assert session.chat(FIRST, drawn(3)) == before
    reply = session.chat(FIRST, ChatOptions(1000))
    assert reply.usage.completion_tokens == 192 - llm.count_tokens(FIRST)
    assert reply.finish_reason == "length"
    assert session.chat(FIRST, drawn(3)) == before


def test_session_when_there_is_no_system_message_then_works_as_well(llm):
    plain = [Message("user", "Hello")]
    greedy = ChatOptions(6)
    session = llm.session()
    assert session.chat(plain, greedy) == llm.chat([plain], greedy)[0]
    assert session.chat(FIRST, greedy) == llm.session().chat(FIRST, greedy)


def test_session_when_there_is_a_schema_then_forced_tokens_need_no_pass(llm, read):
    fixed = {"type": "object", "properties": {"name": {"const": "search"}}, "required": ["name"]}
    session = llm.session()
    reply = session.chat(FIRST, ChatOptions(schema=fixed))
    assert reply.text == '{"name": "search"}'
    assert sum(read) < llm.count_tokens(FIRST)  # at most the system message
    read.clear()
    choice = {"enum": ["left", "right"]}
    answers = [session.chat(each, ChatOptions(schema=choice)).text for each in (FIRST, SECOND)]
    assert {*answers} <= {'"left"', '"right"'}
    assert answers == [
        llm.session().chat(each, ChatOptions(schema=choice)).text for each in (FIRST, SECOND)
    ]


def test_prefixes_when_many_agents_run_then_four_are_kept(llm):
    for n in range(9):
        llm.session().chat([Message("system", f"Agent {n}."), Message("user", "Hi")], drawn(0, 1))
    assert len(llm._prefixes) == 4


def test_kv_cache_when_copied_then_neither_changes_the_other(llm):
    cache = KVCache(llm._engine.new_cache())
    llm._read([5, 6, 7], cache)
    twin = cache.copy()
    expected = llm._read([8], cache.copy())
    llm._read([9, 9, 9, 9], twin)
    assert (cache.tokens, twin.tokens) == ([5, 6, 7], [5, 6, 7, 9, 9, 9, 9])
    np.testing.assert_array_equal(llm._read([8], cache), expected)


def test_kv_cache_when_truncated_then_leaves_at_least_one_token_to_read(llm):
    cache = KVCache(llm._engine.new_cache())
    assert cache.truncate([1, 2, 3]) == [1, 2, 3]
    llm._read([1, 2, 3, 4, 5], cache)
    assert (cache.truncate([1, 2, 9, 9]), cache.tokens) == ([9, 9], [1, 2])
    same_as_fresh(llm, cache, [9, 9])
    assert (cache.truncate([1, 2, 9, 9]), cache.tokens) == ([9], [1, 2, 9])
    same_as_fresh(llm, cache, [9])
    assert (cache.truncate([7]), cache.tokens) == ([7], [])
    same_as_fresh(llm, cache, [7])


def same_as_fresh(llm: LocalLLM | LlamaLLM, cache: KVCache, more: list[int]) -> None:
    """Assert that the logits equal those of a fresh cache."""
    before = list(cache.tokens)
    fresh = llm._read([*before, *more], KVCache(llm._engine.new_cache()))
    np.testing.assert_allclose(llm._read(more, cache), fresh, atol=1e-5)


def test_kv_cache_when_it_outgrows_its_buffer_then_continues(llm):
    cache, tokens = KVCache(llm._engine.new_cache()), [n % 97 for n in range(700)]
    for start in range(0, 700, 50):  # the buffer doubles twice
        llm._read(tokens[start : start + 50], cache)
    again = KVCache(llm._engine.new_cache())
    llm._read(tokens, again)
    np.testing.assert_allclose(llm._read([3], cache), llm._read([3], again), atol=1e-4)


def test_open_session_when_a_model_has_no_cache_then_sends_each_conversation():
    scripted = ScriptedLLM(["one", "two"])
    session = open_session(scripted)
    assert [session.chat(FIRST, ChatOptions()).text for _ in range(2)] == ["one", "two"]
    assert scripted.conversations == [tuple(FIRST), tuple(FIRST)]
