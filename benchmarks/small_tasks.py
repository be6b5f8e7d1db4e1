"""Small supervised tasks made by grammar: what benchmarks/defaults.py and diagnosis.py train.

Each task makes (prompt, answer) pairs from a seed. Half of the sentences of held-out rows
and all of their names and products come in no training row. Nothing here is a real
person, order or company.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Pair = tuple[str, str]

PRODUCTS = (
    "kettle", "toaster", "desk lamp", "office chair", "headset", "keyboard", "printer", "router",
    "rucksack", "bicycle", "rain jacket", "wrist watch", "drill", "heater", "mattress", "camera",
    "garden hose", "blender", "stroller", "bookshelf", "tent", "guitar", "scooter", "coffee mill",
)  # fmt: skip
PLACES = (
    "Leeds", "Turin", "Porto", "Ghent", "Malmo", "Graz", "Bilbao", "Bergen", "Cork", "Lyon",
    "Gdansk", "Utrecht", "Bern", "Brno", "Split", "Tartu",
)  # fmt: skip
NAMES = (
    "Anna Koch", "Ben Hale", "Carla Ruiz", "Dmitri Orlov", "Eva Lind", "Farid Aziz", "Gina Rossi",
    "Hugo Blanc", "Ines Costa", "Jan Novak", "Kofi Mensah", "Lea Wolf", "Mei Chen", "Nils Berg",
    "Olga Petrova", "Paul Grant", "Rosa Silva", "Sven Dahl", "Tara Singh", "Uwe Brandt",
)  # fmt: skip
OPENINGS = (
    "Hello,", "Hi there,", "Good morning,", "Dear team,", "Dear sir or madam,", "Hey,", "Hi,",
    "To whom it may concern,", "Good evening,", "Hello again,", "",
)  # fmt: skip
CLOSINGS = (
    "Best, {name}", "Regards, {name}", "Thanks, {name}", "Kind regards, {name}", "{name}",
    "Yours, {name}", "Cheers, {name}", "Looking forward to your reply. {name}", "",
)  # fmt: skip
ASIDES = (
    "I ordered it from {place} on the {day}.", "My order number is {number}.",
    "I live in {place}.", "It was a present for my sister.", "I paid by card.",
    "We are a small office in {place}.", "My customer number is {number}.",
    "I have been a customer for years.", "I saw it in your spring catalogue.", "", "", "",
)  # fmt: skip
COMPLAINTS = (
    "The {product} arrived with a crack right across the front.",
    "Your {product} stopped working after two days.",
    "I have waited three weeks for the {product} and nobody answers me.",
    "The {product} you sent is the wrong colour, and this is the second time.",
    "I was charged twice for one {product}.",
    "The {product} makes a terrible noise and smells of burnt plastic.",
    "Half of the screws for the {product} are missing.",
    "The driver left the {product} in the rain and it is ruined.",
    "It is unacceptable that the {product} came without a plug.",
    "The {product} fell apart the first time we used it.",
    "You promised the {product} by the {day} and it still has not come.",
    "I am very disappointed: the {product} is scratched all over.",
    "The {product} is nothing like the picture on your site.",
    "Your support hung up on me when I reported the broken {product}.",
    "The {product} leaks and has damaged my floor.",
    "I sent the {product} back a month ago and still have no refund.",
    "The box was open and someone had clearly used the {product} before.",
    "The handle of the {product} snapped off and cut my hand.",
    "Instead of a {product} I was sent something completely different.",
    "The {product} will not switch on, whatever I try.",
)
REQUESTS = (
    "Could you tell me whether the {product} comes in blue?",
    "I would like to order two more of the {product}.",
    "What does delivery of a {product} to {place} cost?",
    "Please send me the manual for the {product}.",
    "Is the {product} in stock again before the {day}?",
    "Can I change the delivery address of my {product} to {place}?",
    "How long is the warranty on the {product}?",
    "I am looking for a {product} for a child of ten; which one do you advise?",
    "Would you please send the invoice for the {product} to our office?",
    "Do you have a shop in {place} where I can see the {product}?",
    "Please let me know the measurements of the {product}.",
    "May we have an offer for fifteen pieces of the {product}?",
    "Could the {product} be delivered on the {day} instead?",
    "Which batteries does the {product} need?",
    "Is it possible to pay for the {product} in three parts?",
    "I want to add gift wrapping to the {product}.",
    "Does the {product} fit through a door of seventy centimetres?",
    "Please put me on the waiting list for the {product}.",
    "When will the new model of the {product} be presented?",
    "Can you reserve a {product} for me until the {day}?",
)
INTENTS = {
    "check_balance": ("how much money is on my {thing} account", "show my {thing} balance"),
    "block_card": ("block my {thing} card at once", "I lost the {thing} card, please stop it"),
    "book_table": ("a table for {n} on {day}, please", "reserve seats for {n} people on {day}"),
    "cancel_table": ("we cannot come on {day}, drop the table", "cancel our dinner for {n}"),
    "weather": ("will it rain in {place} on {day}", "how warm does it get in {place}"),
    "set_alarm": ("wake me at {n} on {day}", "an alarm for {n} o'clock, please"),
    "play_music": ("play something by {name}", "put on the songs of {name}"),
    "send_message": ("text {name} that I am late", "write to {name} that we meet on {day}"),
    "call_person": ("ring {name}", "please phone {name} for me"),
    "train_times": ("when does the next train to {place} leave", "trains to {place} on {day}"),
    "hotel": ("find me a room in {place} for {n} nights", "a hotel in {place}, please"),
    "translate": ("what is {thing} in Spanish", "say {thing} in French"),
    "convert_unit": ("how many inches are {n} centimetres", "{n} miles in kilometres"),
    "timer": ("count down {n} minutes", "a timer of {n} minutes"),
    "shopping_list": ("put {thing} on the shopping list", "I need to buy {thing}"),
    "calendar": ("what have I planned on {day}", "is there anything in my diary for {day}"),
    "news": ("what happened in {place} today", "read me the news from {place}"),
    "recipe": ("how do I cook {thing}", "a recipe with {thing}"),
    "lights_on": ("switch on the lamp in the {thing} room", "make the {thing} room bright"),
    "lights_off": ("lights out in the {thing} room", "turn the {thing} room dark"),
}
THINGS = (
    "green", "travel", "family", "garden", "office", "apple", "winter", "holiday", "music", "guest",
    "savings", "spare", "business", "paper", "summer", "corner",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
ARTICLES = (
    "{name} wrote a short note about the {product} market in {place}.",
    "In {place}, a {product} maker named {name} opened a second workshop on {day}.",
    "The museum of {place} shows a {product} that {name} used for {n} years.",
    "{name} repaired {n} pieces of {product} last winter and lives near {place}.",
)


@dataclass(frozen=True)
class Task:
    """A task and what its goal is called."""

    name: str
    goal: str
    instruction: str
    make: Callable[[random.Random, bool], Pair]
    """Random numbers, whether for the held-out part -> a pair."""


def _part(items: tuple[str, ...], held_out: bool) -> tuple[str, ...]:
    """Return the last fifth for held-out rows, the others for training."""
    cut = len(items) - max(1, len(items) // 5)
    return items[cut:] if held_out else items[:cut]


def _filled(numbers: random.Random, text: str, held_out: bool) -> str:
    return text.format(
        product=numbers.choice(_part(PRODUCTS, held_out)),
        place=numbers.choice(_part(PLACES, held_out)),
        name=numbers.choice(_part(NAMES, held_out)),
        thing=numbers.choice(_part(THINGS, held_out)),
        day=numbers.choice(DAYS),
        number=numbers.randrange(10_000, 99_999),
        n=numbers.randrange(2, 60),
    )


def _sentence(numbers: random.Random, items: tuple[str, ...], held_out: bool) -> str:
    """Choose a sentence; for held-out rows one that no training row has, every second time."""
    unseen = held_out and numbers.random() < 0.5
    return numbers.choice(_part(items, unseen))


def _mail(numbers: random.Random, held_out: bool) -> Pair:
    label = numbers.choice(("complaint", "request"))
    sentences = COMPLAINTS if label == "complaint" else REQUESTS
    parts = [numbers.choice(ASIDES), _sentence(numbers, sentences, held_out)]
    numbers.shuffle(parts)
    text = " ".join(filter(None, (numbers.choice(OPENINGS), *parts, numbers.choice(CLOSINGS))))
    return _filled(numbers, text, held_out), label


def _mail_json(numbers: random.Random, held_out: bool) -> Pair:
    mail, label = _mail(numbers, held_out)
    return mail, json.dumps({"label": label})


def _intent(numbers: random.Random, held_out: bool) -> Pair:
    label = numbers.choice(sorted(INTENTS))
    return _filled(numbers, numbers.choice(INTENTS[label]), held_out), label


def _order(numbers: random.Random, held_out: bool) -> Pair:
    name = numbers.choice(_part(NAMES, held_out))
    product = numbers.choice(_part(PRODUCTS, held_out))
    place = numbers.choice(_part(PLACES, held_out))
    amount = numbers.randrange(2, 60)
    form = numbers.choice(
        (
            "{name} from {place} wants {amount} of the {product}.",
            "Please ship {amount} pieces ({product}) to {name}, {place}.",
            "{product}: {amount} for {name} in {place}.",
            "To {place}, {amount} units of {product}; ask for {name}.",
        )
    )
    fields = {"name": name, "place": place, "product": product, "amount": amount}
    return form.format(**fields), json.dumps(fields)


def _date(numbers: random.Random, held_out: bool) -> Pair:
    year, month, day = (
        numbers.randrange(1950, 2030),
        numbers.randrange(12),
        numbers.randrange(1, 29),
    )
    form = numbers.choice(("{d} {m} {y}", "{m} {d}, {y}", "the {d}. of {m} {y}", "{d}-{s}-{y}"))
    text = form.format(d=day, m=MONTHS[month], s=MONTHS[month][:3], y=year)
    return text, f"{year}-{month + 1:02d}-{day:02d}"


def _short_note(numbers: random.Random, held_out: bool) -> Pair:
    """Make a longer answer in free words, whose facts are all in the prompt."""
    text = _filled(numbers, numbers.choice(ARTICLES), held_out)
    words = text.rstrip(".").split()
    return text, f"Summary: {' '.join(words[:6])} ... ({len(words)} words in all)."


TASKS = {
    task.name: task
    for task in (
        Task("mails", "classification", "Label the mail as complaint or request.", _mail),
        Task("mails_json", "classification", "Label the mail; answer in JSON.", _mail_json),
        Task("intents", "classification", "Name the intent.", _intent),
        Task("orders", "extraction", "Extract the order as JSON.", _order),
        Task("dates", "extraction", "Write the date as YYYY-MM-DD.", _date),
        Task("notes", "style", "Shorten the note.", _short_note),
    )
}


def pairs(task: Task, count: int, seed: int, *, held_out: bool = False) -> list[Pair]:
    """Make so many pairs, no two with the same prompt."""
    numbers = random.Random(f"{task.name} {seed} {held_out}")
    found: dict[str, str] = {}
    while len(found) < count:
        prompt, answer = task.make(numbers, held_out)
        found[prompt] = answer
    return list(found.items())


def row(task: Task, pair: Pair) -> dict[str, Any]:
    """Return a training row."""
    prompt, answer = pair
    return {
        "prompt": [{"role": "user", "content": f"{task.instruction}\n\n{prompt}"}],
        "completion": [{"role": "assistant", "content": answer}],
    }
