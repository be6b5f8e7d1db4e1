"""What of a mapping has to be refused, completed, or asked."""

import difflib
import re

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from ft_tools.data.prepare.column_mapping import MARKING, ColumnMapping, GoodValues, schema_of
from ft_tools.data.prepare.propose_mapping import Seen, turns_seen, with_left_out
from ft_tools.data.prepare.quote_marks import unknown_values
from ft_tools.errors import BadInput, brief
from ft_tools.formats.columns import PLAIN_NAME
from ft_tools.formats.scales import CONDITION, is_condition, number_of
from ft_tools.formats.speakers import INTERNAL, PUBLIC, role_of
from ft_tools.formats.verdict_columns import MAX_COLUMNS, Column
from ft_tools.formats.verdicts import ALL_OTHERS, Mark, is_telling, judged, says_verdict

MOST_NAMED = 20
"""Columns that an error names."""
MOST_ANSWERS = 2
"""Values of a column of yes and no."""
TIME = re.compile(r"\d{4}-\d|\d{1,2}[./-]\d{1,2}[./-]\d|\d{1,2}:\d")
"""The beginning of a date, or of a time of day."""


def completed(mapping: ColumnMapping, seen: Seen) -> ColumnMapping:
    """Add what the values decide: the schema of a JSON answer, and whose turns are left out."""
    mapping = with_left_out(mapping, seen)
    if mapping.answer_format == "json" and mapping.answer_schema is None:
        schema = schema_of(mapping.answer_columns, seen.values, mapping.nullable)
        return mapping.model_copy(update={"answer_schema": schema})
    return mapping


def require_columns(mapping: ColumnMapping, seen: Seen) -> None:
    """Refuse a mapping that names a column which the file does not have, or asks nothing.

    Raises:
        BadInput: With the nearest names.
    """
    turns = mapping.turns
    named = [
        *mapping.prompt_columns,
        *mapping.answer_columns,
        *mapping.group_by,
        *mapping.nullable,
        *([turns.conversation] if turns else []),
        *([] if mapping.corrected_column is None else [mapping.corrected_column]),
    ]
    missing = [name for name in named if name not in seen.values and not _is_object(name, seen)]
    inside = turns_seen(mapping, seen)
    of_turns = [turns.role, turns.text] if turns else []
    missing += [name for name in of_turns if name not in inside.values]
    time = mapping.time_column
    if time and time not in seen.values and time not in inside.values:
        missing.append(time)
    missing += _without_marks(mapping, seen)
    if missing:
        close = difflib.get_close_matches(missing[0], seen.columns, 3, 0.4)
        close = close or difflib.get_close_matches(missing[0], inside.columns, 3, 0.4)
        near = ", ".join(name for name in close if PLAIN_NAME.fullmatch(name))
        raise BadInput(
            f"mapping names the column {missing[0]!r}, which the file does not have"
            + f"; {f'similar: {near}' if near else columns_of(seen)}"
        )
    if mapping.prompt and not mapping.prompt_columns:
        said = "mapping.prompt names no {COLUMN}; every row would ask the same"
        raise BadInput(f"{said}; {columns_of(seen)}")
    if bool(mapping.prompt) != bool(mapping.answer_columns):
        lacks = "answer_columns" if mapping.prompt else "prompt"
        raise BadInput(
            f"mapping.{lacks} is missing and was not recognised in the file; set it, too; "
            f"{columns_of(seen)}"
        )
    if mapping.is_as_it_is and (mapping.answer_schema or mapping.answer_format == "json"):
        raise BadInput(
            "mapping.answer_format and answer_schema are for answers that are made of "
            "answer_columns; these rows are taken as they are, and their answers are not checked: "
            "remove both, or set prompt and answer_columns"
        )
    if mapping.nullable and mapping.answer_format == "text":
        raise BadInput("nullable needs answer_format='json': a text has no null")
    if mapping.answer_schema and mapping.answer_format == "text":
        raise BadInput("answer_schema needs answer_format='json': a text has no keys")
    if len(mapping.answer_columns) > 1 and mapping.answer_format == "text":
        raise BadInput("several answer_columns need answer_format='json'")
    _require_no_answer_asked(mapping)
    _require_correction(mapping)
    _require_sides(mapping)
    _require_schema(mapping)
    if time and not seen.has_order(time) and not inside.has_order(time):
        times = [name for name in seen.columns if seen.is_time(name)]
        cure = f"columns of times: {', '.join(times)}" if times else "remove it"
        given = f"mapping.time_column={mapping.time_column!r}"
        raise BadInput(
            f"{given} holds no dates, numbers or codes such as W01 that can be put in order; {cure}"
        )


def _without_marks(mapping: ColumnMapping, seen: Seen) -> list[str]:
    """Return the columns that are to mark rows and are not there.

    Raises:
        BadInput: One is there, but holds lists, objects or nothing.
    """
    about = [v for v in (mapping.good_values, mapping.bad_values) if isinstance(v, dict)]
    named = [*mapping.verdicts, *(name for values in about for name in values)]
    missing = [name for name in named if seen.unread.column(name) is None]
    for name in missing:
        if name in seen.values:
            within = seen.unread.within(name)
            why, cure = "has no single values", "leave it out"
            if within:
                listed = ", ".join(column.shown_name for column in within[:MOST_NAMED])
                cure = f"name what it holds: {listed}"
            elif seen.filled[name] and name not in seen.nested:
                why = f"is not among the first {MAX_COLUMNS}, in which marks are looked for"
                cure = "write it further to the front"
            raise BadInput(f"mapping marks rows by the column {name!r}, which {why}: {cure}")
    return missing


def _require_no_answer_asked(mapping: ColumnMapping) -> None:
    """Refuse a prompt that says what is to be answered, itself or within an object.

    Raises:
        BadInput: With the column.
    """
    for asked in mapping.prompt_columns:
        for answer in mapping.answer_columns:
            if f"{asked}.".startswith(f"{answer}.") or answer.startswith(f"{asked}."):
                raise BadInput(
                    f"mapping.prompt contains the answer: {{{asked}}} overlaps with the answer "
                    f"column {answer!r}; remove it from the prompt"
                )


def _require_correction(mapping: ColumnMapping) -> None:
    """Refuse a column of better answers that cannot take the place of the answer.

    Raises:
        BadInput: With what to change.
    """
    name = mapping.corrected_column
    if name is None:
        return
    given = f"mapping.corrected_column={name!r}"
    if len(mapping.answer_columns) != 1 or mapping.answer_format != "text":
        raise BadInput(f"{given} needs one answer column, as text: what it is better than")
    if name in {*mapping.answer_columns, *mapping.prompt_columns}:
        raise BadInput(f"{given} is in prompt or answer_columns; remove it from one of them")
    if mapping.verdicts.get(name, "pair") != "pair":
        raise BadInput(f"{given} marks no rows; in verdicts it can only be 'pair'")


def _require_sides(mapping: ColumnMapping) -> None:
    """Refuse a value that is declared as good and as bad, the rest of nothing, and no condition.

    Raises:
        BadInput: With the value.
    """
    for name in mapping.marking(MARKING):
        good = mapping.good_of(name)
        for value in (*good, *mapping.bad_of(name)):
            found = CONDITION.fullmatch(value) if isinstance(value, str) else None
            if found and TIME.match(found[2]) and not is_condition(value):
                raise BadInput(
                    f"{brief(repr(value))} is no condition on numbers, such as '>=4'; rows of a "
                    "time are chosen with query (of a database) or before"
                )
        if ALL_OTHERS in mapping.bad_of(name) and not good:
            raise BadInput(
                f"bad_values has {ALL_OTHERS!r}, everything that is not good, and good_values is "
                "empty: set good_values, too"
            )
        for value in mapping.bad_of(name):
            if good and judged(value, good, [ALL_OTHERS]) is Mark.GOOD:
                raise BadInput(
                    f"{brief(repr(value))} is in good_values and in bad_values; remove it from one"
                )


def _require_schema(mapping: ColumnMapping) -> None:
    """Refuse a schema that is none, or that no answer of this mapping can meet.

    Raises:
        BadInput: With what is wrong in it.
    """
    schema = mapping.answer_schema
    if schema is None:
        return
    cure = "leave answer_schema out: it is derived from the values"
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise BadInput(
            f"mapping.answer_schema is not a valid JSON Schema: {error.json_path} is "
            f"{brief(repr(error.instance))}; {cure}"
        ) from error
    if schema.get("type", "object") != "object":
        raise BadInput(
            f"mapping.answer_schema has the type {brief(repr(schema['type']))}, and answers are "
            f"objects; {cure}"
        )
    named = [*schema.get("properties", {}), *schema.get("required", [])]
    if other := [name for name in named if name not in mapping.answer_columns]:
        raise BadInput(
            f"mapping.answer_schema names {brief(repr(other[0]))}, which is not in "
            f"answer_columns; {cure}"
        )


def _is_object(name: str, seen: Seen) -> bool:
    """Tell whether a name is that of an object, whose columns have names of their own."""
    return any(column.startswith(f"{name}.") for column in seen.values)


def undecided(mapping: ColumnMapping, seen: Seen) -> list[Column]:
    """Return the columns that may say which rows are bad, and that no decision was made about."""
    found = []
    used = tuple(f"{name}." for name in mapping.used_columns)
    for column in seen.unread.asked(mapping.used_columns | mapping.verdicts.keys()):
        if column.name.startswith(used) or (mapping.turns and _is_flag_of_turns(column.name)):
            continue
        top = column.name.partition("[")[0].partition(".")[0]
        # What turns say over and over is no mark of a row.
        if not mapping.is_as_it_is or top not in seen.nested or says_verdict(column.name):
            found.append(column)
    return found


def _is_flag_of_turns(name: str) -> bool:
    """Tell whether a column says which turns are left out as internal, whatever it is set to."""
    return name.rpartition("[].")[2] in INTERNAL | PUBLIC


def may_be_class(column: Column, mapping: ColumnMapping, seen: Seen) -> bool:
    """Tell whether yes and no of a column may be what a model is to predict.

    What else is answered is a class, too, and neither its name nor its values speak of quality, as
    those of a verdict do.
    """
    words = [value for value in column.values if isinstance(value, str)]
    answers = mapping.answer_columns
    if not answers or not all(name in seen.values and seen.is_class(name) for name in answers):
        return False
    return (
        all(isinstance(value, bool) or number_of(value) is None for value in column.values)
        and column.kind == "verdict"
        and len(column.values) <= MOST_ANSWERS
        and not column.good_values
        and not column.num_other
        and PLAIN_NAME.fullmatch(column.name) is not None
        and not says_verdict(column.name)
        and not any(map(is_telling, words))
    )


def name_of(column: Column) -> str:
    """Return a column's name if it is a plain one, as `unused_columns` lists it."""
    return column.name if PLAIN_NAME.fullmatch(column.name) else column.shown_name


def questions_of(mapping: ColumnMapping, seen: Seen) -> list[str]:
    """Ask what only a person can decide; names only where they are plain."""
    asked = [
        f"column {name_of(column)} says yes or no and may be a class to predict, or mark rows as "
        "good or bad: set mapping.verdicts for it to class and add it to answer_columns, or to "
        "filter, drop_bad, pair, marks or ignore"
        if may_be_class(column, mapping, seen)
        else f"column {name_of(column)} may mark rows as good or bad{_scale_of(column)}: set "
        "mapping.verdicts for it to filter, drop_bad, pair, marks, class or ignore"
        for column in undecided(mapping, seen)
    ]
    for column in without_good_values(mapping, seen):
        name = name_of(column)
        if column.good_values:
            asked.append(
                f"column {name} has {column.about}: set mapping.good_values, such as "
                f"{{{name!r}: {column.good_values!r}}}, which the counts assume"
            )
        else:
            asked.append(
                f"some values of {name} are not known as good or bad ({unknown_values(column)}): "
                "set mapping.good_values to those that mean good and bad_values to those that mean "
                "bad; all others stay unmarked"
            )
    for name, use in mapping.verdicts.items():
        if use == "class" and name not in mapping.answer_columns:
            asked.append(f"verdicts[{name!r}]='class': put the column into answer_columns")
    if mapping.turns is not None:
        asked += _about_speakers(mapping, seen)
    elif mapping.is_as_it_is and not seen.examples:
        asked.append(
            "no question and answer were recognised: set mapping.prompt and "
            f"mapping.answer_columns{_such_as(seen)}; {columns_of(seen)}"
        )
    return asked


def columns_of(seen: Seen) -> str:
    """Name the columns of a file, those with unusual names by their number."""
    plain = seen.columns[:MOST_NAMED]
    more = len(seen.columns) - len(plain)
    named = ", ".join(plain) + (f" and {more} more" if more else "")
    return "; ".join(filter(None, [named and f"columns: {named}", about_withheld(seen)]))


def about_withheld(seen: Seen) -> str:
    """Say which columns have names that are not repeated, and how to see them; empty if none has.

    The number of a column is that of its place in a row, from 1.
    """
    if not (numbers := seen.withheld):
        return ""
    listed = ", ".join(map(str, numbers[:MOST_NAMED]))
    return (
        f"columns with unusual names, which are not repeated here: {listed}; show_examples with "
        f"field='column {numbers[0]}' quotes one with its name"
    )


def _such_as(seen: Seen) -> str:
    """Return a mapping with two columns of texts, as an example; empty if there are not two."""
    texts = sorted(seen.columns, key=seen.mean_chars)[-2:]
    if len(texts) < 2:
        return ""
    asked, answered = sorted(texts, key=seen.columns.index)
    return f', such as {{"prompt": "{{{asked}}}", "answer_columns": ["{answered}"]}}'


def without_good_values(mapping: ColumnMapping, seen: Seen) -> list[Column]:
    """Return the columns in use of which somebody has to say which values are good."""
    columns = [
        seen.unread.column(name) for name in mapping.marking(MARKING) if not mapping.good_of(name)
    ]
    return [
        column
        for column in columns
        if column is not None
        and not column.is_clear
        and (column.is_reversed or not mapping.bad_of(column.name))
    ]


def with_thresholds(mapping: ColumnMapping, columns: list[Column]) -> ColumnMapping:
    """Return a mapping in which columns have the good values that are proposed for them."""
    found = {column.name: column.good_values for column in columns if column.good_values}
    return with_good_values(mapping, found)


def with_good_values(mapping: ColumnMapping, proposed: dict[str, GoodValues]) -> ColumnMapping:
    """Return a mapping with good values for the columns of which it declares none."""
    given = mapping.good_values
    if isinstance(given, list):
        return mapping if given else mapping.model_copy(update={"good_values": proposed})
    return mapping.model_copy(update={"good_values": {**proposed, **given}})


def _scale_of(column: Column) -> str:
    if column.good_values:
        return f" ({column.about})"
    return f" ({column.num_bad} of {column.num_rows} look bad)" if column.num_bad else ""


def _about_speakers(mapping: ColumnMapping, seen: Seen) -> list[str]:
    """Ask who is the assistant if a speaker's role is not known."""
    assert mapping.turns is not None
    known = {name.strip().casefold() for name in mapping.turns.roles}
    values = turns_seen(mapping, seen).values[mapping.turns.role]
    said = {str(value).strip() for value in values}
    unknown = sorted(s for s in said if s.casefold() not in known and role_of(s) is None)
    if not unknown:
        return []
    plain = ", ".join(name for name in unknown[:5] if PLAIN_NAME.fullmatch(name))
    return [
        f"{len(unknown)} speakers have no known role ({plain}): set mapping.turns.roles, such as "
        "{SPEAKER: 'assistant'}"
    ]
