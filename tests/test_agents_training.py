"""Demonstrations are right runs, learned as they are written; an adapter knows its prompts."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from dataclasses import asdict, replace

import pytest
from tiny_models import smol_llama

from ragkit import losses
from ragkit.agents.definition import AgentOptions, load_agent, load_definition
from ragkit.agents.materials.chemistry.properties import PROPERTIES
from ragkit.agents.materials.snapshot.backend import default_path
from ragkit.agents.planner import LLMPlanner, action_schema, name_tools, system_prompt, tools_digest
from ragkit.agents.steps import Action
from ragkit.agents.templates import TEMPLATES
from ragkit.agents.trained import adapter_of, trained_planner, why_not_trained
from ragkit.digests import text_digest
from ragkit.errors import ModelError, RagkitError
from ragkit.evaluation.materials.data import QuestionData
from ragkit.evaluation.materials.kinds import question_text
from ragkit.evaluation.materials.oracle import OraclePlanner
from ragkit.evaluation.materials.question import KINDS
from ragkit.evaluation.materials.questions import generate
from ragkit.evaluation.materials.scoring import judge
from ragkit.evaluation.materials.words import BENCHMARK
from ragkit.evaluation.splits import split_of
from ragkit.finetune import LoraOptions, TrainOptions
from ragkit.finetune.dialogues import Dialogue, DialogueTargets, dialogue_tokens
from ragkit.finetune.general import GENERAL
from ragkit.finetune.planner import promotion
from ragkit.finetune.planner.correct import Correcting, correct_agent
from ragkit.finetune.planner.corrections import Corrector
from ragkit.finetune.planner.demonstrations import (
    DemonstrationConfig,
    demonstrations,
    in_other_words,
)
from ragkit.finetune.planner.questions import training_questions
from ragkit.finetune.planner.recorder import Recorder, in_order
from ragkit.finetune.planner.training import AgentTraining, train_agent
from ragkit.finetune.planner.wordings import TRAINING, UNKNOWN
from ragkit.llms.adapters import read_metadata
from ragkit.llms.constrain import JsonConstraint
from ragkit.llms.local import LocalLLM
from ragkit.testing import ScriptedLLM
from ragkit.types import Message

MATERIALS = load_definition("materials")
BY_RULES = AgentOptions(llm="rules")
ROLE = MATERIALS.prompts["short"]
TINY = DemonstrationConfig(n_questions=20, n_follow_ups=3, n_paraphrased=2, seed=3)


def read_actions(dialogue, first=0):
    """What the assistant wrote, from a message on: {"name": …, "arguments": …}."""
    written = [each.content for each in dialogue.messages[first:] if each.role == "assistant"]
    return [json.loads(text)["action"] for text in written]


@pytest.fixture(scope="module")
def questions():
    return training_questions(default_path(), 60, seed=1)


@pytest.fixture(scope="module")
def recorded(questions):
    """The dialogues of all questions, alone and as a team."""
    found = {}
    for team in (False, True):
        recorder = Recorder(OraclePlanner(questions), ROLE)
        agent = load_agent("materials", AgentOptions(llm=recorder, team=team))
        verdicts = [judge(question, agent.run(question.text)) for question in questions]
        assert [v.why for v in verdicts] == [""] * len(questions)
        found[team] = recorder.dialogues
    return found


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny model with SmolLM2's tokenizer and chat template."""
    return smol_llama(
        tmp_path_factory.mktemp("tiny"), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048,
        bos_token_id=None, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip


# --- the questions


def test_training_questions_are_of_all_kinds_and_of_their_split(questions):
    kinds = Counter(question.kind for question in questions)
    assert set(kinds) == set(KINDS)
    assert len(questions) == pytest.approx(60, abs=15)
    for question in questions:
        assert all(split_of(key) == "train" for key in question.materials), question.text
        assert not question.materials & TRAINING.held_out


def bare(phrasings):
    return {re.sub(r"\W+", " ", each).strip().lower() for each in phrasings}


def test_training_and_benchmark_share_no_phrasing():
    benchmark, training = (
        bare(each for some in words.phrasings.values() for each in some)
        for words in (BENCHMARK, TRAINING)
    )
    assert not benchmark & training
    assert not set(BENCHMARK.classes) & set(TRAINING.classes)
    for sign, conditions in BENCHMARK.conditions.items():
        assert not set(conditions) & set(TRAINING.conditions[sign])


def test_training_wordings_fill_every_slot_that_the_benchmark_fills():
    data = QuestionData(default_path(), "train", replace(TRAINING, noise=0.0))

    def slots(phrasing):
        return {part.split("}")[0] for part in phrasing.split("{")[1:]}

    for kind, phrasings in BENCHMARK.phrasings.items():
        if kind in ("ambiguous", "irrelevant"):
            continue
        for wanted in map(slots, phrasings):
            values = {name: f"<{name}>" for name in wanted}
            text = question_text(data, random.Random(0), kind, **values)
            assert all(value in text for value in values.values()), (kind, wanted)


def test_a_supervisors_requests_follow_from_the_question(questions):
    """They repeat it, or are worded as always: a wording that was drawn could not be learned."""
    parts = [re.split(r"\{\w+\}", each) for each in set(TRAINING.requests.values())]
    worded = re.compile("|".join(".+".join(map(re.escape, each)) for each in parts))
    n_worded = 0
    for question in questions:
        for call in question.plan.calls:
            if call.request.removesuffix(" Look in the tables.") != question.text and call.request:
                assert worded.fullmatch(call.request), (question.text, call.request)
                n_worded += 1
    assert n_worded > 5


def test_unknown_properties_are_none_that_a_tool_has():
    known = {name.lower() for each in PROPERTIES for name in (each.name, *each.aliases)}
    known |= {phrase for each in TRAINING.properties.values() for phrase in each.phrases}
    known |= {phrase for each in TRAINING.measured.values() for phrase in each.phrases}
    assert not known & set(UNKNOWN)


def test_the_benchmarks_questions_are_those_that_were_measured():
    texts = [question.text for question in generate(default_path(), 10)]
    assert len(texts) == 120
    assert text_digest("\n".join(texts)) == "14ead1258a24c879333a41b869dea295"


# --- the dialogues


@pytest.mark.models
def test_a_dialogue_shows_what_a_model_would_be_shown_and_ends_with_an_action(recorded):
    for team, dialogues in recorded.items():
        assert (len({each.system for each in dialogues}) > 1) == team
        for each in dialogues:
            roles = [message.role for message in each.messages]
            assert roles[:2] == ["system", "user"]
            assert roles[-1] == "assistant"
            assert read_actions(each)[-1]["name"] in ("answer", "refuse")


@pytest.mark.models
def test_actions_are_written_in_the_order_that_the_grammar_has(recorded):
    tools = {tool.name: tool for tool in load_agent("materials", BY_RULES).offered}
    for each in recorded[False]:
        for action in read_actions(each):
            if action["name"] in tools:
                named = list(tools[action["name"]].parameters()["properties"])
                places = [named.index(name) for name in action["arguments"]]
                assert places == sorted(places)


@pytest.mark.models
@pytest.mark.parametrize("team", [False, True])
def test_what_is_learned_is_what_decoding_would_write(recorded, tiny, team):
    """The tokens under the grammar, forced ones too, are those of the training example."""
    llm = LocalLLM(str(tiny))
    known = llm._grammar_vocabulary()
    options = AgentOptions(llm=Recorder(OraclePlanner([]), ROLE), team=team)
    agent = load_agent("materials", options)
    by_prompt = {system_prompt(ROLE, agent.offered, "short"): agent.offered}
    checked = 0
    for dialogue in recorded[team][:40]:
        if dialogue.system not in by_prompt:
            continue
        first = next(m.content for m in dialogue.messages if m.role == "assistant")
        state = _first_state(agent)
        schema = action_schema(state.live, state.ledger, thought=False)
        constraint = JsonConstraint(known, schema, llm.vocab_size)
        expected = llm.tokenizer.encode(first, add_special_tokens=False)
        written = []
        while not constraint.finished:
            forced = constraint.forced()
            if forced:
                written += forced
                continue
            token = expected[len(written)]
            assert constraint.allowed()[token], (first, llm.tokenizer.decode(written))
            constraint.accept([token])
            written.append(token)
        assert written == expected
        checked += 1
    assert checked > 10


def _first_state(agent):
    seen = []

    class Spy:
        name = "spy"

        def begin(self):
            return self

        def next(self, state):
            seen.append(state)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(agent, planner=Spy()).run("?")
    return seen[0]


def test_in_order_keeps_arguments_that_the_schema_does_not_know():
    agent = load_agent("materials", BY_RULES)
    state = _first_state(agent)
    action = Action("search_summary", {"limit": 1, "odd": 2, "formula": "GaAs"})
    assert list(in_order(action, state).arguments) == ["formula", "limit", "odd"]


@pytest.mark.models
def test_dialogue_tokens_learn_the_assistants_turns_and_nothing_else(recorded, tiny):
    llm = LocalLLM(str(tiny))
    for each in recorded[False][:10]:
        system, tokens, learned = dialogue_tokens(llm, each)
        whole = llm.tokens(each.messages, reply=False)
        assert whole[: len(system) + len(tokens)] == system + tokens
        said = [token for token, flag in zip(tokens, learned, strict=True) if flag]
        written = "".join(m.content + "<|im_end|>" for m in each.messages if m.role == "assistant")
        assert llm.tokenizer.decode(said) == written
        assert learned[-1]


@pytest.mark.models
def test_targets_hold_every_dialogue_once_an_epoch_and_share_prompts(recorded, tiny):
    llm = LocalLLM(str(tiny))
    with losses.collect():
        targets = DialogueTargets(llm, recorded[False], seed=2)
    epochs = [targets.epoch(n) for n in (0, 0, 1)]
    assert epochs[0] == epochs[1]
    assert epochs[0] != epochs[2]
    for epoch in epochs:
        assert sum(len(each.targets) for each in epoch) == len(targets)
        assert all(each.n_tokens <= 1024 for each in epoch)
    parts = [dialogue_tokens(llm, each) for each in recorded[False]]
    assert targets.n_tokens < 0.8 * sum(len(system) + len(tokens) for system, tokens, _ in parts)


@pytest.mark.models
def test_targets_when_all_dialogues_are_too_long_say_so(recorded, tiny):
    n = len(recorded[False])
    none = f"none of the {n} dialogues fits"
    with losses.collect() as lost, pytest.raises(ValueError, match=none):
        DialogueTargets(LocalLLM(str(tiny)), recorded[False], max_tokens=50)
    assert lost[0].lost == str(n)


@pytest.mark.parametrize("roles", [[], ["user", "assistant"], ["system", "user"]])
def test_a_dialogue_of_other_roles_is_refused(roles):
    with pytest.raises(ValueError, match="expected a system message first"):
        Dialogue(tuple(Message(role, "x") for role in roles))


# --- prompts and training


def test_name_tools_groups_those_with_the_same_arguments():
    text = name_tools(load_agent("materials", BY_RULES).offered)
    assert "search_summary, search_thermo" in text
    assert "compare, average: rows" in text
    assert len(text.splitlines()) < 20


@pytest.mark.models
def test_demonstrations_are_kept_and_made_anew_for_another_config(tmp_path):
    file = tmp_path / "train.jsonl"
    made = demonstrations(MATERIALS, TINY, tmp_path, "train")
    before = file.read_bytes()
    assert demonstrations(MATERIALS, TINY, tmp_path, "train") == made
    assert file.read_bytes() == before
    other = demonstrations(MATERIALS, replace(TINY, seed=4), tmp_path, "train")
    assert other.dialogues != made.dialogues
    assert other.prompts.keys() & made.prompts.keys()
    assert json.loads(file.read_text().splitlines()[0]) != json.loads(before.splitlines()[0])


@pytest.mark.models
def test_a_follow_up_is_shown_what_was_said_before(tmp_path):
    config = replace(TINY, n_follow_ups=5, first_share=0.0)
    made = demonstrations(MATERIALS, config, tmp_path, "train").dialogues
    chats = [each for each in made if each.task == "follow-up"]
    assert chats
    for each in chats:
        roles = [message.role for message in each.messages]
        assert roles[:4] == ["system", "user", "assistant", "user"]
        asked, answer = each.messages[1].content, each.messages[2].content
        [call] = [a for a in read_actions(each, first=3) if a["name"] not in ("answer", "refuse")]
        assert call["arguments"]["formula"] in asked
        assert call["arguments"]["formula"] in answer


@pytest.mark.models
def test_first_share_cuts_runs_of_one_call_after_it(tmp_path):
    whole = demonstrations(MATERIALS, replace(TINY, first_share=0.0), tmp_path, "train").dialogues
    first = demonstrations(MATERIALS, replace(TINY, first_share=1.0), tmp_path, "train").dialogues
    lengths = set()
    for before, after in zip(whole, first, strict=True):
        n_turns = len(before.messages)  # system, question, then an action and what comes of it
        lengths.add(n_turns)
        kept = 3 if n_turns <= 5 else n_turns  # the rest learn the second call, too
        assert after.messages == before.messages[:kept]
    assert min(lengths) <= 5 < max(lengths)


@pytest.mark.parametrize(
    "wrong",
    [{"n_questions": 3}, {"first_share": 1.5}, {"team_share": -1}, {"n_paraphrased": -1}],
)
def test_configs_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="expected at least"):
        DemonstrationConfig(**wrong)


@pytest.mark.models
def test_paraphrases_are_learned_only_if_they_ask_for_the_same(tmp_path):
    [drawn] = generate(default_path(), 1, kinds=["lookup"], split="train", seed=8)
    call = drawn.plan.calls[0].arguments
    subject = call.get("formula") or call["material_ids"]
    phrase = TRAINING.properties[call["fields"]].phrases[0]
    asked = [replace(drawn, text=f"Tell me the {phrase} of {subject}, please.")]
    right, wrong = (f"Please show the {phrase} of {subject}{end}." for end in ("", "9"))
    ours = f"What is the {phrase} of {subject}?"  # as the benchmark says it
    kept = {}
    for text in (right, wrong, ours):
        (tmp_path / f"{len(kept)}").mkdir()
        with losses.collect():
            kept[text] = in_other_words(ScriptedLLM([text]), asked, tmp_path / f"{len(kept)}")
    assert [each.text for each in kept[right]] == [right]
    assert kept[wrong] == kept[ours] == []


def test_an_agent_without_materials_cannot_be_trained(tmp_path):
    other = MATERIALS.model_copy(update={"toolkits": ["calculator"]})
    with pytest.raises(RagkitError, match="questions are known for the materials tools only"):
        demonstrations(other, TINY, tmp_path, "train")


@pytest.mark.models
def test_training_when_stopped_goes_on_and_its_adapter_plans(tmp_path, tiny, monkeypatch):
    how = AgentTraining(
        TrainOptions(max_tokens=6_000, batch_tokens=2048, learning_rate=1e-2, warmup_tokens=0,
                     checkpoint_seconds=0),
        LoraOptions(rank=4), TINY, n_dev=20, base=str(tiny),
    )  # fmt: skip

    def stop(now):
        if now.tokens > 2_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_agent("materials", tmp_path, how, on_progress=stop)
    seen = []
    report = train_agent(
        "materials", tmp_path, how, on_progress=lambda now: seen.append(now.tokens)
    )
    assert seen[0] > 2_000
    assert report.stopped == "budget"
    adapter = tmp_path / "adapter"
    about = json.loads((adapter / "ragkit.json").read_text())
    assert (about["task"], about["agent"]) == ("agent", "materials")
    assert about["cost"]["tokens"] == report.tokens
    agent = load_agent("materials", BY_RULES)
    assert about["tools"][tools_digest(agent.offered)] == system_prompt(
        ROLE, agent.offered, "short"
    )
    assert about["templates"] == asdict(TEMPLATES)
    told = why_not_trained(MATERIALS.model_copy(update={"folder": tmp_path / "x"}), agent.offered)
    assert told == "it has no adapter"
    planner = trained_planner(MATERIALS, adapter)
    run = replace(agent, planner=planner, limits=replace(agent.limits, max_steps=2)).run("Hi?")
    assert run.usage.completion_tokens > 0
    changed = replace(agent, planner=planner, permissions={"element": "deny"})
    with pytest.raises(ModelError, match="trained with other tools"):
        changed.run("Hi?")
    other = MATERIALS.model_copy(update={"name": "sales"})
    with pytest.raises(ModelError, match="trained for the agent 'materials', not for 'sales'"):
        trained_planner(other, adapter)
    _check_promotion(tmp_path, monkeypatch)
    _check_correction(tmp_path)


def test_the_shipped_card_tells_every_round():
    folder = adapter_of(MATERIALS)
    card, rounds = (folder / "README.md").read_text(), [read_metadata(folder)]
    while before := rounds[-1]["start"]:
        rounds.append(before)
    assert len(rounds) > 1
    assert all(f"{each['cost']['tokens']:,} tokens" in card for each in rounds)


def _check_promotion(folder, monkeypatch):
    """A model that learned nothing is tested once, and not promoted; its card says so."""
    monkeypatch.setattr(promotion, "GENERAL", GENERAL[:2])
    seen = []

    report = promotion.promote(
        "materials", folder, n_questions=12, on_question=lambda *n: seen.append(n)
    )
    assert seen[-1] == (28, 28)
    assert not report.promoted
    card = (folder / "adapter" / "README.md").read_text()
    assert "Not promoted: no significant gain on held-out questions" in card
    assert "| held-out questions | 12 |" in card
    assert re.search(r"It took [\d,]+ tokens in\n\d+ minutes on .+, \d+ cores\.", card)
    for file in (folder / "gate-before.jsonl", folder / "gate-after.jsonl"):
        kept = file.read_text()
        assert len(kept.splitlines()) == 15
        file.write_text(kept[:-20])  # a process that was killed while it wrote
        assert promotion.promote("materials", folder, n_questions=12) == report
        assert file.read_text() == kept
    shipped = folder / "shipped" / "materials"
    shipped.mkdir(parents=True)
    (folder / "adapter").rename(shipped / "adapter")
    there = MATERIALS.model_copy(update={"folder": folder / "shipped"})
    offered = load_agent("materials", BY_RULES).offered
    assert why_not_trained(there, offered) == "its adapter did not pass the gate"
    with pytest.raises(ModelError, match="did not pass the gate"):
        trained_planner(there)
    about = json.loads((shipped / "adapter" / "ragkit.json").read_text())
    (shipped / "adapter" / "ragkit.json").write_text(json.dumps(about | {"promoted": True}))
    assert why_not_trained(there, offered) == ""
    assert why_not_trained(there, offered[1:]) == "its adapter was trained with other tools"
    (shipped / "adapter").rename(folder / "adapter")


@pytest.mark.models
def test_a_short_planner_without_known_prompts_takes_any(tiny):
    agent = load_agent("materials", BY_RULES)
    planner = LLMPlanner(LocalLLM(str(tiny)), ROLE, "short")
    limits = replace(agent.limits, max_steps=1)
    run = replace(agent, planner=planner, limits=limits).run("Which is it?")
    assert run.final.exit_reason in ("max_steps", "refused", "answered")


def test_why_not_trained_says_what_is_missing(tmp_path):
    bare = MATERIALS.model_copy(update={"folder": tmp_path})
    assert why_not_trained(bare, load_agent("materials", BY_RULES).offered) == "it has no adapter"
    (tmp_path / "materials" / "adapter").mkdir(parents=True)
    assert "is not a ragkit adapter" in why_not_trained(
        bare, load_agent("materials", BY_RULES).offered
    )


def _check_correction(folder):
    """Its pairs are sampled once; an adapter that does not get better stays as it is."""
    before = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
    how = Correcting(
        n_questions=6, n_samples=1, n_dev=6, lora=LoraOptions(rank=4),
        train=TrainOptions(max_tokens=8_000, batch_tokens=4096, warmup_tokens=0, patience=1),
    )  # fmt: skip
    made = correct_agent("materials", folder, how)
    assert made.n_steps >= 6
    assert 0 < made.n_pairs <= made.n_wrong
    assert made.after is not None
    kept = (folder / "pairs.jsonl").read_bytes()
    if not made.taken:
        assert (folder / "adapter" / "adapter_model.safetensors").read_bytes() == before
        assert correct_agent("materials", folder, how) == made
        assert (folder / "pairs.jsonl").read_bytes() == kept


# --- corrections


@pytest.mark.models
def test_corrections_are_a_students_wrong_samples_beside_the_right_action(tiny):
    asked = training_questions(default_path(), 20, seed=5)[:3]
    llm = LocalLLM(str(tiny))
    corrector = Corrector(OraclePlanner(asked), LLMPlanner(llm, ROLE, "short"), n_samples=2)
    agent = load_agent("materials", AgentOptions(llm=corrector))
    for question in asked:
        assert judge(question, agent.run(question.text)).correct
    assert corrector.n_steps >= len(asked)
    assert corrector.n_steps < corrector.n_wrong <= 2 * corrector.n_steps  # random weights
    assert len(corrector.pairs) <= corrector.n_wrong
    for pair in corrector.pairs:
        assert llm.tokenizer.decode(list(pair.prompt)).endswith("<|im_start|>assistant\n")
        right, wrong = (json.loads(llm.tokenizer.decode(list(each)))["action"]
                        for each in (pair.chosen, pair.rejected))  # fmt: skip
        assert right != wrong


@pytest.mark.models
def test_corrections_do_not_take_another_order_of_arguments_for_an_error(tiny, monkeypatch):
    [question] = generate(default_path(), 1, kinds=["lookup"], split="train")

    corrector = Corrector(OraclePlanner([question]), LLMPlanner(LocalLLM(str(tiny)), ROLE, "short"))
    agent = load_agent("materials", AgentOptions(llm=corrector))
    state = _first_state(agent)
    call = question.plan.calls[0]
    given = dict(reversed(list(call.arguments.items())))
    written = json.dumps({"action": {"name": call.tool, "arguments": given}})
    right = json.dumps({"action": {"name": call.tool, "arguments": dict(call.arguments)}})
    monkeypatch.setattr(Corrector, "_samples", lambda *_: [written])
    corrector.correct(state, right)
    assert (corrector.n_steps, corrector.n_wrong, corrector.pairs) == (1, 0, [])
