"""Make the demo's data: `python -m tests.demo_tickets.make` rewrites the files that ship.

A message is a complaint or question with a product and sometimes an order number; its ticket is
JSON with four keys. Category and priority follow from the words, product and order are copied, so
a small model can learn it. The training file has planted defects, listed in planted.json. All
people, products and orders are invented. The same code gives the same bytes.
"""

import json
import random
import re
from pathlib import Path
from typing import Any

import ft_tools.demo.data
from tests.demo_tickets.phrases import CLOSERS, OPENERS, PRODUCTS, SITUATIONS, URGENCY

SYSTEM = "Turn the message into a JSON ticket with category, priority, product and order."
FOLDER = Path(ft_tools.demo.data.__file__).parent
SEED = 20
NUM_TRAIN, NUM_VALIDATION, NUM_HELDOUT = 292, 32, 70
# Drawn last and not written: where defects are planted depends on every number drawn before.
NUM_SPARE = 48
# Messages made from one situation differ in product, order and frame, never only in the order.
MAX_SHARED_WORDS = 0.6

Row = dict[str, Any]


def main() -> None:
    """Write the three files and the list of what was planted."""
    random_numbers = random.Random(SEED)
    total = NUM_TRAIN + NUM_VALIDATION + NUM_HELDOUT + NUM_SPARE
    tickets = make_tickets(random_numbers, total)
    train = [chat(*ticket) for ticket in tickets[:NUM_TRAIN]]
    rest = tickets[NUM_TRAIN:]
    validation = [chat(*ticket) for ticket in rest[:NUM_VALIDATION]]
    heldout = [chat(*ticket) for ticket in rest[NUM_VALIDATION : NUM_VALIDATION + NUM_HELDOUT]]
    train, planted = plant(random_numbers, train, validation)
    write(FOLDER / "tickets.jsonl", train)
    write(FOLDER / "tickets_validation.jsonl", validation)
    write(FOLDER / "tickets_heldout.jsonl", heldout)
    text = json.dumps(planted, indent=1, sort_keys=True)
    (FOLDER / "planted.json").write_text(text + "\n", encoding="utf-8")


def make_tickets(numbers: random.Random, count: int) -> list[tuple[str, str]]:
    """Return (message, ticket) pairs, no two messages alike in more than a share of their words."""
    made: list[tuple[str, str]] = []
    seen: list[set[str]] = []
    categories = sorted(SITUATIONS)
    while len(made) < count:
        category = categories[len(made) % len(categories)]
        message, ticket = make_ticket(numbers, category)
        words = set(re.findall(r"\w+", message.lower()))
        if all(len(words & other) <= MAX_SHARED_WORDS * len(words | other) for other in seen):
            made.append((message, ticket))
            seen.append(words)
    return made


def make_ticket(numbers: random.Random, category: str) -> tuple[str, str]:
    """Return one message and its ticket."""
    product = numbers.choice(PRODUCTS)
    order = f"{numbers.choice('ABCDEFGHJK')}{numbers.randrange(1000, 10000)}"
    has_order = numbers.random() < 0.6
    priority = numbers.choice(["low", "normal", "normal", "high"])
    parts = [
        numbers.choice(OPENERS),
        numbers.choice(SITUATIONS[category]).format(product=product),
        f"Order {order}." if has_order else "",
        numbers.choice(URGENCY[priority]),
        numbers.choice(CLOSERS),
    ]
    ticket = {
        "category": category,
        "priority": priority,
        "product": product,
        "order": order if has_order else None,
    }
    return " ".join(part for part in parts if part), json.dumps(ticket)


def chat(message: str, ticket: str) -> Row:
    """Return an example as a conversation."""
    return {"messages": [*_asked(message), {"role": "assistant", "content": ticket}]}


def plant(
    numbers: random.Random, train: list[Row], validation: list[Row]
) -> tuple[list[Row], dict[str, list[int]]]:
    """Put defects into copies of clean rows, shuffle, and say at which lines they ended up.

    A duplicate has to come after its original, so its place is drawn from the lines below.
    """
    marked: list[tuple[str, Row]] = [("clean", row) for row in train]
    originals = numbers.sample(range(60), 14)
    late = [("exact_duplicate", _copy(train[at])) for at in originals[:8]]
    changes = [_lower_case, _with_thanks, _with_marks]
    late += [
        ("near_duplicate", changes[i % 3](_copy(train[at]))) for i, at in enumerate(originals[8:])
    ]
    others = iter(numbers.sample(range(60, len(train)), 12))
    defects = (
        [("empty_answer", "")] * 4
        + [("placeholder_answer", text) for text in ("TODO", "N/A", "TBD", "to be added")]
        + [("personal_data_in_answer", "mara.lindqvist@mail.internal")]
        + [("personal_data_in_answer", "j.okonjo@mail.internal")]
        + [("unknown_role", "agent"), ("role_order", "user")]
    )
    for finding, what in defects:
        at = next(others)
        marked[at] = (finding, _spoil(_copy(train[at]), finding, what))
    leaks = [_copy(validation[3]), _with_thanks(_copy(validation[11])), _copy(validation[19])]
    leaks[2]["messages"][-1]["content"] = train[0]["messages"][-1]["content"]
    late += [("validation_leak", row) for row in leaks]
    numbers.shuffle(late)
    for item in late:
        marked.insert(numbers.randrange(70, len(marked) + 1), item)
    planted: dict[str, list[int]] = {}
    for line, (finding, _) in enumerate(marked, 1):
        if finding != "clean":
            planted.setdefault(finding, []).append(line)
    return [row for _, row in marked], planted


def write(path: Path, rows: list[Row]) -> None:
    """Write rows as JSON lines."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def _asked(message: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": message}]


def _copy(row: Row) -> Row:
    copy: Row = json.loads(json.dumps(row))
    return copy


def _spoil(row: Row, finding: str, what: str) -> Row:
    last = row["messages"][-1]
    if finding == "unknown_role":
        last["role"] = what
    elif finding == "role_order":
        row["messages"].insert(2, {"role": what, "content": "Is anybody there?"})
    elif finding == "personal_data_in_answer":
        last["content"] = json.dumps(json.loads(last["content"]) | {"customer": what})
    else:
        last["content"] = what
    return row


def _lower_case(row: Row) -> Row:
    row["messages"][1]["content"] = row["messages"][1]["content"].lower()
    return row


def _with_thanks(row: Row) -> Row:
    row["messages"][1]["content"] += " Thanks."
    return row


def _with_marks(row: Row) -> Row:
    row["messages"][1]["content"] = row["messages"][1]["content"].replace(".", "!")
    return row


if __name__ == "__main__":
    main()
