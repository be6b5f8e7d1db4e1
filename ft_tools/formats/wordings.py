"""Return whether prompts follow few templates: the same words around other names and numbers.

Held-out rows of such a file have its wordings, too, so a score on them is too good for questions
that people word afresh. Words that over half of the prompts share are an instruction, and are set
aside. Of what is left, a run of `WINDOW` words that several prompts have is of a template, and so
is a prompt of which such runs make up the larger part and leave short gaps only.

The limits are ours. Counted once: 0 to 5% of the prompts of alpaca_en_demo, alpaca_zh_demo,
dpo_en_demo, kto_en_demo and gsm8k, 28% of codegen-instruct, 37% of glaive_toolcall_en_demo, 67% of
toolformer; 99 to 100% of mails that a script had filled into templates.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence, Set
from itertools import chain

from ft_tools.abandoned_calls import require_waiting

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_]+|\d+")
WINDOW = 4
MOST_CHARS, MOST_WORDS = 1500, 200
"""Of a prompt, half of them at each end: an instruction may be longer."""
SAMPLE = 1000
INSTRUCTION = 0.5
"""Of the prompts that share a run of words: more have it by instruction."""
REPEATED = 0.01
MIN_REPEATED = 3
"""Prompts that share a run of words of a template."""
LONGEST_GAP = 8
"""Words between two runs: more are somebody's own."""
MIN_PROMPTS = 40
MOSTLY = 0.8
INSIDE = 0.8
"""Of the texts with a phrase: how many have a more frequent one that it belongs to."""
MIN_COVERED = 0.25
"""Of a text's own words: how many its wording has."""
MIN_CHOSEN = 1 / 3
"""Of the texts with a phrase: how many have most words of it. Greetings and endings have fewer."""
MOST_LEARNED = 400_000
"""Words of the texts from which wordings are learned; of more, a draw is taken."""
MOST_DRAWN = 50
"""Texts of a phrase in which others are counted."""


class Wordings:
    """A draw of at most `SAMPLE` prompts, spread over the whole file."""

    def __init__(self) -> None:
        self._prompts: list[str] = []
        self._stride = 1
        self._seen = 0

    def add(self, prompt: str) -> None:
        """Add the prompt of an example; an empty one does not count."""
        if not prompt:
            return
        if self._seen % self._stride == 0:
            long = len(prompt) > MOST_CHARS
            half = MOST_CHARS // 2
            self._prompts.append(f"{prompt[:half]}\n{prompt[-half:]}" if long else prompt)
            if len(self._prompts) > SAMPLE:
                self._prompts = self._prompts[::2]
                self._stride *= 2
        self._seen += 1

    def findings(self) -> list[tuple[str, int]]:
        """Return `few_wordings` with about how many prompts follow templates, if most do."""
        fraction = templated_fraction(self._prompts)
        return [("few_wordings", round(fraction * self._seen))] if fraction >= MOSTLY else []


def templated_fraction(prompts: Sequence[str]) -> float:
    """Return which part of some prompts follows templates; 0 of fewer than `MIN_PROMPTS`.

    >>> templated_fraction([f"Where is the parcel number {at}?" for at in range(60)])
    1.0
    """
    if len(prompts) < MIN_PROMPTS:
        return 0.0
    texts = [words_in(prompt) for prompt in prompts]
    counts = Counter(run for words in texts for run in set(_runs(words)))
    least = max(MIN_REPEATED, REPEATED * len(prompts))
    own = [_own(words, counts, INSTRUCTION * len(prompts), least) for words in texts]
    whole = Counter(tuple(word for word, _ in words) for words in own)
    return sum(_is_templated(words, whole, least) for words in own) / len(prompts)


def words_in(prompt: str) -> list[str]:
    """Return the words of a prompt without case, and all numbers alike."""
    return ["0" if word.isdigit() else word for word in WORD.findall(prompt.casefold())]


def wordings_of(texts: Sequence[Sequence[Hashable]]) -> list[int]:
    """Return the wording of each text: a number that texts of one template share; 0 is none.

    Runs of words that always come together are one phrase, and a phrase that hardly ever comes
    without a more frequent one (a template with one certain noun) belongs to that. The wording of
    a text is the phrase of which it has most words, rare ones counting more: what many templates
    begin or end with is frequent. What only a few of its texts have most words of is none: they
    are of rare templates.

    Args:
        texts: The words of each.

    >>> made = [f"My {at} does not open. Thank you all." for at in ("lid", "box", "jar")]
    >>> made += [f"Send the {at} to our house. Thank you all." for at in ("lid", "box", "jar")]
    >>> wordings_of([words_in(one) for one in made])
    [1, 1, 1, 2, 2, 2]
    """
    texts = [_ends(words) for words in texts]
    learned = texts[:: 1 + sum(map(len, texts)) // MOST_LEARNED]
    having: dict[tuple[Hashable, ...], list[int]] = defaultdict(list)
    for at, words in enumerate(learned):
        require_waiting()
        for run in set(_runs(words)):
            having[run].append(at)
    shared: set[tuple[Hashable, ...]] = set()
    phrases: dict[tuple[int, ...], int] = {}
    phrase_of: dict[tuple[Hashable, ...], int] = {}
    for run, places in having.items():
        if len(places) > INSTRUCTION * len(learned):
            shared.add(run)
        elif len(places) >= MIN_REPEATED:
            phrase_of[run] = phrases.setdefault(tuple(places), len(phrases))
    sizes = [len(places) for places in phrases]
    roots = _roots(list(phrases), len(learned))
    # What spans two sentences that often come together, or holds one noun, adds no words.
    is_most = [2 * size >= sizes[root] for size, root in zip(sizes, roots, strict=True)]
    root_of = {run: roots[one] for run, one in phrase_of.items() if is_most[one]}
    weight = {root: math.log(len(learned) / sizes[root]) for root in set(root_of.values())}
    ranked = [_best_first(words, root_of, shared, weight) for words in texts]
    having_it = Counter(chain.from_iterable(ranked))
    chosen = Counter(ranks[0] for ranks in ranked if ranks)
    is_wording = {at for at, count in chosen.items() if count >= MIN_CHOSEN * having_it[at]}
    numbers = {0: 0}
    best = [next((at + 1 for at in ranks if at in is_wording), 0) for ranks in ranked]
    return [numbers.setdefault(at, len(numbers)) for at in best]


def _best_first(
    words: Sequence[Hashable],
    root_of: Mapping[tuple[Hashable, ...], int],
    shared: Set[tuple[Hashable, ...]],
    weight: Mapping[int, float],
) -> list[int]:
    """Return the phrases that make up enough of a text, those with most of its words first.

    Args:
        words: Of the text.
        root_of: Run of words -> its phrase.
        shared: Runs of an instruction.
        weight: Of each word of a phrase.
    """
    require_waiting()
    covered: dict[int, set[int]] = defaultdict(set)
    instruction: set[int] = set()
    for at, run in enumerate(_runs(words)):
        if run in root_of:
            covered[root_of[run]].update(range(at, at + WINDOW))
        elif run in shared:
            instruction.update(range(at, at + WINDOW))
    least = MIN_COVERED * (len(words) - len(instruction))
    found = [root for root, some in covered.items() if len(some) >= least]
    return sorted(found, key=lambda root: (-len(covered[root]) * weight[root], root))


def _roots(phrases: list[tuple[int, ...]], num_texts: int) -> list[int]:
    """Return the more frequent phrase that each belongs to at last, or itself.

    Args:
        phrases: The places of the texts that have each.
        num_texts: Of all.
    """
    having: list[list[int]] = [[] for _ in range(num_texts)]
    for phrase, places in enumerate(phrases):
        for at in places:
            having[at].append(phrase)
    rank = [(len(places), phrase) for phrase, places in enumerate(phrases)]
    root = list(range(len(phrases)))
    for phrase, places in sorted(enumerate(phrases), key=lambda one: rank[one[0]], reverse=True):
        require_waiting()
        drawn = places[:: 1 + len(places) // MOST_DRAWN]
        counts = Counter(chain.from_iterable([having[at] for at in drawn]))
        within = [rank[o] for o, count in counts.items() if count >= INSIDE * len(drawn)]
        _, above = min((one for one in within if one > rank[phrase]), default=rank[phrase])
        root[phrase] = root[above]
    return root


def _runs(words: Sequence[Hashable]) -> list[tuple[Hashable, ...]]:
    return list(zip(*(words[at:] for at in range(WINDOW)), strict=False))


def _ends(words: Sequence[Hashable]) -> Sequence[Hashable]:
    half = MOST_WORDS // 2
    return words if len(words) <= MOST_WORDS else [*words[:half], *words[-half:]]


def _own(
    words: list[str], counts: "Counter[tuple[Hashable, ...]]", most: float, least: float
) -> list[tuple[str, bool]]:
    """Return the words that belong to no instruction, and whether each is in a repeated run."""
    shared, repeated = [False] * len(words), [False] * len(words)
    for at, run in enumerate(_runs(words)):
        if counts[run] > most:
            shared[at : at + WINDOW] = [True] * WINDOW
        elif counts[run] >= least:
            repeated[at : at + WINDOW] = [True] * WINDOW
    marked = zip(words, shared, repeated, strict=True)
    return [(word, again) for word, is_shared, again in marked if not is_shared]


def _is_templated(
    own: list[tuple[str, bool]], whole: "Counter[tuple[str, ...]]", least: float
) -> bool:
    if len(own) < WINDOW:
        return whole[tuple(word for word, _ in own)] >= least
    gap = longest = 0
    for _, again in own:
        gap = 0 if again else gap + 1
        longest = max(longest, gap)
    return longest <= LONGEST_GAP and 2 * sum(again for _, again in own) >= len(own)
