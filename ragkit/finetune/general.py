"""General questions and requests, to measure what training for one task costs a model elsewhere.

Small models answer only some of them correctly; the change caused by training is what counts. A
model's own replies to `REPLAY` can be mixed into its training data, so that it keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragkit.finetune.dialogues import Dialogue
from ragkit.types import ChatOptions, Message

if TYPE_CHECKING:
    from ragkit.types import LLM

SYSTEM = "You are a helpful assistant."
_REPLY = ChatOptions(max_tokens=40)
_REPLAY_REPLY = ChatOptions(max_tokens=100)


@dataclass(frozen=True, slots=True)
class GeneralQuestion:
    """A request whose reply can be checked.

    Attributes:
        text: The request.
        pattern: Regular expression, ignoring case, that a right reply contains.
    """

    text: str
    pattern: str


def _parse(lines: str) -> tuple[GeneralQuestion, ...]:
    parts = [line.strip().rsplit(" => ", 1) for line in lines.strip().splitlines()]
    return tuple(GeneralQuestion(text, pattern) for text, pattern in parts)


GENERAL = _parse(r"""
    What is the capital of France? => paris
    What is the capital of Japan? => tokyo
    What is the capital of Germany? => berlin
    What is the capital of Spain? => madrid
    What is the largest planet in our solar system? => jupiter
    Which planet is closest to the sun? => mercury
    How many days are in a week? => seven|7
    How many months are in a year? => twelve|12
    What colour do you get from blue and yellow? => green
    What is the opposite of hot? => \bcold\b
    What is the opposite of up? => down
    What do bees make? => honey
    What is frozen water called? => \bice\b
    Which animal barks? => dog
    How many legs does a spider have? => eight|8
    What is 2 + 3? => five|5
    What is 10 - 4? => six|6
    What is 3 times 3? => nine|9
    Who wrote Romeo and Juliet? => shakespeare
    In which country are the pyramids of Giza? => egypt
    What gas do plants take in from the air? => carbon dioxide|co2
    What is the largest ocean on Earth? => pacific
    On which continent is Brazil? => south america
    What is the first letter of the alphabet? => letter .*\ba\b|^\W*a\W*$
    What is the plural of "mouse"? => mice
    Is fire hot or cold? => ^(?!.*hot or cold).*\bhot\b
    Which season comes after winter? => spring
    What is the past tense of "go"? => went
    How many sides does a triangle have? => three|3
    Which metal is liquid at room temperature? => mercury
    Answer with yes or no: is the sun a star? => ^\W*yes\b
    Answer with yes or no: can a fish drive a car? => ^\W*no\b
    Write the word "hello" three times. => hello\W+hello\W+hello
    Name three fruits, separated by commas. => \w+, \w+,
    Write a sentence that ends with a question mark. => \?
    Write the numbers from one to five. => 1\D+2\D+3\D+4\D+5|one\W+two\W+three\W+four\W+five
    Give a list of two colours, each on a line of its own that begins with a dash. => -.*\n+-
    Reply with a single word: the colour of grass. => ^\W*green\W*$
    Put the word apple in quotation marks. => ["'\u201c]apple
    Write today's greeting in capital letters: good morning. => (?-i:GOOD MORNING)
""")

REPLAY = tuple(
    line.strip()
    for line in """
    Explain what a book is in one sentence.
    What is a friend?
    Why do we sleep?
    How do birds fly?
    What is music?
    Give me one tip for learning a language.
    Write a two-line poem about rain.
    What is the meaning of the word "brave"?
    Thank you for your help.
    Hello!
    Describe a cat in one sentence.
    Why is the sky blue?
    What does a doctor do?
    How can I sleep better?
    Tell me something about horses.
    What should I pack for a day at the beach?
    Write a short message to a friend who is ill.
    What makes a good teacher?
    Why do leaves fall from trees?
    Say something nice.
    How do I boil an egg?
    What is the difference between a lake and a river?
    Describe the taste of a lemon.
    Why do people travel?
    Suggest a name for a puppy.
    What is a museum?
    How does a bicycle stay upright?
    Write one sentence about the moon.
    What would you do on a rainy day?
    Good night!
    What is the capital of Italy?
    What is the capital of Canada?
    Which planet has rings?
    How many hours are in a day?
    How many minutes are in an hour?
    What colour is the sea?
    What is the opposite of big?
    What is the opposite of old?
    What do cows give us?
    Which animal meows?
    How many legs does an insect have?
    What is 4 + 4?
    What is 9 - 3?
    What is 2 times 5?
    Who painted the Mona Lisa?
    In which country is the Eiffel Tower?
    What do we breathe?
    What is the longest river in the world?
    On which continent is Egypt?
    What is the last letter of the alphabet?
    What is the plural of "child"?
    Is ice warm or cold?
    Which month comes after June?
    What is the past tense of "see"?
    How many sides does a square have?
    Which metal is used for jewellery?
    Answer with yes or no: is water wet?
    Answer with yes or no: can a dog fly?
    Write the word "yes" two times.
    Name three animals, separated by commas.
    Write a question about the weather.
    Count from one to three.
    Give a list of two animals, each on a line of its own that begins with a dash.
    Reply with a single word: the colour of snow.
    Put the word house in quotation marks.
    Write in capital letters: see you soon.
    Reply with one number: how many eyes does a person have?
    Finish the sentence: the early bird catches the
    Translate "thank you" into French.
    Is 7 larger than 3?
    """.strip().splitlines()
)  # fmt: skip


def general_scores(
    llm: LLM,
    questions: Sequence[GeneralQuestion] = GENERAL,
    on_question: Callable[[], None] = lambda: None,
) -> list[float]:
    """Return 1.0 for each question whose reply (greedy, 40 tokens) is right, else 0.0."""
    scores = []
    for question in questions:
        reply = llm.chat([_messages(question.text)], _REPLY)[0].text
        match = re.search(question.pattern, reply, re.IGNORECASE | re.MULTILINE)
        scores.append(float(match is not None))
        on_question()
    return scores


def replay_dialogues(llm: LLM, questions: Sequence[str] = REPLAY) -> list[Dialogue]:
    """Return the model's own replies to general questions, as dialogues to train on.

    After SELF-GUIDE (Zhao et al. 2024), where the student writes its own training data.
    """
    dialogues = []
    for text in questions:
        reply = llm.chat([_messages(text)], _REPLAY_REPLY)[0]
        # Training on truncated replies would teach the model to stop short.
        if reply.text.strip() and reply.finish_reason == "stop":
            messages = (*_messages(text), Message("assistant", reply.text))
            dialogues.append(Dialogue(messages, "general"))
    return dialogues


def _messages(text: str) -> list[Message]:
    return [Message("system", SYSTEM), Message("user", text)]
