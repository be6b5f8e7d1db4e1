"""Facts of documents: their tokens, and what each way to answer from them reads per month."""

from pathlib import Path

from ft_tools import workspace
from ft_tools.advice.facts import Facts
from ft_tools.advice.ladder import threshold
from ft_tools.advice.report import Fact
from ft_tools.data.understand.lengths import estimate_tokens
from ft_tools.errors import BadInput
from ft_tools.formats.readers.documents import count_documents, is_documents, require_text
from ft_tools.formats.readers.encodings import utf_16_of
from ft_tools.formats.readers.file_kinds import is_binary

DATA = frozenset({".json", ".jsonl", ".csv", ".xml"})
"""Kinds of files that hold text, too, beside documents."""
READ_BYTES = 2**20
"""Of one data file; the rest of it counts by its size."""
DAYS = 30
MINUTES_PER_DAY = 1440
REPEATED = {"prompt": "prompt_tokens", "long_context": "corpus_tokens"}
"""Way to answer -> the tokens that each of its calls repeats."""
RUNS_PER_MONTH = {"never": 0.0, "yearly": 1 / 12, "quarterly": 1 / 3, "monthly": 1.0}
RUNS_PER_MONTH |= {"weekly": 52 / 12, "daily": 365 / 12, "hourly": 365 * 24 / 12}


def document_facts(path: str) -> Facts:
    """Return how many tokens the documents have, estimated from their characters.

    Raises:
        NotFound: Nothing is there.
        OutsideWorkspace: It leaves the workspace.
        BadInput: There is no text in it.
    """
    num_files, tokens = _count(path)
    limit = threshold("long_context_tokens").value
    fits = "fits" if tokens <= limit else "does not fit"
    says = (
        f"{tokens:,} tokens (estimated) in {num_files:,} files; {fits} one cached prompt of "
        f"{limit:,.0f}"
    )
    row = Fact(about="documents", says=says, source=path)
    return Facts({"corpus_tokens": float(tokens)}, rows=(row,))


def _count(path: str) -> tuple[int, int]:
    """Return the number of files with text below a path, and an estimate of their tokens."""
    root = workspace.existing(path)
    if is_documents(root):
        counts = count_documents(root)
        if not root.is_dir() or counts.num_tokens:
            require_text(root, counts)
            return counts.num_files - counts.num_without_text, counts.num_tokens
    found = [root] if root.is_file() else sorted(each for each in root.rglob("*") if each.is_file())
    files = [each for each in found if each.suffix.lower() in DATA and not each.is_symlink()]
    tokens = [_tokens_of(each) for each in files]
    if not any(tokens):
        raise BadInput(
            f"documents {path!r} holds no text; supported: text, Markdown, HTML, PDF, DOCX, "
            f"{', '.join(sorted(DATA))}. Convert others to text first, or set corpus_tokens"
        )
    return sum(map(bool, tokens)), sum(tokens)


def _tokens_of(path: Path) -> int:
    """Estimate the tokens of a data file, none of a binary one; a long one by its beginning."""
    with path.open("rb") as file:
        start = file.read(READ_BYTES)
    utf_16 = utf_16_of(start)
    text = "" if is_binary(start) and not utf_16 else start.decode(utf_16 or "utf-8", "replace")
    return round(estimate_tokens(text) * path.stat().st_size / len(start)) if text.strip() else 0


def reading_facts(facts: Facts, price: float | None) -> Facts:
    """Return what a prompt, long context and retrieval read per month at these calls.

    In brackets what it would be with a cache: what every call repeats is read from it, and written
    anew where calls are further apart than the cache lives. Without a price the unit is tokens of
    uncached input. Answers are the same for all and left out.
    """
    known = facts.numbers
    calls = known.get("calls_per_day")
    if not calls or not known.keys() & {"corpus_tokens", "prompt_tokens"}:
        return Facts()
    writes = 1.0 if calls >= MINUTES_PER_DAY / threshold("cache_minutes").value else calls
    cached = (calls - writes) * threshold("cached_fraction").value
    cached += writes * threshold("cache_write_fraction").value
    full = {name: known[key] for name, key in REPEATED.items() if key in known}
    monthly = {name: tokens * DAYS * calls for name, tokens in full.items()}
    with_cache = {
        name: tokens * DAYS * min(cached, calls)
        for name, tokens in full.items()
        if tokens >= threshold("cacheable_prefix").value and cached < calls
    }
    numbers = dict[str, float]()
    if "corpus_tokens" in known:
        monthly["rag"] = threshold("retrieved_tokens").value * DAYS * calls
        numbers["context_tokens_per_day"] = known["corpus_tokens"] * calls
    shown = [
        f"{name} {_amount(tokens, price)}"
        + (f" ({_amount(with_cache[name], price)} if cached)" if name in with_cache else "")
        for name, tokens in monthly.items()
    ]
    changes = facts.words.get("knowledge_changes")
    runs = f"{RUNS_PER_MONTH[changes]:.3g} runs" if changes else "a run per change of the facts"
    unit = "" if price else " tokens at the uncached price"
    says = f"per month: {', '.join(shown)}{unit}; training reads none, but takes {runs}"
    row = Fact(about="cost", says=says, source="advice/ladder.toml: cached_fraction")
    numbers |= {f"{name}_tokens_per_month": tokens for name, tokens in monthly.items()}
    numbers |= {f"{name}_tokens_per_month_cached": each for name, each in with_cache.items()}
    return Facts(numbers, rows=(row,))


def _amount(tokens: float, price: float | None) -> str:
    if price is None:
        millions = tokens / 1e6
        return f"{millions:,.0f}M" if millions >= 100 else f"{millions:.3g}M"
    return f"{tokens * price / 1e6:,.2f}"
