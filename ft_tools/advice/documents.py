"""Facts of documents: their tokens, and what each way to answer from them reads per month."""

from functools import lru_cache
from pathlib import Path

from ft_tools import workspace
from ft_tools.advice.facts import Facts
from ft_tools.advice.ladder import threshold
from ft_tools.advice.report import Fact
from ft_tools.advice.request import ApproachRequest
from ft_tools.data.understand.lengths import estimate_tokens
from ft_tools.errors import BadInput
from ft_tools.formats.readers.documents import count_documents, is_documents, require_text
from ft_tools.formats.readers.encodings import utf_16_of
from ft_tools.formats.readers.file_kinds import is_binary

DATA = frozenset({".json", ".jsonl", ".csv", ".xml"})
"""Kinds of files that hold text, too, beside documents."""
MOST_BYTES = 200 * 2**20
READ_BYTES = 2**20
"""Of one data file; the rest of it counts by its size."""
DAYS = 30
MINUTES_PER_DAY = 1440
RUNS_PER_MONTH = {"never": 0.0, "yearly": 1 / 12, "quarterly": 1 / 3, "monthly": 1.0}
RUNS_PER_MONTH |= {"weekly": 52 / 12, "daily": 365 / 12, "hourly": 365 * 24 / 12}


def document_facts(path: str) -> Facts:
    """Return how many tokens the documents have, estimated from their characters.

    Raises:
        NotFound: Nothing is there.
        OutsideWorkspace: It leaves the workspace.
        BadInput: There is no text in it, or too much.
    """
    num_files, tokens = count_tokens(path)
    limit = threshold("long_context_tokens").value
    fits = "fits" if tokens <= limit else "does not fit"
    says = (
        f"{tokens:,} tokens (estimated) in {num_files:,} files; {fits} one cached prompt of "
        f"{limit:,.0f}"
    )
    row = Fact(about="documents", says=says, source=path)
    return Facts({"corpus_tokens": float(tokens)}, rows=(row,))


def count_tokens(path: str) -> tuple[int, int]:
    """Return the number of text files below a path, and an estimate of their tokens.

    Raises:
        NotFound: Nothing is there.
        OutsideWorkspace: It leaves the workspace.
        BadInput: There is no text in it, or too much.
    """
    root = workspace.existing(path)
    if is_documents(root):
        counts = count_documents(root)
        if not root.is_dir() or counts.num_tokens:
            require_text(root, counts)
            return counts.num_files - counts.num_without_text, counts.num_tokens
    found = [root] if root.is_file() else sorted(each for each in root.rglob("*") if each.is_file())
    files = [each for each in found if each.suffix.lower() in DATA and not each.is_symlink()]
    size = sum(each.stat().st_size for each in files)
    if size > MOST_BYTES:
        raise BadInput(
            f"documents {path!r} has {size:,} bytes, more than {MOST_BYTES:,}; set corpus_tokens "
            "(about a quarter of the characters) instead"
        )
    tokens = [_tokens_of(each, each.stat().st_mtime_ns) for each in files]
    if not any(tokens):
        raise BadInput(
            f"documents {path!r} holds no text; supported: text, Markdown, HTML, PDF, DOCX, "
            f"{', '.join(sorted(DATA))}. Convert others to text first, or set corpus_tokens"
        )
    return sum(map(bool, tokens)), sum(tokens)


def reading_facts(facts: Facts, request: ApproachRequest) -> Facts:
    """Return what long context, retrieval and training read per month at these calls.

    Long context reads the corpus from the cache in every call, and writes it anew where calls are
    further apart than the cache lives. Without a price the unit is tokens of uncached input.
    Answers are the same for all and left out.
    """
    known = facts.numbers
    if "corpus_tokens" not in known or not known.get("calls_per_day"):
        return Facts()
    corpus, calls = known["corpus_tokens"], known["calls_per_day"]
    windows = MINUTES_PER_DAY / threshold("cache_minutes").value
    writes = 1.0 if calls >= windows else calls
    is_cached = corpus >= threshold("cacheable_prefix").value
    reads = (calls - writes) * threshold("cached_fraction").value
    reads += writes * threshold("cache_write_fraction").value
    monthly = {
        "long_context": corpus * DAYS * (reads if is_cached else calls),
        "rag": threshold("retrieved_tokens").value * DAYS * calls,
    }
    price = request.price_per_million_tokens
    shown = [f"{name} {_amount(tokens, price)}" for name, tokens in monthly.items()]
    changes = facts.words.get("knowledge_changes")
    runs = f"{RUNS_PER_MONTH[changes]:.3g} runs" if changes else "a run per change of the facts"
    unit = "" if price else " tokens at the uncached price"
    says = f"per month: {', '.join(shown)}{unit}; training reads none, but takes {runs}"
    rows = [Fact(about="cost", says=says, source="advice/ladder.toml: cached_fraction")]
    if price and request.budget:
        within = [n for n, tokens in monthly.items() if tokens * price / 1e6 <= request.budget]
        says = f"within the budget of {request.budget:,g}: {', '.join(within) or 'none of them'}"
        rows.append(Fact(about="cost", says=says, source="budget"))
    numbers = {f"{name}_tokens_per_month": tokens for name, tokens in monthly.items()}
    return Facts(numbers | {"context_tokens_per_day": corpus * calls}, rows=tuple(rows))


def _amount(tokens: float, price: float | None) -> str:
    if price is None:
        millions = tokens / 1e6
        return f"{millions:,.0f}M" if millions >= 100 else f"{millions:.3g}M"
    return f"{tokens * price / 1e6:,.2f}"


@lru_cache(maxsize=10_000)
def _tokens_of(path: Path, _changed: int) -> int:
    """Estimate the tokens of a data file, none of a binary one; a long one by its beginning."""
    with path.open("rb") as file:
        start = file.read(READ_BYTES)
    utf_16 = utf_16_of(start)
    text = "" if is_binary(start) and not utf_16 else start.decode(utf_16 or "utf-8", "replace")
    return round(estimate_tokens(text) * path.stat().st_size / len(start)) if text.strip() else 0
