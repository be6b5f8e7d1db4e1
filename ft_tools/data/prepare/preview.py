"""Show what a mapping makes of the first rows, before anything is written."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from ft_tools import workspace
from ft_tools.contract import NextStep
from ft_tools.data.judge import privacy
from ft_tools.data.judge.count_findings import FIRST_LINES, of_the_file
from ft_tools.data.judge.findings import RULES
from ft_tools.data.prepare.ask_about_contradictions import question_of, rule_to_offer
from ft_tools.data.prepare.check_mapping import (
    about_withheld,
    may_be_class,
    questions_of,
    undecided,
    with_good_values,
    with_thresholds,
    without_good_values,
)
from ft_tools.data.prepare.column_mapping import MARKING, ColumnMapping, text_of_cell
from ft_tools.data.prepare.decided import Decided
from ft_tools.data.prepare.decision_notes import about_turns, labels_of, notes_of, wordings_in
from ft_tools.data.prepare.open_table import Reader, Rows, rows_of
from ft_tools.data.prepare.propose_instruction import gives_no_instruction, instruction_for
from ft_tools.data.prepare.propose_mapping import (
    SAMPLE_ROWS,
    Seen,
    better_answers,
    turns_seen,
)
from ft_tools.data.prepare.quote_marks import (
    NAMES,
    about_marks,
    known_good,
    marked_with,
    marks_of,
    name_of_mark,
    values_quoted,
)
from ft_tools.data.prepare.report import PrepareReport, QuotedExample
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.row_as_example import make, values_marked
from ft_tools.data.prepare.row_decisions import decide
from ft_tools.data.prepare.times import DECIMAL, are_codes, is_month_first
from ft_tools.data.report import Finding
from ft_tools.formats.columns import PLAIN_NAME
from ft_tools.formats.example import content_of
from ft_tools.formats.quoting import quote
from ft_tools.formats.verdict_columns import Column

NUM_QUOTED = 3
QUOTED_CHARS = 200
OUTPUT = "prepared"
OFTEN_EMPTY = 0.8
"""Share of filled cells below which an answer may be optional. Ours."""


def shown(request: PrepareRequest, reader: Reader, seen: Seen) -> PrepareReport:
    """Return the mapping with three examples and the counts of the first rows; write nothing."""
    mapping = reader.mapping
    compare = request.near_duplicates != "off"
    counted = with_thresholds(mapping, without_good_values(mapping, seen))
    left_out: Counter[str] = Counter()
    rows = islice(reader.rows(left_out), SAMPLE_ROWS)
    decided = decide(counted, request, rows, compare=compare)
    used = mapping.used_columns | mapping.verdicts.keys()
    used |= seen.read_as_it_is if mapping.is_as_it_is and not mapping.turns else set()
    unused = [name for name in seen.columns if name not in used]
    guessed = reader.source.encoding if request.encoding is None else "utf-8"
    is_share_chosen = request.test_fraction is None
    notes = seen.about + notes_of(decided, is_share_chosen=is_share_chosen)
    notes += about_turns(mapping, left_out)
    notes += filter(None, [about_withheld(seen)])
    notes += _about_instruction(request, mapping, seen)
    notes += _about_rows(mapping, seen, unused) + _about_judges(reader, seen)
    notes += about_marks(counted, decided) + _about_better(mapping, seen, unused)
    notes += _about_classes(answers_only_classes(mapping, labels_of(decided)), seen, unused)
    if guessed != "utf-8":
        notes.append(
            f"read as {guessed}, recognised from the bytes: check the accents in the examples, or "
            "pass encoding"
        )
    if len(decided.ledger) == SAMPLE_ROWS:
        notes.append(f"counted on the first {SAMPLE_ROWS:,} rows; confirming counts all")
    first = islice(reader.rows(), SAMPLE_ROWS)
    examples = _varied(_quoted(counted, first), decided)
    if guessed != "utf-8":
        special = _quoted(counted, islice(reader.rows(), SAMPLE_ROWS), only_special=True)
        examples = list(islice(special, NUM_QUOTED)) or examples
    # Which answers contradict each other is open until it is decided which of them are good.
    open_columns = undecided(mapping, seen)
    about_answers = question_of(request, decided)
    return PrepareReport(
        mapping=mapping,
        mapping_hash=request.digest_of(mapping, reader.content),
        examples=examples,
        questions=[*questions_of(mapping, seen), *([] if open_columns else about_answers)],
        unused_columns=[name for name in unused if PLAIN_NAME.fullmatch(name)],
        num_rows=len(decided.ledger),
        counts=decided.counts(),
        labels=labels_of(decided),
        marks=marks_of(counted, decided),
        marked_with=marked_with(decided),
        task=decided.task,
        masked=dict(decided.masked),
        wordings=wordings_in(decided),
        findings=_findings(seen, decided),
        assumptions=notes,
        next_steps=_next_steps(request, reader, seen, decided),
    )


def _findings(seen: Seen, decided: Decided) -> list[Finding]:
    """Return what reading noted, and `few_wordings`; the rest needs the files that are written."""
    ledger = decided.ledger
    noted = [
        of_the_file(ledger, name, len(rows), lines=rows[:FIRST_LINES], removed=RULES[name].removes)
        for name, rows in seen.noted.items()
    ]
    return noted + [of_the_file(ledger, *few) for few in decided.wordings.findings()]


def _about_instruction(request: PrepareRequest, mapping: ColumnMapping, seen: Seen) -> list[str]:
    """Say that the system text is a proposal, or that nothing says how to answer."""
    is_given = request.mapping is not None and "system" in request.mapping.model_fields_set
    if mapping.system and not is_given:
        return [
            "mapping.system is proposed from the answer columns and their values: correct it, or "
            "pass '' for none; the model is trained, measured and later asked with it"
        ]
    asked = instruction_for(mapping, seen)
    if asked and gives_no_instruction(mapping):
        return [
            "nothing says how to answer, so an untuned model is measured without being told; set "
            f"mapping.system, such as: {asked}"
        ]
    return []


def _about_rows(mapping: ColumnMapping, seen: Seen, unused: list[str]) -> list[str]:
    """Say what a person should know of the table and cannot see in the counts."""
    notes = []
    if seen.formulas:
        notes.append(f"{seen.formulas} cells begin like a formula: export values, not formulas")
    parts = mapping.answer_columns if mapping.answer_format == "json" else []
    for name in parts:
        filled = seen.filled[name] / max(1, seen.num_rows)
        if (
            filled < OFTEN_EMPTY
            and name not in mapping.nullable
            and len(mapping.answer_columns) > 1
        ):
            notes.append(
                f"answer column {name} is empty in {1 - filled:.0%} of the rows, which are set "
                "aside; list it in mapping.nullable if empty is an answer (null)"
            )
    groups = [name for name in unused if seen.is_group(name)]
    if groups and not mapping.group_by and not mapping.turns:
        lost = "; with time_column, too, earlier rows of a group with test rows are left out"
        notes.append(
            f"column {groups[0]} repeats its values: without group_by=[{groups[0]!r}] rows of one "
            f"{groups[0]} can be in both the training and the test part"
            + (lost if mapping.time_column else "")
        )
    if mapping.time_column:
        where = seen if mapping.time_column in seen.values else turns_seen(mapping, seen)
        notes += _about_dates(mapping.time_column, where)
    times = [name for name in unused if seen.is_time(name)]
    if times and mapping.time_column is None:
        lost = "; with group_by, too, earlier rows of a group with test rows are left out"
        notes.append(
            f"column {times[0]} holds times: with time_column={times[0]!r} the test part is the "
            "latest rows, as in production" + (lost if mapping.group_by else "")
        )
    return notes


def answers_only_classes(
    mapping: ColumnMapping, labels: Mapping[str, Mapping[str, int]]
) -> Sequence[str]:
    """Return the columns that are answered if each holds a few classes, which nobody wrote."""
    names = mapping.answer_columns
    return names if names and labels.keys() >= set(names) else []


def _about_classes(names: Sequence[str], seen: Seen, unused: Sequence[str]) -> list[str]:
    """Say that classes teach no way of answering, and which column may hold replies."""
    if not names:
        return []
    texts = [name for name in unused if seen.is_text(name) and PLAIN_NAME.fullmatch(name)]
    cure = f"map {' or '.join(texts)} if it holds them" if texts else "add a column with them"
    return [
        f"the answers are classes ({', '.join(names)}), and no column was recognised as written "
        f"replies: this teaches to sort and not how to answer people; to teach that, {cure}"
    ]


def _about_better(mapping: ColumnMapping, seen: Seen, unused: list[str]) -> list[str]:
    """Say which unused column may hold better answers: the most valuable of a reviewed sheet."""
    names = mapping.answer_columns
    if mapping.corrected_column or len(names) != 1 or names[0] not in seen.values:
        return []
    found = [name for name in better_answers(seen, unused) if PLAIN_NAME.fullmatch(name)]
    if not found or not seen.is_text(names[0]):
        return []
    return [
        f"column {found[0]} may hold better answers: with corrected_column={found[0]!r} they are "
        "trained on instead, or with verdicts of pair preferred to the answer of their row"
    ]


def _about_dates(name: str, seen: Seen) -> list[str]:
    """Say how times are read that are not written as ISO does."""
    times = [text_of_cell(value) for value in seen.values[name]]
    if are_codes(times):
        return [f"column {name} holds codes, not dates: they are ordered by their numbers"]
    if not seen.is_time(name) and not all(map(DECIMAL.fullmatch, times)):
        return [
            f"column {name} is ordered as text, which is right only if each value begins with the "
            "year and all are of one form, such as 2024-05"
        ]
    month_first = is_month_first(times)
    if month_first:
        return [f"dates of column {name} are read as month/day/year"]
    if month_first is None:
        return [
            f"dates of column {name} can be day/month or month/day, and are read as day/month; if "
            "that is wrong, write them as YYYY-MM-DD"
        ]
    return []


def _about_judges(reader: Reader, seen: Seen) -> list[str]:
    """Say how often columns that mark the same rows agree."""
    open_columns = [
        column.name
        for column in undecided(reader.mapping, seen)
        if column.kind == "verdict" and not may_be_class(column, reader.mapping, seen)
    ]
    names = [*open_columns, *reader.mapping.marking(MARKING)]
    if len(names) < 2:
        return []
    num_judged = num_agreed = 0
    good = with_thresholds(reader.mapping, [c for c in map(seen.unread.column, names) if c])
    for _, row in islice(rows_of(reader.source), SAMPLE_ROWS):
        known = [mark for mark, _ in values_marked(good, row or {}, names) if mark is not None]
        num_judged += len(known) > 1
        num_agreed += len(known) > 1 and len(set(known)) == 1
    if not num_judged:
        return []
    share = num_agreed / num_judged
    return [f"{num_judged} rows are marked in several columns, which agree on {share:.0%}"]


def _next_steps(
    request: PrepareRequest, reader: Reader, seen: Seen, decided: Decided
) -> list[NextStep]:
    """Return the call that writes the files; what was not shown with its counts is shown first."""
    mapping = reader.mapping
    columns = undecided(mapping, seen)
    is_nothing_proposed = mapping.is_as_it_is and not mapping.turns and not seen.examples
    # Another sheet, or a query, is not what show_examples reads.
    if is_nothing_proposed and reader.source.select is None:
        why = "quotes rows with their columns; then set mapping.prompt and mapping.answer_columns"
        arguments = {"path": request.path, "lines": [1, 2, 3]}
        return [NextStep(tool="show_examples", arguments=arguments, why=why)]
    if classes := [column for column in columns if may_be_class(column, mapping, seen)]:
        return [_with_classes(request, mapping, seen, classes)]
    is_known = all(c.kind == "verdict" and PLAIN_NAME.fullmatch(c.name) for c in columns)
    num_answered = len(columns) + len(without_good_values(mapping, seen))
    if not is_known or len(questions_of(mapping, seen)) > num_answered:
        return []
    why = "writes the files, once the user agrees with the mapping and its examples"
    unclear = without_good_values(mapping, seen)
    offer = None if columns else rule_to_offer(request, decided)
    again = request.model_dump(mode="json", exclude_unset=True)
    if not (columns or unclear or offer):
        again |= {"confirm": request.digest_of(mapping, reader.content)}
        again["output_dir"] = request.output_dir or workspace.unused(OUTPUT)
    else:
        why = "shows the mapping with these decisions; ask the user first"
    if columns:
        uses = {**mapping.verdicts, **{column.name: "filter" for column in columns}}
        mapping = mapping.model_copy(update={"verdicts": uses})
        why = (
            "keeps only rows marked good, and shows them first; ask the user: drop_bad keeps the "
            "unmarked, too; pair (DPO), marks (KTO), class and ignore are the other choices"
        )
        unclear = without_good_values(mapping, seen)
    good = {column.name: column.good_values or known_good(column) for column in unclear}
    if not all(good.values()):
        return []
    if good:
        mapping = with_good_values(mapping, good)
        why += "; which values are good is a guess"
    again |= {"mapping": mapping.model_dump(mode="json", exclude_defaults=True)}
    if offer:
        again["contradictions"] = offer[0]
        why += f"; of contradictions it {offer[1]}"
    return [NextStep(tool="prepare_dataset", arguments=again, why=why)]


def _with_classes(
    request: PrepareRequest, mapping: ColumnMapping, seen: Seen, columns: list[Column]
) -> NextStep:
    """Return the call that shows columns of yes and no as classes to predict."""
    names = [column.name for column in columns]
    changes: dict[str, object] = {
        "answer_columns": [*mapping.answer_columns, *names],
        "answer_schema": None,
        "verdicts": {**mapping.verdicts, **dict.fromkeys(names, "class")},
    }
    if len(mapping.answer_columns) + len(names) > 1:
        changes["answer_format"] = "json"
    changed = mapping.model_copy(update=changes)
    if mapping.system and mapping.system == instruction_for(mapping, seen):
        changed = changed.model_copy(update={"system": instruction_for(changed, seen)})
    again = request.model_dump(mode="json", exclude_unset=True)
    again |= {"mapping": changed.model_dump(mode="json", exclude_defaults=True)}
    why = (
        f"predicts {', '.join(names)}, too, and shows it first; ask the user: if it says how good "
        "a row is, use filter, drop_bad, pair or marks, and ignore if it says neither"
    )
    return NextStep(tool="prepare_dataset", arguments=again, why=why)


def _quoted(
    mapping: ColumnMapping, rows: Rows, *, only_special: bool = False
) -> Iterator[QuotedExample]:
    """Quote examples; `only_special` those that show how the file was decoded."""
    system = {"role": "system", "content": mapping.system}
    for number, row in rows:
        made = make(mapping, number, row)
        example = made.example
        if example is None:
            continue
        asked, answered = example.prompt_and_answer()
        # The mapping shows its system text; before each quoted row it would take the row's place.
        asked = asked[1:] if asked[:1] == [system] else asked
        prompt = "\n".join(content_of(message) for message in asked)
        answer = "\n".join(content_of(message) for message in answered)
        if only_special and prompt.isascii() and answer.isascii():
            continue
        rejected = "\n".join(map(content_of, example.rejected))
        said = values_marked(mapping, row or {}, mapping.marking(MARKING))
        yield QuotedExample(
            row=number,
            prompt=_quote(prompt),
            answer=_quote(answer),
            rejected=_quote(rejected) if rejected else "",
            mark="corrected" if made.is_corrected else name_of_mark(made.mark),
            marked_with=", ".join(values_quoted(value for _, value in said)),
        )


def _quote(text: str) -> str:
    return quote(privacy.mask(text), QUOTED_CHARS)[0]


def _varied(examples: Iterator[QuotedExample], decided: Decided) -> list[QuotedExample]:
    """Return the first examples, a good, a bad and a corrected one among them if there are any."""
    made = list(islice(examples, NUM_QUOTED))
    if decided.task == "sft" and not decided.corrected:
        return made
    first = {one.mark: one for one in reversed(made)}
    wanted = {"corrected"} if decided.corrected else set()
    if decided.task != "sft":
        wanted |= {NAMES[mark] for mark in (0, 1) if mark in decided.marks}
    for one in examples:
        if wanted <= first.keys():
            break
        first.setdefault(one.mark, one)
    rest = [one for one in made if one not in first.values()]
    return sorted([*first.values(), *rest][:NUM_QUOTED], key=lambda one: one.row)
