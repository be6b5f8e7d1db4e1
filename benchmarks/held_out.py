"""What share of test prompts follows a template that is trained, too.

    python -m benchmarks.held_out

The demo's messages are made of 70 templates, so the truth is known. Each way of holding rows out is
tried through `prepare_dataset` with ten seeds, and the grouping alone on more messages of the same
generator.
"""

import json
import os
import random
import re
import tempfile
from collections import defaultdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import PrepareRequest
from ft_tools.demo.walk import PREPARED, TABLE
from ft_tools.similarity.wordings import wordings_of
from ft_tools.similarity.words import tokens_of
from tests.demo_tickets.make import make_ticket
from tests.demo_tickets.phrases import PRODUCTS, SITUATIONS

RESULTS = Path(__file__).with_suffix(".json")
SEEDS = range(10)
SIZES = (400, 1000, 4000, 20_000)
HELD_OUT = 0.2
WAYS = {"auto": "whole wordings", "lexical": "near-duplicates only"}
Texts = list[tuple[str, str]]
"""Messages with their template."""


def main() -> None:
    """Measure, print and write the shares."""
    demo = {name: [_demo(seed, way) for seed in SEEDS] for way, name in WAYS.items()}
    result = {
        "demo": {name: _summary(rows) for name, rows in demo.items()},
        "generated": {size: _generated(size) for size in SIZES},
        "templates": sum(map(len, SITUATIONS.values())),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def _demo(seed: int, way: str) -> dict[str, Any]:
    """Return how the demo's table is divided with one seed."""
    with tempfile.TemporaryDirectory() as name:
        os.environ[workspace.VARIABLE] = name
        table = files("ft_tools.demo.data").joinpath(TABLE).read_bytes()
        (Path(name) / TABLE).write_bytes(table)
        changed = {"seed": seed, "near_duplicates": way}
        request = PrepareRequest.model_validate({**PREPARED, **changed})
        agreed = prepare_dataset(request).mapping_hash
        made = prepare_dataset(request.model_copy(update={"confirm": agreed})).outputs
        if made is None:
            raise RuntimeError("nothing was written")
        train, test = (
            [json.loads(line)["messages"] for line in Path(part).read_text("utf-8").splitlines()]
            for part in (made.train, made.test or "")
        )
    trained = {_template(messages[-2]["content"]) for messages in train}
    shared = sum(_template(messages[-2]["content"]) in trained for messages in test)
    classes = [json.loads(messages[-1]["content"])["category"] for messages in test]
    return {
        "test_rows": len(test),
        "trained_template": shared / len(test),
        "rarest_class": min(map(classes.count, SITUATIONS)),
        "commonest_class": max(map(classes.count, SITUATIONS)),
    }


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    shares = [row["trained_template"] for row in rows]
    return {
        "mean": round(sum(shares) / len(shares), 4),
        "highest": round(max(shares), 4),
        "test_rows": sorted({row["test_rows"] for row in rows}),
        "rarest_class": min(row["rarest_class"] for row in rows),
        "commonest_class": max(row["commonest_class"] for row in rows),
    }


def _generated(size: int) -> dict[str, float]:
    """Return how many wordings are found, and the share of test rows of a trained template."""
    numbers = random.Random(size)
    categories = sorted(SITUATIONS)
    messages = [make_ticket(numbers, categories[at % 5])["message"] for at in range(size)]
    found = wordings_of([tokens_of(message) for message in messages])
    groups = defaultdict(list)
    for at, wording in enumerate(found.of):
        groups[wording or -at].append(_template(messages[at]))
    shares = []
    for seed in SEEDS:
        drawn = list(groups.values())
        random.Random(seed).shuffle(drawn)
        test: list[str] = []
        while len(test) < HELD_OUT * size:
            test += drawn.pop()
        trained = {name for group in drawn for name in group}
        shares.append(sum(name in trained for name in test) / len(test))
    return {
        "wordings": found.number,
        "followed": round(found.fraction, 3),
        "trained_template": round(sum(shares) / len(shares), 4),
    }


def _template(message: str) -> str:
    """Return the template of a message, which planted changes leave its words."""
    return next(name for name, pattern in PATTERNS.items() if pattern.search(message))


def _pattern(template: str) -> re.Pattern[str]:
    words = re.sub(r"\W+", " ", template.replace("{product}", "PRODUCT")).strip()
    pattern = r"\W+".join(words.split()).replace("PRODUCT", f"(?:{'|'.join(PRODUCTS)})")
    return re.compile(pattern, re.IGNORECASE)


PATTERNS = {one: _pattern(one) for some in SITUATIONS.values() for one in some}

if __name__ == "__main__":
    main()
