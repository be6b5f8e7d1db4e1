"""Check what the text of one example says: marks, placeholders, refusals, repeats. Finding ids.

The texts are hostile: each pattern needs time linear in their length (`*+` does not try again what
it has passed, and no run of blanks is crossed from each of its line breaks).
"""

import re
from typing import NamedTuple

from ft_tools.formats.example import Example, content_of
from ft_tools.formats.plain_html import HTML
from ft_tools.formats.plain_html import SIGNS as HTML_SIGNS
from ft_tools.similarity.words import folded

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069\ufffd]")
PLACEHOLDER = re.compile(r"\{\{\s*+[A-Za-z_][A-Za-z0-9_ .-]{0,40}+\s*+\}\}")
EMPTY_ANSWER = re.compile(
    r"(?:to ?do|tbd|fixme|n/?a|xxx+|\?+|\.{2,}|-+|_+|<?\s*no ?(?:output|input|answer|response)\s*>?"
    r"|not available|placeholder|insert (?:answer|text) here|your answer here|answer goes here"
    r"|<[a-z_ ]*(?:answer|output|response|placeholder)[a-z_ ]*>|\[(?:insert|answer|todo)[^\]]*\]"
    r"|(?:to be (?:added|written|completed|filled in))|lorem ipsum.*)[.!:]*",
    re.IGNORECASE | re.DOTALL,
)


class Rule(NamedTuple):
    """What is looked for: signs of which each match has one, in lower case, and the pattern.

    Plain search for the signs is many times faster.
    """

    signs: tuple[str, ...]
    pattern: re.Pattern[str]


def _rule(signs: str, pattern: str) -> Rule:
    return Rule(tuple(signs.split("  ")), re.compile(pattern, re.IGNORECASE))


MARKS: dict[str, list[Rule]] = {
    # Text that speaks to an assistant or a shell instead of being an example of the task.
    "instruction_like": [
        _rule(
            "ignore  disregard  forget  override  bypass",
            r"\b(?:ignore|disregard|forget|override|bypass)\b[^.\n]{0,40}"
            r"\b(?:previous|prior|preceding|above|earlier|all|any|your)\b[^.\n]{0,40}"
            r"\b(?:instruction|prompt|rule|guideline|message)s?\b",
        ),
        _rule("system prompt", r"\b(?:reveal|print|repeat|show)\b[^.\n]{0,30}\bsystem prompt\b"),
        _rule(
            "you are now",
            r"\byou are now (?:in )?(?:dan|developer mode|jailbroken|unrestricted)\b",
        ),
        _rule("rm -", r"\brm -rf? [/~*.]"),
        _rule("curl  wget", r"\b(?:curl|wget)\b[^\n|]{1,200}\|\s?(?:sudo )?(?:ba)?sh\b"),
        _rule("<system>  <i", r"<(?:system|instructions?|important)>"),
        _rule(
            "note to",
            r"\bnote to (?:the |any )?(?:ai|assistant|agent|model|llm)\b[^.\n]{0,30}:",
        ),
        _rule(
            "launch_  merge_and_  _dataset  _run",
            r"\b(?:call|run|use|invoke|execute)\b[^.\n]{0,20}\b(?:launch_(?:sft|dpo|grpo)"
            r"|merge_and_quantize|(?:audit|prepare)_dataset|(?:resume|cancel)_run)\b",
        ),
    ],
    "template_markers": [
        _rule(
            "<|  inst]  <<sys>>  <</sys>>  _of_turn>  ### ",
            r"<\|(?:im_start|im_end|endoftext|eot_id|start_header_id|end_of_text|assistant|user)\|>"
            r"|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|### (?:Instruction|Response):",
        )
    ],
}
"""Of what any turn says."""
SIGNS = {
    name: tuple(sign for signs, _ in several for sign in signs) for name, several in MARKS.items()
}
# The rest of a refusal may still help, so it is a warning.
REFUSAL = re.compile(
    r"(?:i'?m (?:really |very |truly )?sorry,? (?:but )?(?:i|as|this|that)"
    r"|sorry,? (?:but )?i (?:can'?t|cannot|am unable|won'?t)"
    r"|i (?:can'?t|cannot|am unable to|am not able to|won'?t|will not) "
    r"(?:help|assist|provide|fulfil|comply|answer|do that|create|generate|engage|support)"
    r"|i apologi[sz]e,? but|unfortunately,? (?:i (?:can|am)|as an ai)"
    r"|as an? (?:ai|artificial|large language|language) [a-z ]{0,30}?,? "
    r"i (?:can'?t|cannot|do not|don'?t|am unable|am not))",
    re.IGNORECASE,
)
"""How an answer opens that refuses."""
REPEATED_CHARS = re.compile(r"([^\s\-=_*#.~])\1{24,}")
REPEATED_DIGITS = re.compile(r"(\d)\1{11,}")
# A text without such a run has no repeated character, or digit; one that is not ASCII becomes `?`.
_SOLID = bytes(32 if chr(c).isspace() else 97 for c in range(256))
_DIGITS = bytes(48 if chr(c) in "0123456789?" else 32 for c in range(256))


def contents(example: Example) -> list[str]:
    """Check what every trained answer says, with what it answers; of marks, what any turn holds."""
    if example.text is not None:
        found = _marks(example.text)
        return [*found, "repeated_text"] if repeats(example.text.strip()) else found
    found = []
    if example.task == "sft":
        turns = example.messages
        answers = {at for at, turn in enumerate(turns) if turn["role"] == "assistant"}
    else:
        turns = [*example.messages, *example.chosen]
        answers = set(range(len(example.messages), len(turns)))
        # A bad answer may be anything; only what would break a trainer or a page is looked for.
        found += _marks("\n".join(map(content_of, example.rejected)))
    for at, turn in enumerate(turns):
        text = content_of(turn)
        found += _marks(text)
        if at in answers and (example.task != "kto" or example.label is not False):
            found += _answer(text)
    return found


def _answer(answer: str) -> list[str]:
    """Check what an answer says, besides marks."""
    stripped = answer.strip()
    found = ["repeated_text"] if repeats(stripped) else []
    if len(stripped) < 60 and EMPTY_ANSWER.fullmatch(stripped):
        found.append("placeholder_answer")
    found += ["refusal"] if REFUSAL.match(stripped) else []
    # Code between fences is what such an answer is about.
    if any(sign in stripped for sign in HTML_SIGNS) and "```" not in stripped:
        found += ["html_in_answers"] if HTML.search(stripped) else []
    return found


def _marks(text: str) -> list[str]:
    """Find characters and marks that belong in no text."""
    found = ["control_characters"] if _has_control(text) else []
    if has_placeholder(text):
        found.append("unfilled_placeholder")
    return found + _matching(text)


def _matching(text: str) -> list[str]:
    """Return the findings of which a rule matches."""
    holds = (text.lower() if text.isascii() else folded(text)).__contains__
    return [
        name
        for name, several in MARKS.items()
        if any(map(holds, SIGNS[name]))
        and any(any(map(holds, signs)) and pattern.search(text) for signs, pattern in several)
    ]


def _has_control(text: str) -> bool:
    """Return whether a control character stands in a text; few texts need the pattern to say so."""
    plain = text.replace("\n", " ").replace("\t", " ").replace("\r", " ")
    if plain.isprintable() and "\ufffd" not in plain:
        return False
    return CONTROL.search(text) is not None


def has_placeholder(text: str) -> bool:
    """Return whether a {{name}} was left in; template code is what an example may be about."""
    if "{{" in text and PLACEHOLDER.search(text):
        return "```" not in text and not _looks_like_code(text)
    return False


def repeats(text: str) -> bool:
    """Return whether a text repeats itself: a line or run of words over and over.

    >>> repeats("I like it very much. " * 6), repeats("one two three four five six")
    (True, False)
    """
    plain = text.encode("ascii", "replace")
    solid = plain.translate(_SOLID)
    if b"a" * 12 in solid:
        if b"a" * 25 in solid and REPEATED_CHARS.search(text):
            return True
        if b"0" * 12 in plain.translate(_DIGITS) and REPEATED_DIGITS.search(text):
            return True
    words = text.split()[:2000]
    if len(words) < 24:
        return False
    # Five words have nine characters or more.
    lines = [line for line in text.split("\n") if len(line) >= 9] if text.count("\n") >= 4 else []
    if len(set(lines)) < len(lines):
        lines = [line for line in lines if len(line.split()) >= 5]
        if len(lines) >= 5 and len(set(lines)) <= len(lines) / 2:
            return True
    # Each different word begins a run of five of its own.
    if len(set(words[:-4])) >= 0.4 * (len(words) - 4):
        return False
    fives = [tuple(words[at : at + 5]) for at in range(len(words) - 4)]
    return len(set(fives)) < 0.4 * len(fives)


def _looks_like_code(text: str) -> bool:
    return text.count("{") > 6 or "</" in text or "{%" in text
