"""Choose how `auto` searches for near-duplicates: by meaning where this machine is fast enough."""

MOST_SECONDS = 1800
"""Of encoding. Ours: half an hour of waiting for duplicates that words do not show."""
BYTES_PER_TOKEN = 4
ENCODED_FRACTION = 0.5
"""Of the tokens: rows that share few words with others, and parts that need not be compared, are
not encoded. Source: benchmarks/audit.json"""


def encoding_seconds(size_bytes: int, tokens_per_second: float) -> float:
    """Return how long MiniLM takes for a file, about.

    >>> round(encoding_seconds(4_200_000, 26_000)), encoding_seconds(10**9, 25e3)
    (20, 5000.0)
    """
    return size_bytes / BYTES_PER_TOKEN * ENCODED_FRACTION / tokens_per_second


def comparing_seconds(num_rows: int, pairs_per_second: float) -> float:
    """Return how long it takes to compare each row with each other one.

    >>> comparing_seconds(10_000, 50e6), comparing_seconds(1_000_000, 50e6)
    (1.0, 10000.0)
    """
    return num_rows * num_rows / 2 / pairs_per_second


def is_quick_enough(seconds: float) -> bool:
    """Return whether a search by meaning is worth its time.

    >>> is_quick_enough(1800), is_quick_enough(1801)
    (True, False)
    """
    return seconds <= MOST_SECONDS


def too_many_rows(num_rows: int, seconds: float) -> str:
    """Return why the rows are compared by words, once their number is known.

    >>> too_many_rows(1_000_000, 10_000)[:70]
    'near-duplicates were compared by words: to compare 1,000,000 rows by m'
    """
    return (
        f"near-duplicates were compared by words: to compare {num_rows:,} rows by meaning would "
        f"take about {round(seconds / 60)} min here, more than {MOST_SECONDS // 60}; "
        "near_duplicates='semantic' does it all the same"
    )


def reason_for(seconds: float, tokens_per_second: float) -> str:
    """Return which search was chosen, and why.

    >>> reason_for(90, 20_000)
    'near-duplicates are searched by meaning: MiniLM reads 20,000 tokens per second here, which \
takes about 2 min (at most 30 min)'
    """
    here = f"MiniLM reads {tokens_per_second:,.0f} tokens per second here"
    minutes = f"about {max(1, round(seconds / 60))} min"
    if is_quick_enough(seconds):
        limit = f"at most {MOST_SECONDS // 60} min"
        return f"near-duplicates are searched by meaning: {here}, which takes {minutes} ({limit})"
    return (
        f"near-duplicates are searched by words: {here}, so by meaning it would take {minutes}, "
        f"more than {MOST_SECONDS // 60}; near_duplicates='semantic' does it all the same"
    )
