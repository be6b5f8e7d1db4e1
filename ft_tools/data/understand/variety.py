"""How varied a dataset is: its topics, its languages, and how its prompts begin.

A topic is a word that many prompts share: the word that covers most of them first, then the one
that covers most of the rest, and so on. What nearly all prompts share is their template, and no
topic. It is counted on a draw of at most `SAMPLE` prompts, spread over the whole file.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass, field

from ft_tools.data.understand.languages import FUNCTION_WORDS, UNKNOWN, language_of

SAMPLE = 4000
MOST_CHARS = 2000
"""Of a prompt."""
WORDS_EACH = 60
WORD = re.compile(r"[a-z\u00c0-\u052f\u0600-\u06ff]{3,30}")
PAIR = re.compile(r"(?=([\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2}))")
"""Two characters of a script without spaces, wherever they stand."""
NUM_TOPICS = 12
MIN_FRACTION = 0.01
"""Of the draw, that a word must cover to be a topic; of the answers, to name a language."""
MAX_FRACTION = 0.9
"""Of the draw; a word in more of them belongs to a template."""
# Ours: below this the draw says nothing about topics.
MIN_PROMPTS = 40
# Ours: one topic in more than half of the prompts makes a model for that topic.
DOMINANT = 0.5
# A smaller file is for one task or style, and one topic is what it should have. Source: the style
# band of ft_tools/data/judge/enough_examples.py ends here.
BROAD_EXAMPLES = 2000
# Asking for something, and counting, whatever the topic.
GENERIC = (
    "write given generate create describe explain following make list find provide give "
    "sentence sentences please using use used should input output text word words name "
    "question answer example examples one two three four five six ten new get got take takes "
    "way type different total number day days she he him had did has was also per each every "
    "first last between based suggest identify rewrite edit show tell need needs want wants "
    "them only many being could would here why since while after before over under both same "
    "own such other very most even just does its makes made "
    "\u4e00\u4e2a \u4ee5\u4e0b \u7ed9\u5b9a \u63cf\u8ff0 \u89e3\u91ca \u5199\u4e00 "
    "\u751f\u6210 \u4ec0\u4e48 \u5982\u4f55 \u63d0\u4f9b \u5217\u51fa \u8fd9\u4e2a "
    "\u8bf7\u5c06 \u7f16\u5199 \u4e00\u79cd \u521b\u5efa \u4e00\u4e9b \u53ef\u4ee5 "
    "\u6211\u4eec \u4e0b\u5217 \u4e0b\u9762 \u7ed9\u51fa \u4f7f\u7528 \u4e3a\u4ec0 "
    "\u4e48\u662f \u7684\u662f \u6839\u636e \u4e24\u4e2a \u4e2a\u53e5 \u53e5\u5b50 "
    "\u7684\u53e5"
)
STOP = frozenset(GENERIC.split()).union(*FUNCTION_WORDS.values())


@dataclass(frozen=True)
class Topic:
    """A word of the data, words that go with it, and how many prompts of the draw have it first."""

    words: tuple[str, ...]
    count: int


@dataclass
class Variety:
    """Counts over prompts and answers, and a draw of prompts."""

    languages: "Counter[str]" = field(default_factory=Counter)
    """Of the answers."""
    _prompts: list[str] = field(default_factory=list)
    _stride: int = 1
    _seen: int = 0
    _topics: list[Topic] | None = None

    def add(self, prompt: str, answer: str) -> tuple[str, str]:
        """Count one example; return the languages of its prompt and its answer."""
        asked, answered = language_of(prompt), language_of(answer)
        self.languages[answered] += 1
        if self._seen % self._stride == 0:
            self._prompts.append(prompt[:MOST_CHARS])
            if len(self._prompts) >= SAMPLE:
                self._prompts = self._prompts[::2]
                self._stride *= 2
        self._seen += 1
        self._topics = None
        return asked, answered

    def topics(self) -> list[Topic]:
        """Return the topics, the largest first; empty if there are too few prompts to say."""
        if self._topics is None:
            self._topics = _topics_of([_words_of(prompt.lower()) for prompt in self._prompts])
        return self._topics

    @property
    def num_drawn(self) -> int:
        """Return how many prompts the topics are counted on."""
        return len(self._prompts)

    def findings(self) -> list[tuple[str, int]]:
        """Return the ids of what is one-sided, with the number of prompts meant, by the draw."""
        if self._seen <= BROAD_EXAMPLES:
            return []
        topics = self.topics()
        if topics and topics[0].count > DOMINANT * self.num_drawn:
            return [("one_topic", round(self._seen * topics[0].count / self.num_drawn))]
        return []

    def shape(self) -> dict[str, int | float]:
        """Return figures for the report: no word of the data among them."""
        least = MIN_FRACTION * self.languages.total()
        common = self.languages.most_common(6)
        known = {name: n for name, n in common if name != UNKNOWN and n >= least}
        shape: dict[str, int | float] = {f"language_{name}": n for name, n in known.items()}
        topics = self.topics()
        if topics:
            shares = [topic.count / self.num_drawn for topic in topics]
            rest = round(self.num_drawn * max(0.0, 1 - sum(shares)))
            shape["largest_topic_fraction"] = round(shares[0], 3)
            # What has no topic is as varied as can be: each prompt its own.
            alone = [1 / self.num_drawn] * rest
            shape["effective_topics"] = round(effective_number([*shares, *alone]))
        return shape


def _topics_of(drawn: list[frozenset[str]]) -> list[Topic]:
    """Return the topics of prompts, of which the words are given."""
    total = len(drawn)
    if total < MIN_PROMPTS:
        return []
    everywhere = Counter(word for words in drawn for word in words)
    template = {word for word, count in everywhere.items() if count > MAX_FRACTION * total}
    left = [words - template for words in drawn]
    counts = Counter(word for words in left for word in words)
    found: list[Topic] = []
    while len(found) < NUM_TOPICS and counts:
        word, count = max(counts.items(), key=lambda item: (item[1], item[0]))
        if count < max(2, MIN_FRACTION * total):
            break
        inside = [words for words in left if word in words]
        left = [words for words in left if word not in words]
        counts.subtract(Counter(other for words in inside for other in words))
        counts = +counts
        found.append(Topic((word, *_going_with(word, inside, everywhere, total)), count))
    return found


def effective_number(shares: list[float]) -> float:
    """Return exp(entropy): how many equally large parts would be as varied.

    Source: Hill 1973, https://doi.org/10.2307/1934352

    >>> round(effective_number([0.25] * 4), 3), effective_number([1.0])
    (4.0, 1.0)
    """
    return math.exp(-sum(share * math.log(share) for share in shares if share > 0))


def _words_of(text: str) -> frozenset[str]:
    words = WORD.findall(text)[: 2 * WORDS_EACH]
    if not text.isascii():
        words += PAIR.findall(text)[: 2 * WORDS_EACH]
    return frozenset(words) - STOP


def _going_with(
    word: str, inside: list[frozenset[str]], everywhere: "Counter[str]", total: int
) -> list[str]:
    """Return the two words that come with a topic far more often than elsewhere."""
    counts = Counter(other for words in inside for other in words if other != word)
    lift = {
        other: count / len(inside) * math.log(count * total / (len(inside) * everywhere[other]))
        for other, count in counts.items()
        if count >= 3
    }
    return sorted((o for o in lift if lift[o] > 0), key=lambda other: (-lift[other], other))[:2]
