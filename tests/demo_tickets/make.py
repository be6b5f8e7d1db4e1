"""Make the demo's table: `python -m tests.demo_tickets.make` rewrites the file that ships.

A message is a complaint or question with a product and sometimes an order number; its ticket has
four fields. Category and priority follow from the words, product and order are copied, so a small
model can learn it. The table has planted defects, listed in planted.json by row. All people,
products and orders are invented. The same code gives the same bytes.
"""

import csv
import json
import random
import re
from pathlib import Path

import ft_tools.demo.data
from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.report import Outputs
from ft_tools.data.request import PrepareRequest
from ft_tools.demo.walk import PREPARED, TABLE
from tests.demo_tickets.phrases import CLOSERS, OPENERS, PRODUCTS, SITUATIONS, URGENCY

FOLDER = Path(ft_tools.demo.data.__file__).parent
COLUMNS = ("message", "category", "priority", "product", "order")
SEED = 20
NUM_CLEAN = 394
# Messages made from one situation differ in product, order and frame, never only in the order.
MAX_SHARED_WORDS = 0.6

Row = dict[str, str]


def main() -> None:
    """Write the table and the list of what was planted."""
    numbers = random.Random(SEED)
    rows, planted = plant(numbers, make_tickets(numbers, NUM_CLEAN))
    with (FOLDER / TABLE).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    text = json.dumps(planted, indent=1, sort_keys=True)
    (FOLDER / "planted.json").write_text(text + "\n", encoding="utf-8")


def prepared(workspace: Path) -> Outputs:
    """Prepare the shipped table as the demo does; returns where the files are."""
    (workspace / TABLE).write_bytes((FOLDER / TABLE).read_bytes())
    request = PrepareRequest.model_validate(PREPARED)
    agreed = prepare_dataset(request).mapping_hash
    made = prepare_dataset(request.model_copy(update={"confirm": agreed})).outputs
    assert made is not None
    return made


def make_tickets(numbers: random.Random, count: int) -> list[Row]:
    """Return rows, no two messages alike in more than a share of their words."""
    made: list[Row] = []
    seen: list[set[str]] = []
    categories = sorted(SITUATIONS)
    while len(made) < count:
        row = make_ticket(numbers, categories[len(made) % len(categories)])
        words = set(re.findall(r"\w+", row["message"].lower()))
        if all(len(words & other) <= MAX_SHARED_WORDS * len(words | other) for other in seen):
            made.append(row)
            seen.append(words)
    return made


def make_ticket(numbers: random.Random, category: str) -> Row:
    """Return one message with its ticket; without an order its cell is empty."""
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
    message = " ".join(part for part in parts if part)
    cells = (message, category, priority, product, order if has_order else "")
    return dict(zip(COLUMNS, cells, strict=True))


def plant(numbers: random.Random, clean: list[Row]) -> tuple[list[Row], dict[str, list[int]]]:
    """Put defects into copies of clean rows, and say in which rows they ended up, from 1.

    A duplicate has to come after its original, so its place is drawn from the rows below.
    """
    marked = [("clean", row) for row in clean]
    originals = numbers.sample(range(60), 14)
    late = [("exact_duplicate", dict(clean[at])) for at in originals[:8]]
    changes = [str.lower, lambda text: f"{text} Thanks.", lambda text: text.replace(".", "!")]
    late += [
        ("near_duplicate", clean[at] | {"message": changes[i % 3](clean[at]["message"])})
        for i, at in enumerate(originals[8:])
    ]
    others = iter(numbers.sample(range(60, len(clean)), 10))
    for name, value in [("empty_answer", "")] * 4 + [
        ("placeholder_answer", text) for text in ("TODO", "N/A", "TBD", "?")
    ]:
        at = next(others)
        marked[at] = (name, clean[at] | {"category": value})
    for address in ("mara.lindqvist@mail.internal", "j.okonjo@mail.internal"):
        at = next(others)
        said = f"{clean[at]['message']} Write to {address}."
        marked[at] = ("personal_data", clean[at] | {"message": said})
    numbers.shuffle(late)
    for item in late:
        marked.insert(numbers.randrange(70, len(marked) + 1), item)
    planted: dict[str, list[int]] = {}
    for number, (finding, _) in enumerate(marked, 1):
        if finding != "clean":
            planted.setdefault(finding, []).append(number)
    return [row for _, row in marked], planted


if __name__ == "__main__":
    main()
