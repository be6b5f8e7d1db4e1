"""Propose a mapping from the names and values of the first rows."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ft_tools.data.prepare.column_mapping import (
    CLASS_CHARS,
    LEAVE_OUT,
    MAX_CLASSES,
    ColumnMapping,
    Turns,
    is_empty,
    text_of_cell,
)
from ft_tools.data.prepare.times import are_codes
from ft_tools.formats.columns import PLAIN_NAME, cells_of, place_of
from ft_tools.formats.detect_format import (
    ANSWERS,
    PREFERENCES,
    PROMPTS,
    columns_read,
    detect,
)
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.speakers import (
    INCOMING,
    OF_INCOMING,
    SAYS,
    SPEAKS,
    are_turns,
    left_out_among,
    role_of,
    words_of,
)
from ft_tools.formats.turns import as_turns, is_conversation
from ft_tools.formats.verdict_columns import DATE, UnreadColumns
from ft_tools.formats.verdicts import says_verdict

FORMULA = re.compile(r"[=+@][A-Z]{2,20}\(|=[A-Z]{1,3}[0-9]{1,7}\b")
BEGINS = re.compile(r"[-+.]?\d")
"""How a number, and every date that can be put in order, begins."""
SAMPLE_ROWS = 5_000
TEXT_CHARS = 20
"""Mean length from which a column is a text and no code or number. Ours."""
ASKED = {
    *PROMPTS, "asked", "said", "wrote",
    "text", "message", "body", "email", "mail", "ticket", "description", "subject",
    "title", "content", "comment", "request", "complaint", "utterance", "sentence", "document",
    "frage", "anfrage", "nachricht", "betreff", "beschreibung", "inhalt", "pregunta",
    "mensaje", "texto", "asunto", "texte", "sujet", "demande", "domanda", "messaggio", "testo",
    "pergunta", "mensagem", "vraag", "bericht", "вопрос", "текст", "сообщение", "问题", "內容",
    "内容", "質問", "本文", "질문",
}  # fmt: skip
ANSWERED = {
    *ANSWERS, "bot", "chatbot", "assistant", "gpt", "llm",
    "reply", "label", "labels", "class", "category", "intent", "team", "priority",
    "queue", "department", "sentiment", "topic", "summary", "translation", "resolution",
    "assignee", "severity", "urgency", "route", "action", "tag", "tags", "antwort",
    "kategorie", "klasse", "priorität", "abteilung", "zusammenfassung", "respuesta",
    "etiqueta", "categoría", "clase", "réponse", "catégorie", "classe", "résumé", "risposta",
    "categoria", "resposta", "antwoord", "ответ", "категория", "метка", "答案", "回答", "标签",
    "分类",
    "答え", "カテゴリ", "답변", "분류",
}  # fmt: skip
REMARKS = {
    "comment", "comments", "note", "notes", "remark", "remarks", "kommentar", "bemerkung", "notiz",
    "comentario", "commentaire", "nota",
}  # fmt: skip
"""What people write beside a row: neither asked nor answered."""
CORRECTED = {
    "better", "corrected", "correct", "correction", "corrections", "improved", "revised", "edited",
    "rewritten", "suggested", "suggestion", "ideal", "preferred", "fixed", "besser", "bessere",
    "verbessert", "verbesserte", "korrektur", "korrigiert", "korrigierte", "vorschlag", "mejor",
    "corregida", "corrección", "meilleure", "corrigée", "corrigé", "migliore", "corretta",
    "correzione", "melhor", "corrigida", "correção", "beter", "betere", "verbeterd", "correctie",
}  # fmt: skip
"""What a better answer is called, in a column beside that of the answer."""
GROUPS = {
    "customer", "user", "account", "client", "thread", "conversation", "session", "patient",
    "author", "kunde", "kundennummer", "cliente", "klant", "case", "dialog", "dialogue",
    "company",
}  # fmt: skip
AS_THEY_ARE = {"openai_messages", "sharegpt", *PREFERENCES}
PERSONAL = {"name", "id", "email", "phone", "username", "login", "initials", "uuid"}
PERSONAL |= {"admin", "contact", "lead", "teammate"}
"""What is said of a person, never the answer to a question that was not asked for."""
INSIDE = {"text", "content", "body", "value", "message", "id", "name"}
"""Columns of an object that are named by the object: `answer.text` is an answer."""
MAX_SPEAKERS = 8


@dataclass
class Seen:
    """What the first rows hold, by column."""

    num_rows: int = 0
    filled: "Counter[str]" = field(default_factory=Counter)
    chars: "Counter[str]" = field(default_factory=Counter)
    dates: "Counter[str]" = field(default_factory=Counter)
    values: dict[str, "Counter[Any]"] = field(default_factory=dict)
    unread: UnreadColumns = field(default_factory=UnreadColumns)
    formulas: int = 0
    nested: set[str] = field(default_factory=set)
    """Columns of lists or objects."""
    examples: int = 0
    """Rows that are conversations or pairs already."""
    read_as_it_is: set[str] = field(default_factory=set)
    """Columns that these are read from."""
    noted: dict[str, list[int]] = field(default_factory=dict)
    """Finding of reading -> its rows: those that cannot be read, and names that occur twice."""
    inside: dict[str, "Seen"] = field(default_factory=dict)
    """Column -> what its first objects hold, if it holds lists of them."""
    looks_inside: bool = True
    talks: "Counter[str]" = field(default_factory=Counter)
    """Column -> its lists of turns of which no format knows the speakers."""
    about: list[str] = field(default_factory=list)
    """What reading says of the table: its sheet, its header."""
    places: dict[str, int] = field(default_factory=dict)
    """Column -> its number, from 1; one inside an object has that of the object."""

    def take(self, row: Row) -> None:
        """Count a row, or note why it cannot be read."""
        self.about += row.about
        for name in (row.problem, *row.notes):
            if name is not None:
                self.noted.setdefault(name, []).append(row.number)
        if row.problem is None:
            self.add(row.value)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count the cells of a row."""
        self.num_rows += 1
        self.unread.add(row, (), self.num_rows)
        if (kind := detect(row)) in AS_THEY_ARE:
            self.examples += 1
            self.read_as_it_is |= columns_read(row, kind)
        for name, value in cells_of(row):
            counts = self.values.setdefault(name, Counter())
            if name not in self.places:
                self.places[name] = place_of(row, name)
            if is_empty(value):
                continue
            text = text_of_cell(value)
            if isinstance(value, list | dict):
                self.nested.add(name)
            if self.looks_inside and isinstance(listed := as_turns(value), list):
                self._look_into(name, listed)
            self.filled[name] += 1
            self.chars[name] += len(text)
            self.dates[name] += DATE.match(text) is not None
            self.formulas += FORMULA.match(text) is not None
            if len(counts) <= SAMPLE_ROWS and len(text) <= 200:
                counts[value if isinstance(value, str | int | float) else text] += 1

    def _look_into(self, name: str, listed: list[Any]) -> None:
        """Count the cells of a list's objects, which may be turns."""
        turns = [turn for turn in listed if isinstance(turn, Mapping)]
        self.talks[name] += are_turns(turns) and not is_conversation(listed)
        inside = self.inside.setdefault(name, Seen(looks_inside=False)) if turns else self
        for turn in turns if inside.num_rows < SAMPLE_ROWS else ():
            inside.add(turn)

    @property
    def columns(self) -> list[str]:
        """Return the names in the order of the file, without those that could say something."""
        return [name for name in self.values if PLAIN_NAME.fullmatch(name)]

    @property
    def withheld(self) -> list[int]:
        """Return the numbers of the columns whose names could say something."""
        names = [name for name in self.values if not PLAIN_NAME.fullmatch(name)]
        return sorted({self.places[name] for name in names})

    def mean_chars(self, name: str) -> float:
        """Return how long a filled cell is on average."""
        return self.chars[name] / max(1, self.filled[name])

    def is_text(self, name: str) -> bool:
        """Tell whether a column holds sentences."""
        return self.mean_chars(name) >= TEXT_CHARS and not self.is_time(name)

    def is_class(self, name: str) -> bool:
        """Tell whether a column holds few different short values, again and again."""
        count = len(self.values[name])
        returns = 1 < count <= MAX_CLASSES and self.filled[name] >= 2 * count
        return returns and self.mean_chars(name) <= CLASS_CHARS

    def is_time(self, name: str) -> bool:
        """Tell whether a column holds days or times."""
        return self.filled[name] > 0 and self.dates[name] >= 0.8 * self.filled[name]

    def has_order(self, name: str) -> bool:
        """Tell whether rows can be put in the order of a column: times, numbers or codes."""
        values = self.values.get(name, Counter())
        if are_codes(map(text_of_cell, values)):
            return True
        ordered = sum(count for value, count in values.items() if BEGINS.match(str(value).strip()))
        return ordered > 0 and ordered >= 0.8 * values.total()

    def is_group(self, name: str) -> bool:
        """Tell whether a column names whom rows belong to, by its name and values that return."""
        count = len(self.values[name])
        repeats = 1 < count < self.filled[name] and self.mean_chars(name) < 64
        return repeats and _is_named(name, GROUPS)

    def is_verdict(self, name: str) -> bool:
        """Tell whether a column may mark how good a row is."""
        column = self.unread.column(name)
        return column is not None and column.kind == "verdict"


def look(rows: Iterable[Row]) -> Seen:
    """Count the first rows of a file."""
    seen = Seen()
    for row in rows:
        seen.take(row)
        if seen.num_rows >= SAMPLE_ROWS:
            break
    return seen


def propose(seen: Seen, given: ColumnMapping) -> ColumnMapping:
    """Propose a mapping; empty where nothing fits, which the tool then asks about.

    What `given` asks is not proposed as an answer, nor the reverse.
    """
    times = [name for name in seen.columns if seen.is_time(name)]
    if given.is_as_it_is and (turns := _turns(seen)):
        # Those of the turns put them in order, too: exports may begin with the newest one.
        inside = seen.inside.get(turns.conversation, seen)
        times = [name for name in inside.columns if inside.is_time(name)] or times
        return ColumnMapping(turns=turns, time_column=times[0] if times else None)
    if given.is_as_it_is and 2 * seen.examples > seen.num_rows:
        return ColumnMapping()
    names = seen.columns
    verdicts = {name for name in names if seen.is_verdict(name) and not _is_named(name, ANSWERED)}
    verdicts |= {name for name in names if seen.is_verdict(name) and says_verdict(name)} - {"label"}
    free = [name for name in names if name not in verdicts and not seen.is_time(name)]
    open_names = [name for name in free if name not in given.prompt_columns]
    open_names = [name for name in open_names if not _is_named(name, REMARKS)] or open_names
    better = given.corrected_column or _better_answer(seen, open_names, given)
    answers = given.answer_columns or _answers(seen, [n for n in open_names if n != better])
    free = [name for name in free if name != better]
    asked = [n for n in free if n not in answers and seen.filled[n] and _asks(seen, n)]
    if not asked:
        texts = [n for n in free if n not in answers and seen.is_text(n)]
        asked = sorted(texts, key=seen.mean_chars)[-1:]
    if not asked and answers:
        # Short questions, in a column that is named as the formats name it.
        others = [n for n in free if n not in answers and seen.filled[n]]
        asked = [n for n in others if n.casefold() in PROMPTS]
    groups = [n for n in free if n not in (*asked, *answers) and seen.is_group(n)]
    return ColumnMapping(
        prompt="\n\n".join(f"{{{name}}}" for name in asked),
        answer_columns=answers,
        answer_format="json" if len(answers) > 1 else "text",
        corrected_column=better,
        group_by=groups[:1],
        time_column=times[0] if times and not groups else None,
    )


def _answers(seen: Seen, free: list[str]) -> list[str]:
    """Choose the answer: a text that is named so, else every column of classes that is."""
    free = [name for name in free if seen.filled[name] and _speaker(name) != "user"]
    named = [name for name in free if _is_named(name, ANSWERED)]
    spoken = [name for name in free if _speaker(name) == "assistant"]
    texts = [n for n in (*named, *spoken) if seen.is_text(n) and not seen.is_class(n)]
    if texts:
        return texts[:1]
    classes = [name for name in named if not seen.is_group(name)]
    if classes:
        return classes
    others = [name for name in free if seen.is_class(name) and not seen.is_text(name)]
    others = [name for name in others if words_of(name).isdisjoint(PERSONAL)]
    return [name for name in others if not seen.is_group(name) and not says_verdict(name)][:1]


def better_answers(seen: Seen, names: Iterable[str]) -> list[str]:
    """Return the columns of texts that are named as better answers than another column's."""
    texts = [name for name in names if seen.is_text(name) and not seen.is_class(name)]
    return [name for name in texts if _is_named(name, CORRECTED)]


def _better_answer(seen: Seen, names: list[str], given: ColumnMapping) -> str | None:
    """Choose the column of better answers, if another one has the texts that it corrects."""
    for better in better_answers(seen, [n for n in names if n not in given.answer_columns]):
        answers = given.answer_columns or _answers(seen, [n for n in names if n != better])
        is_text = len(answers) == 1 and seen.is_text(answers[0]) and not seen.is_class(answers[0])
        if is_text and seen.filled[better] <= seen.filled[answers[0]]:
            return better
    return None


def _asks(seen: Seen, name: str) -> bool:
    speaker = _speaker(name)
    if speaker is not None:
        return speaker == "user" and seen.is_text(name)
    return _is_named(name, ASKED) and (seen.is_text(name) or seen.mean_chars(name) >= 8)


def _speaker(name: str) -> str | None:
    """Return the role of who is speaking in a column, if its name says so.

    >>> _speaker("talk.customer"), _speaker("agent_reply"), _speaker("agent_name")
    ('user', 'assistant', None)
    """
    words = words_of(name)
    if not words.isdisjoint(PERSONAL):
        return None
    roles = {role_of(word) for word in words} & {"user", "assistant"}
    return roles.pop() if len(roles) == 1 else None


def _is_named(name: str, words: set[str]) -> bool:
    """Tell whether a column is named so, or is the text of an object that is."""
    pieces = name.casefold().split(".")
    while len(pieces) > 1 and pieces[-1] in INSIDE:
        pieces.pop()
    return pieces[-1] in words or not words.isdisjoint(words_of(pieces[-1]))


def _turns(seen: Seen) -> Turns | None:
    """Recognise lists of turns in the rows, or rows that are turns, with an id of their own."""
    for name, turns in seen.inside.items():
        if 2 * seen.talks[name] > seen.filled[name] and (found := _speaking(turns)):
            return _turns_of(name, found)
    if not (found := _speaking(seen)):
        return None
    ids = [n for n in seen.columns if n not in found and _is_named(n, GROUPS | {"id"})]
    ids = [n for n in ids if len(seen.values[n]) < seen.filled[n]]
    return _turns_of(ids[0], found) if ids else None


def _turns_of(conversation: str, found: tuple[str, str]) -> Turns:
    role, text = found
    if role in INCOMING:
        return Turns(conversation=conversation, role=role, text=text, roles=OF_INCOMING)
    return Turns(conversation=conversation, role=role, text=text)


def _speaking(seen: Seen) -> tuple[str, str] | None:
    """Return the columns of turns that say who speaks and what is said."""
    for name in seen.columns:
        speakers = {str(value).strip() for value in seen.values[name]}
        known = {role_of(who) for who in speakers} & {"system", "user", "assistant"}
        is_known = known and not SPEAKS.isdisjoint(words_of(name))
        if not (is_known or name in INCOMING) or not 2 <= len(speakers) <= MAX_SPEAKERS:
            continue
        others = [n for n in seen.columns if n != name and n not in seen.nested]
        texts = [n for n in others if seen.is_text(n) or not SAYS.isdisjoint(words_of(n))]
        if texts:
            return name, max(texts, key=lambda n: ("html" not in words_of(n), seen.mean_chars(n)))
    return None


def turns_seen(mapping: ColumnMapping, seen: Seen) -> Seen:
    """Return what the turns of a mapping hold: the rows, or the items of a list in them."""
    return seen.inside.get(mapping.turns.conversation, seen) if mapping.turns else seen


def with_left_out(mapping: ColumnMapping, seen: Seen) -> ColumnMapping:
    """Return a mapping whose roles name the machines that are left out, unless they have a role."""
    turns = mapping.turns
    if turns is None:
        return mapping
    values = turns_seen(mapping, seen).values.get(turns.role, Counter())
    given = {name.strip().casefold() for name in turns.roles}
    machines = [n for n in left_out_among([str(v) for v in values]) if n.casefold() not in given]
    if not machines:
        return mapping
    roles = {**turns.roles, **dict.fromkeys(machines, LEAVE_OUT)}
    return mapping.model_copy(update={"turns": turns.model_copy(update={"roles": roles})})
