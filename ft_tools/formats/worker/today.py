"""The day that chat templates print: the run's own, on whichever day it goes on.

Templates of Llama 3 and others write the date into each prompt. By the clock, a run resumed on
another day would train on other tokens, and an evaluation would ask its two models differently.
"""

from datetime import UTC, datetime
from typing import Any

from transformers.utils import chat_template_utils


def hold(at: float) -> None:
    """Let the chat templates of this process print the day, in UTC, of seconds since 1970.

    transformers has no argument for it: its `strftime_now` asks the `datetime` of its module.
    """

    class Held(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Held":
            return cls.fromtimestamp(at, tz or UTC)

    chat_template_utils.datetime = Held


def now() -> float:
    """Return the seconds since 1970 that are held, or else those of now, for another process."""
    return float(chat_template_utils.datetime.now(UTC).timestamp())


def strftime_now(form: str) -> str:
    """Write the day that is held, or else today, in the form that a template asks for."""
    return str(chat_template_utils.datetime.now().strftime(form))
