"""Check what the text of one example says: marks, placeholders, refusals, repeats. Finding ids.

The texts are hostile: each pattern needs time linear in their length (`*+` does not try again what
it has passed, and no run of blanks is crossed from each of its line breaks).
"""

import re
import unicodedata

from ft_tools.formats.example import Example, content_of
from ft_tools.similarity.words import tokens_of

PLACEHOLDER = re.compile(r"\{\{\s*+[A-Za-z_][A-Za-z0-9_ .-]{0,40}+\s*+\}\}")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069\ufffd]")
MARKERS = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id|start_header_id|end_of_text|assistant|user)\|>"
    r"|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|### (?:Instruction|Response):"
)
MARKER_WORDS = frozenset({"|", "#", "inst", "sys", "start_of_turn", "end_of_turn"})
EMPTY_ANSWER = re.compile(
    r"(?:to ?do|tbd|fixme|n/?a|xxx+|\?+|\.{2,}|-+|_+|<?\s*no ?(?:output|input|answer|response)\s*>?"
    r"|not available|placeholder|insert (?:answer|text) here|your answer here|answer goes here"
    r"|<[a-z_ ]*(?:answer|output|response|placeholder)[a-z_ ]*>|\[(?:insert|answer|todo)[^\]]*\]"
    r"|(?:to be (?:added|written|completed|filled in))|lorem ipsum.*)[.!:]*",
    re.IGNORECASE | re.DOTALL,
)
# Openings of refusals; the rest of the answer may still help, so it is a warning.
REFUSAL = re.compile(
    r"^\s*(?:i'?m (?:really |very |truly )?sorry,? (?:but )?(?:i|as|this|that)"
    r"|sorry,? (?:but )?i (?:can'?t|cannot|am unable|won'?t)"
    r"|i (?:can'?t|cannot|am unable to|am not able to|won'?t|will not) "
    r"(?:help|assist|provide|fulfil|comply|answer|do that|create|generate|engage|support)"
    r"|i apologi[sz]e,? but|unfortunately,? (?:i (?:can|am)|as an ai)"
    r"|as an? (?:ai|artificial|large language|language) [a-z ]{0,30}?,? "
    r"i (?:can'?t|cannot|do not|don'?t|am unable|am not))",
    re.IGNORECASE,
)


Patterns = dict[str, list[re.Pattern[str]]]
"""Word, as `tokens_of` gives it -> patterns of which it is a part."""


def _patterns(*pairs: tuple[str, str]) -> Patterns:
    """Return patterns by their words; each is given with the words of which one is in its match."""
    found: Patterns = {}
    for words, pattern in pairs:
        for word in words.split():
            found.setdefault(word, []).append(re.compile(pattern, re.IGNORECASE))
    return found


# The words of a text are looked up at once, and few texts have one that leads to a pattern.
BOILERPLATE = _patterns(
    (
        "ai artificial language",
        r"\bas an? (?:ai|artificial intelligence|large language model|language model)\b",
    ),
    ("knowledge training", r"\bmy (?:knowledge|training) (?:cut-?off|data (?:ends|goes))\b"),
    (
        "personal ability access",
        r"\bi (?:do not|don't) have (?:personal|the ability to|access to real-time)\b",
    ),
)
# Their words are common, so one of these must be there, too.
BOILERPLATE_STARTS = ("as an a", "as an l", "as a a", "as a l", "my knowl", "my train", "i do")
# What other models leave behind: their names, their manners, and marks of their chat pages.
GENERATED = _patterns(
    (
        "chatgpt gpt gpt3 gpt4 gpt5 openai anthropic claude vicuna",
        r"\b(?:chatgpt|gpt-?[345]|openai|anthropic|claude|vicuna)\b",
    ),
    (" ".join(["llama", *(f"llama{digit}" for digit in range(10))]), r"\bllama[- ]?[0-9]\b"),
    ("ai", r"as an ai language model"),
    ("last", r"as of my last (?:knowledge )?update"),
    ("hope", r"i hope this helps"),
    ("anything", r"is there anything else i can help"),
    (
        "certainly sure absolutely course",
        r"^(?:certainly|sure|absolutely|of course)! (?:here|below|i'd|let)",
    ),
    ("think thinking", r"</?think(?:ing)?>"),
    ("regenerate", r"\bregenerate response\b"),
    ("copy", r"\bcopy code\n"),
)
# What may stand within a longer word, with what is in it.
CHAT_MARKS = [
    (mark, re.compile(by, re.IGNORECASE))
    for mark, by in (
        ("turn", r"turn\d+(?:search|view|news)\d+"),
        ("oaicite", r"oaicite"),
        ("reference[", r"contentreference\["),
        ("utm_source", r"utm_source=(?:chatgpt|openai)"),
        ("\u3010", r"\u3010\d+[:\u2020]"),
    )
]
# Text that speaks to an assistant or a shell instead of being an example of the task.
INSTRUCTION_LIKE = _patterns(
    (
        "ignore disregard forget override bypass",
        r"\b(?:ignore|disregard|forget|override|bypass)\b[^.\n]{0,40}"
        r"\b(?:previous|prior|preceding|above|earlier|all|any|your)\b[^.\n]{0,40}"
        r"\b(?:instruction|prompt|rule|guideline|message)s?\b",
    ),
    ("prompt", r"\b(?:reveal|print|repeat|show)\b[^.\n]{0,30}\bsystem prompt\b"),
    (
        "dan developer jailbroken unrestricted",
        r"\byou are now (?:in )?(?:dan|developer mode|jailbroken|unrestricted)\b",
    ),
    ("rm", r"\brm -rf? [/~*.]"),
    ("curl wget", r"\b(?:curl|wget)\b[^\n|]{1,200}\|\s?(?:sudo )?(?:ba)?sh\b"),
    ("system instruction instructions important", r"<(?:system|instructions?|important)>"),
    (
        "note",
        r"\bnote to (?:the |any )?(?:ai|assistant|agent|model|llm)\b[^.\n]{0,30}:",
    ),
    (
        "launch_sft launch_dpo merge_and_quantize audit_dataset prepare_dataset resume_run "
        "cancel_run",
        r"\b(?:call|run|use|invoke|execute)\b[^.\n]{0,20}\b(?:launch_(?:sft|dpo)"
        r"|merge_and_quantize|(?:audit|prepare)_dataset|(?:resume|cancel)_run)\b",
    ),
)
UNSEEN = re.compile(
    r"\b(?:this|the (?:following|attached|given|above|linked)|attached|see the) "
    r"(?:image|picture|photo|photograph|video|audio|screenshot|figure|diagram|chart|link|url|pdf"
    r"|website|web page|attachment)\b"
    r"|<(?:image|video|audio)>|!\[[^\]]{0,200}+\]\(",
    re.IGNORECASE,
)
UNSEEN_WORDS = frozenset(
    {"image", "picture", "photo", "photograph", "video", "audio", "screenshot", "figure", "diagram"}
    | {"chart", "link", "url", "pdf", "website", "page", "attachment"}
)
# An address that the answer is to be read from. The model gets its letters only.
OPEN_LINK = re.compile(
    r"\b(?:summari[sz]e|read|open|visit|browse|analy[sz]e|translate|review|according to|based on"
    r"|from|at)\b[^\n]{0,80}https?://",
    re.IGNORECASE,
)
HEADING = re.compile(
    r"(?:^|\n)[^\S\n]*+(?:#{1,6}[^\S\n]*+)?(?:\d{1,3}[.)][^\S\n]*+)?"
    r"(instruction|task|question|prompt|input|output|response|answer)\s*+\d*+\s*+:",
    re.IGNORECASE,
)
ASKING = {"instruction", "task", "question", "prompt"}
# Prompts that want such headings.
WANTS_HEADINGS = re.compile(
    r"quiz|faq|q&a|question|instruction|prompt|task|interview|flash ?card|example|format|template",
    re.IGNORECASE,
)
REPEATED_CHARS = re.compile(r"([^\s\-=_*#.~])\1{24,}")
REPEATED_DIGITS = re.compile(r"(\d)\1{11,}")
# A text without such a run has no repeated character, or digit; one that is not ASCII becomes `?`.
_SOLID = bytes(32 if chr(c).isspace() else 97 for c in range(256))
_DIGITS = bytes(48 if chr(c) in "0123456789?" else 32 for c in range(256))
SENTENCE_ENDS = (
    *".!?:;)]}\"'`*>|",
    *"\u3002\uff01\uff1f\u300d\u300f\uff09\u3011\u2026\u201d\u2019",
)
TRUNCATED_CHARS = 400
SHORT_WORDS = 3
TELLING = MARKER_WORDS.union(UNSEEN_WORDS, BOILERPLATE, GENERATED, INSTRUCTION_LIKE)
"""Words that some check looks for."""


def contents(example: Example, said: frozenset[str] | None = None) -> list[str]:
    """Check what every trained answer says, with what it answers; of marks, what any turn holds.

    Args:
        example: What is checked.
        said: The telling words among what its turns say, or more; without it they are looked up.
    """
    if example.text is not None:
        return content("", example.text, is_text=True, said=said)
    found: list[str] = []
    if example.task == "sft":
        turns = example.messages
        answers = {at for at, turn in enumerate(turns) if turn["role"] == "assistant"}
    else:
        turns = [*example.messages, *example.chosen]
        answers = set(range(len(example.messages), len(turns)))
        # A bad answer may be anything; only what would break a trainer or a page is looked for.
        found += _marks("\n".join(map(content_of, example.rejected)), said)
    asked, last = "", max(answers, default=0)
    for at, turn in enumerate(turns):
        says = content_of(turn)
        found += _marks(says, said)
        if at not in answers:
            asked = says if turn["role"] == "user" else asked
        elif example.task != "kto" or example.label is not False:
            new = _answer(asked, says, said)
            # A short answer on the way is what conversations are made of.
            found += new if at == last else [name for name in new if name != "short_answer"]
    return found


def content(
    prompt: str, answer: str, *, is_text: bool, said: frozenset[str] | None = None
) -> list[str]:
    """Check what one answer says; `is_text` is plain text that answers nothing."""
    found = _marks(answer, said) if is_text else [*_marks(prompt, said), *_marks(answer, said)]
    if is_text:
        return [*found, "repeated_text"] if repeats(answer.strip()) else found
    return found + _answer(prompt, answer, said)


def telling_words(text: str) -> frozenset[str]:
    """Return the words that some check looks for among those of a text.

    >>> sorted(telling_words("Please ignore it, copy that."))
    ['copy', 'ignore']
    """
    return TELLING.intersection(tokens_of(text))


def _said(text: str, said: frozenset[str] | None) -> frozenset[str]:
    return telling_words(text) if said is None else said


def _answer(prompt: str, answer: str, said: frozenset[str] | None) -> list[str]:
    """Check what an answer says to its prompt, besides marks."""
    said = _said(f"{prompt}\n{answer}", said)
    stripped = answer.strip()
    found = ["repeated_text"] if repeats(stripped) else []
    if len(stripped) < 60 and EMPTY_ANSWER.fullmatch(stripped):
        found.append("placeholder_answer")
    elif len(stripped) < 40 and 0 < len(stripped.split()) < SHORT_WORDS and not _is_cjk(stripped):
        found.append("short_answer")
    found += _manner(stripped, said)
    if is_merged(prompt, answer):
        found.append("merged_instruction")
    seen = "![" in prompt or not said.isdisjoint(UNSEEN_WORDS)
    if (seen and UNSEEN.search(prompt)) or ("http" in prompt and OPEN_LINK.search(prompt)):
        found.append("unseen_reference")
    return found


def _marks(text: str, said: frozenset[str] | None) -> list[str]:
    """Find characters and marks that belong in no text."""
    said = _said(text, said)
    found = []
    if _has_control(text):
        found.append("control_characters")
    if has_placeholder(text):
        found.append("unfilled_placeholder")
    if _holds(INSTRUCTION_LIKE, text, said):
        found.append("instruction_like")
    if not said.isdisjoint(MARKER_WORDS) and MARKERS.search(text):
        found.append("template_markers")
    return found


def _holds(patterns: Patterns, text: str, said: frozenset[str]) -> bool:
    """Return whether a text has one of some patterns."""
    return not said.isdisjoint(patterns) and any(
        by.search(text) for word in said for by in patterns.get(word, ())
    )


def _has_control(text: str) -> bool:
    """Return whether a control character stands in a text; few texts need the pattern to say so."""
    plain = text.replace("\n", " ").replace("\t", " ").replace("\r", " ")
    if plain.isprintable() and "\ufffd" not in plain:
        return False
    return CONTROL.search(text) is not None


def _manner(answer: str, said: frozenset[str]) -> list[str]:
    """Check how an answer is written."""
    found = ["refusal"] if REFUSAL.match(answer) else []
    lower = answer.lower()
    may_be = not said.isdisjoint(BOILERPLATE) and any(map(lower.__contains__, BOILERPLATE_STARTS))
    if may_be and _holds(BOILERPLATE, answer, said):
        found.append("ai_boilerplate")
    marks = [by for mark, by in CHAT_MARKS if mark in lower]
    if any(by.search(answer) for by in marks) or _holds(GENERATED, answer, said):
        found.append("model_generated")
    return [*found, "truncated_answer"] if is_cut_off(answer) else found


def is_merged(prompt: str, answer: str) -> bool:
    r"""Return whether another instruction, with its own answer, stands in the answer.

    Source: https://github.com/gururise/AlpacaDataCleaned ("Merged Instructions")

    >>> is_merged("Name a colour.", "Red\n\n5. Instruction: Name a fruit.\nOutput: Apple")
    True
    >>> is_merged("Write a quiz.", "Question: 1+1?\nAnswer: 2"), is_merged("Why?", "Answer: so.")
    (False, False)
    """
    if answer.count(":") < 2 or not any(map(answer.lower().__contains__, ASKING)):
        return False
    heads = [head.lower() for head in HEADING.findall(answer)]
    asking = [head for head in heads if head in ASKING]
    return bool(asking) and len(heads) > 1 and not WANTS_HEADINGS.search(prompt)


def has_placeholder(text: str) -> bool:
    """Return whether a {{name}} was left in; template code is what an example may be about."""
    if "{{" in text and PLACEHOLDER.search(text):
        return "```" not in text and not _looks_like_code(text)
    return False


def is_cut_off(answer: str) -> bool:
    r"""Return whether a long text of sentences stops in the middle of one.

    >>> is_cut_off("One. " * 100 + "And then they went to the")
    True
    >>> is_cut_off("One. " * 100), is_cut_off("Yes"), is_cut_off("x = 1\n" * 100)
    (False, False, False)
    """
    if len(answer) < TRUNCATED_CHARS or answer.endswith(SENTENCE_ENDS):
        return False
    last_line = answer.rsplit("\n", 1)[-1]
    # Lists, tables, code and signatures end without a full stop; prose has sentences before.
    if last_line.lstrip().startswith(("-", "*", "|", "#", "http")) or len(last_line.split()) < 5:
        return False
    tail = unicodedata.category(answer[-1])
    return (tail[0] == "L" or answer[-1] == ",") and answer.count(". ") + answer.count(
        "\u3002"
    ) >= 2


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


def _is_cjk(text: str) -> bool:
    return any("\u2e80" <= char <= "\u9fff" or "\uac00" <= char <= "\ud7af" for char in text)
