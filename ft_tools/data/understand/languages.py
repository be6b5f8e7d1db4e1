"""Name the language of a text by its script and its commonest function words.

A handful of words such as "the" and "of" make up a third of running text, so two or more of them
tell a language; a text too short for that, or code, has none ("und"). It knows the languages listed
here, and a script that one language owns; others of the same script are "und" or a near relative.
"""

import re
from functools import lru_cache

WORD = re.compile(r"[^\W\d_]+")
LATIN = re.compile(r"[A-Za-z]")
OTHER = re.compile(r"[\u0370-\U0001ffff]")
_ONLY_LETTERS = bytes(
    ord(chr(c).lower()) if c < 128 and chr(c).isalpha() else 32 for c in range(256)
)
"""Letters of ASCII in lower case, and blanks for the rest."""
LETTERS = 300
"""Characters that are looked at."""
MIN_HITS = 1.5
MARGIN = 1.25
"""How much more often the words of the best language must come than those of the next one."""
UNKNOWN = "und"

# Writing systems by range; the first that holds a character counts it.
SCRIPTS = [
    ("kana", "\u3040", "\u30ff"),
    ("cjk", "\u3400", "\u9fff"),
    ("hangul", "\uac00", "\ud7af"),
    ("cyrillic", "\u0400", "\u052f"),
    ("greek", "\u0370", "\u03ff"),
    ("hebrew", "\u0590", "\u05ff"),
    ("arabic", "\u0600", "\u06ff"),
    ("devanagari", "\u0900", "\u097f"),
    ("bengali", "\u0980", "\u09ff"),
    ("tamil", "\u0b80", "\u0bff"),
    ("thai", "\u0e00", "\u0e7f"),
]
# Scripts that say the language; the others need words.
OWNED = {
    "kana": "ja",
    "cjk": "zh",
    "hangul": "ko",
    "greek": "el",
    "hebrew": "he",
    "bengali": "bn",
    "tamil": "ta",
    "thai": "th",
}
OF_SCRIPT = {
    "cyrillic": ("ru", "uk", "bg"),
    "arabic": ("ar", "fa", "ur"),
}
FUNCTION_WORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": (
            "the and of to is that it in for was you a i on as be this have not at or from "
            "by but an they we his which your can what there with are how do if so all more "
            "has were her their when who will would each many much does my me its into "
            "about these than then some no"
        ),
        "de": (
            "der die das und ist nicht ein eine zu mit den von auf sich dem des im auch es an "
            "werden aus wie hat oder sind wird einen einer kann ich"
        ),
        "fr": (
            "le la les et des est une un dans que pour qui pas sur avec ce il par plus du au "
            "vous sont ou cette elle ne nous peut je votre"
        ),
        "es": (
            "el la los las y de que en un una es por con para se del no su al lo como m\xe1s "
            "o pero sus este puede est\xe1 son fue"
        ),
        "it": (
            "il di che e la un una per non sono con del della le si nel alla da come pi\xf9 "
            "anche gli ha \xe8 dei questo o essere delle lo pu\xf2"
        ),
        "pt": (
            "o a de que e do da em um uma para com n\xe3o os as no na se por mais dos como "
            "mas ao foi ele das \xe9 voc\xea s\xe3o"
        ),
        "nl": (
            "de het een van en in is dat op te met voor niet zijn aan er om ook als maar dan "
            "bij naar uit deze wordt je hebben kan ik"
        ),
        "sv": (
            "och att det som en \xe4r p\xe5 av f\xf6r med den inte till om ett har de jag var "
            "men kan s\xe5 vi fr\xe5n eller ska vid sig hur din"
        ),
        "da": (
            "og at det er en af den til som ikke for med de der et har jeg fra men kan p\xe5 "
            "eller du vi ved blev efter hvad ud nogen"
        ),
        "nb": (
            "og det er i en som av ikke for med den har p\xe5 til de et jeg fra men kan eller "
            "du vi ved ble etter hva ut noen hvordan"
        ),
        "fi": (
            "ja on ei ett\xe4 se oli h\xe4n mutta ovat joka kun tai niin kuin my\xf6s mit\xe4 "
            "t\xe4m\xe4 voi olla sen min\xe4 ole jos sitten nyt vain hyvin kanssa miten"
        ),
        "pl": (
            "i w nie na si\u0119 z jest do to \u017ce o jak od po co ale przez dla tak czy za "
            "jego s\u0105 tym by\u0107 kt\xf3ry lub mo\u017ce tego jako"
        ),
        "cs": (
            "a je se v na \u017ee to s z do o ale jsem by pro jako jak za podle byl kter\xfd "
            "jsou nebo tak i od jeho m\u016f\u017ee p\u0159i k"
        ),
        "ro": (
            "\u0219i de la \xeen a cu nu o un care este din pe s\u0103 mai pentru se au fi "
            "sau fost ca dar sunt prin acest poate c\u0103 ei cum"
        ),
        "hu": (
            "a az \xe9s hogy nem is egy meg ez van csak de ha mint m\xe1r volt vagy azt el "
            "mert lehet minden ki kell m\xe9g amely nagyon sem ami hogyan"
        ),
        "tr": (
            "ve bir bu i\xe7in de da ile olarak olan ne \xe7ok gibi daha var o kadar ama en "
            "sonra ya her veya de\u011fil i mi ben nas\u0131l ise oldu\u011funu"
        ),
        "id": (
            "yang dan di untuk dengan dari pada ini adalah tidak dalam itu akan ke juga atau "
            "bisa oleh saya anda sebagai ada dapat mereka karena lebih kita telah seperti"
        ),
        "vi": (
            "c\u1ee7a v\xe0 l\xe0 c\xf3 trong cho m\u1ed9t c\xe1c kh\xf4ng "
            "\u0111\u01b0\u1ee3c v\u1edbi nh\u1eefng ng\u01b0\u1eddi \u0111\u1ec3 n\xe0y "
            "\u0111\xe3 khi t\u1eeb nh\u01b0 v\u1ec1 t\xf4i b\u1ea1n hay \u0111\u1ebfn ra "
            "s\u1ebd l\u1ea1i r\u1ea5t ho\u1eb7c \u1edf"
        ),
        "ru": (
            "\u0438 \u0432 \u043d\u0435 \u043d\u0430 \u0447\u0442\u043e \u0441 "
            "\u044d\u0442\u043e \u043a\u0430\u043a \u043f\u043e \u0434\u043b\u044f "
            "\u0438\u0437 \u043e\u043d \u043a \u043d\u043e \u043e\u0442 "
            "\u0431\u044b\u043b\u043e \u0442\u0430\u043a \u0435\u0433\u043e "
            "\u0438\u043b\u0438 \u0442\u043e\u043b\u044c\u043a\u043e "
            "\u0442\u0430\u043a\u0436\u0435 \u043c\u043e\u0436\u0435\u0442 \u0432\u044b "
            "\u0431\u044b\u043b \u0431\u044b\u0442\u044c \u043c\u044b "
            "\u0447\u0442\u043e\u0431\u044b \u043e\u043d\u0438 \u0435\u0441\u043b\u0438 "
            "\u044f"
        ),
        "uk": (
            "\u0456 \u0432 \u043d\u0435 \u043d\u0430 \u0449\u043e \u0437 \u0446\u0435 "
            "\u044f\u043a \u043f\u043e \u0434\u043b\u044f \u0456\u0437 \u0432\u0456\u043d "
            "\u0442\u0430 \u0430\u043b\u0435 \u0432\u0456\u0434 \u0431\u0443\u043b\u043e "
            "\u0442\u0430\u043a \u0439\u043e\u0433\u043e \u0430\u0431\u043e "
            "\u043b\u0438\u0448\u0435 \u0442\u0430\u043a\u043e\u0436 \u043c\u043e\u0436\u0435 "
            "\u0432\u0438 \u0431\u0443\u0432 \u0431\u0443\u0442\u0438 \u043c\u0438 "
            "\u0449\u043e\u0431 \u0432\u043e\u043d\u0438 \u044f\u043a\u0449\u043e \u0454"
        ),
        "bg": (
            "\u0438 \u0432 \u043d\u0435 \u043d\u0430 \u0447\u0435 \u0441 "
            "\u0442\u043e\u0432\u0430 \u043a\u0430\u0442\u043e \u043f\u043e \u0437\u0430 "
            "\u043e\u0442 \u0442\u043e\u0439 \u0441\u0430 \u043d\u043e \u0434\u0430 "
            "\u0431\u0435\u0448\u0435 \u0442\u0430\u043a\u0430 "
            "\u043d\u0435\u0433\u043e\u0432\u0438\u0442\u0435 \u0438\u043b\u0438 "
            "\u0441\u0430\u043c\u043e \u0441\u044a\u0449\u043e \u043c\u043e\u0436\u0435 "
            "\u0432\u0438\u0435 \u0441\u0435 \u0431\u044a\u0434\u0435 \u043d\u0438\u0435 "
            "\u0433\u0438 \u0442\u0435 \u0430\u043a\u043e \u0435"
        ),
        "ar": (
            "\u0641\u064a \u0645\u0646 \u0639\u0644\u0649 \u0623\u0646 \u0625\u0644\u0649 "
            "\u0627\u0644\u062a\u064a \u0639\u0646 \u0647\u0630\u0627 \u0645\u0639 "
            "\u0647\u0630\u0647 \u0643\u0627\u0646 \u0645\u0627 \u0644\u0627 \u0623\u0648 "
            "\u0647\u0648 \u0628\u064a\u0646 \u0643\u0644 \u0630\u0644\u0643 \u0647\u064a "
            "\u0627\u0644\u0630\u064a \u0643\u0645\u0627 \u0644\u0645 \u0628\u0639\u062f "
            "\u0642\u062f \u064a\u0645\u0643\u0646 \u062b\u0645 \u062d\u064a\u062b "
            "\u0648\u0644\u0627 \u0625\u0646 \u0639\u0646\u062f"
        ),
        "fa": (
            "\u0648 \u062f\u0631 \u0628\u0647 \u0627\u0632 \u06a9\u0647 \u0627\u06cc\u0646 "
            "\u0631\u0627 \u0628\u0627 \u0627\u0633\u062a \u0628\u0631\u0627\u06cc "
            "\u0622\u0646 \u06cc\u06a9 \u0645\u06cc \u062e\u0648\u062f \u0647\u0627\u06cc "
            "\u062a\u0627 \u0628\u0631 \u0647\u0645 \u06a9\u0631\u062f \u0634\u062f "
            "\u0628\u0648\u062f \u0645\u0646 \u0647\u0631 \u06cc\u0627 \u0634\u0645\u0627 "
            "\u0645\u0627 \u0627\u06af\u0631 \u0647\u0633\u062a\u0646\u062f "
            "\u06a9\u0646\u062f \u0634\u0648\u062f"
        ),
        "ur": (
            "\u06a9\u06d2 \u0645\u06cc\u06ba \u06a9\u06cc \u06c1\u06d2 \u0627\u0648\u0631 "
            "\u0633\u06d2 \u06a9\u0627 \u06a9\u0648 \u0627\u0633 \u06c1\u06cc\u06ba "
            "\u06a9\u06c1 \u0646\u06d2 \u067e\u0631 \u0627\u06cc\u06a9 \u06cc\u06c1 "
            "\u0646\u06c1\u06cc\u06ba \u0628\u06be\u06cc \u062a\u06be\u0627 \u0648\u06c1 "
            "\u06a9\u0631 \u062a\u0648 \u062c\u0648 \u0622\u067e \u06cc\u0627 \u06c1\u0648 "
            "\u0644\u06cc\u06d2 \u06a9\u0631\u0646\u06d2 \u062c\u0627\u062a\u0627 "
            "\u0627\u0646 \u06af\u06cc\u0627"
        ),
    }.items()
}
_NOT_LATIN = {language for group in OF_SCRIPT.values() for language in group}
_LATIN = tuple(language for language in FUNCTION_WORDS if language not in _NOT_LATIN)
# Word -> languages that have it, so that each word of a text is looked up once. A single Latin
# letter is more often a variable than a word.
_LANGUAGES_OF: dict[str, tuple[str, ...]] = {
    word: tuple(name for name, words in FUNCTION_WORDS.items() if word in words)
    for words in FUNCTION_WORDS.values()
    for word in words
    if len(word) > 1 or not word.isascii()
}


@lru_cache(maxsize=16)
def _words_of(among: tuple[str, ...]) -> dict[str, tuple[float, list[int]]]:
    """Return the words that some languages have: the weight of each, and the places of those."""
    found = {
        word: [place for place, name in enumerate(among) if name in names]
        for word, names in _LANGUAGES_OF.items()
    }
    # A word of many languages tells little.
    return {w: (1 / len(_LANGUAGES_OF[w]), places) for w, places in found.items() if places}


def script_of(text: str) -> str:
    r"""Name the writing system that most of the first letters have; latin when there are none.

    >>> script_of("hello"), script_of("\u4f60\u597d"), script_of("\u043f\u0440\u0438")
    ('latin', 'cjk', 'cyrillic')
    """
    if text.isascii():
        return "latin"
    counts = _script_counts(text[:LETTERS])
    if "kana" in counts:
        counts["cjk"] = counts.get("cjk", 0) + counts.pop("kana")
    return max(counts, key=lambda name: counts[name]) if counts else "latin"


def language_of(text: str) -> str:
    r"""Name the language as ISO 639-1 has it; "und" if it is too short or not one that is known.

    >>> language_of("The capital of Peru is Lima."), language_of("Lima ist die Hauptstadt von Peru")
    ('en', 'de')
    >>> language_of("\u4f60\u597d"), language_of("x = 1")
    ('zh', 'und')
    """
    head = text[:LETTERS]
    if head.isascii():
        return _by_words(head.encode().translate(_ONLY_LETTERS).decode().split(), _LATIN)
    script = script_of(head)
    if script == "cjk":
        return "ja" if _script_counts(head).get("kana", 0) else "zh"
    if script in OWNED:
        return OWNED[script]
    among = OF_SCRIPT.get(script, _LATIN if script == "latin" else ())
    return _by_words(WORD.findall(head.lower()), among)


def _by_words(words: list[str], among: tuple[str, ...]) -> str:
    """Name the language of which most function words are there."""
    hits = [0.0] * len(among)
    for weight, places in filter(None, map(_words_of(among).get, words)):
        for place in places:
            hits[place] += weight
    best = max(hits, default=0.0)
    if best < MIN_HITS:
        return UNKNOWN
    at = hits.index(best)
    hits[at] = 0.0
    return UNKNOWN if best < MARGIN * max(hits) else among[at]


def _script_counts(text: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    if latin := len(LATIN.findall(text)):
        counts["latin"] = latin
    for char in OTHER.findall(text):
        for name, low, high in SCRIPTS:
            if low <= char <= high:
                # A character of these says about as much as a short word.
                weight = 3 if name in {"cjk", "kana"} else 1
                counts[name] = counts.get(name, 0) + weight
                break
    return counts
