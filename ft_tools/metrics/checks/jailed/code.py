"""An answer's code and its tests, in two jails that exchange plain values.

The tests see no object of the answer: numbers, texts and collections are made anew from JSON, so
that nothing can compare equal to everything; all else is a `Remote`, whose attributes and calls
are asked for and which is equal to itself only. The answer has neither the tests nor the verdict
in its memory.
"""

import ast
import builtins
import contextlib
import importlib
import itertools
import operator
import sys
import types
import unittest
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

Receive = Callable[[], Any]
Send = Callable[[Any], None]
MOST_ITEMS = 100_000
"""Of an iterator that an answer returns."""
PLAIN_INTEGER = 2**53
COLLECTIONS: Mapping[str, type[Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozen": frozenset,
}
USUAL_NAMES = {"np": "numpy", "pd": "pandas"}
VIEWS: tuple[type, ...] = (Iterator, range, type({}.keys()), type({}.values()), type({}.items()))
SPECIAL: Mapping[str, Callable[..., Any]] = {
    "__getitem__": operator.getitem,
    "__setitem__": operator.setitem,
    "__len__": len,
    "__iter__": lambda one: list(itertools.islice(one, MOST_ITEMS)),
    "__str__": str,
    "__repr__": repr,
    "__bool__": bool,
}
"""What Python asks a collection, and what that is in the answer's jail."""
ASKED: Mapping[str, Callable[..., Any]] = {
    **SPECIAL,
    "call": lambda one, args, named: one(*args, **named),
    "get": getattr,
}


class AnswerError(Exception):
    """What an answer raised that is no exception of Python's own."""


def main(receive: Receive, send: Send) -> None:
    """Play the part that the first message names."""
    told = receive()
    play = answer if told["part"] == "answer" else tests
    play(told, receive, send)


def answer(told: Any, receive: Receive, send: Send) -> None:
    """Run the answer's code, then serve what it defines."""
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    kept: list[Any] = []

    def keep(value: Any) -> int:
        kept.append(value)
        return len(kept) - 1

    try:
        exec(compile(told["code"], "solution", "exec"), module.__dict__)
    except BaseException as error:
        send({"failed": type(error).__name__})
        return
    send({"names": [name for name in module.__dict__ if not name.startswith("__")]})
    while (asked := receive()) is not None:
        send(reply(asked, module, kept, keep))


def reply(
    asked: Any, module: types.ModuleType, kept: list[Any], keep: Callable[[Any], int]
) -> dict[str, Any]:
    """Return the value of what the tests ask for, or what it raised."""

    def found_at(key: int | str) -> Any:
        return getattr(module, key) if isinstance(key, str) else kept[key]

    try:
        arguments = [decode(part, found_at) for part in asked["arguments"]]
        value = ASKED[asked["what"]](found_at(asked["target"]), *arguments)
        found = {"value": encode(value, keep)}
        if value is None:
            # A function that changes its arguments returns nothing, as list.sort does.
            found["arguments"] = encode(arguments, keep)
        return found
    except BaseException as error:
        return {"raised": type(error).__name__, "text": str(error)[:1000]}


class Remote:
    """An object in the answer's jail: attributes and calls.

    What the entry point returns is no more than this: as a collection it could have every item
    that a test looks for.
    """

    __slots__ = ("_ask", "_key")

    def __init__(self, key: int | str, ask: Callable[..., Any]) -> None:
        self._key = key
        self._ask = ask

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask(self, "get", name)

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Call it there."""
        return self._ask(self, "call", list(args), named)


class RemoteCollection(Remote):
    """An object of a class that the tests name, which may be one that has items."""

    __slots__ = ()


def _special(name: str) -> Callable[..., Any]:
    def ask(self: Remote, *arguments: Any) -> Any:
        found = self._ask(self, name, *arguments)
        return iter(found) if name == "__iter__" else found

    return ask


for _name in SPECIAL:
    setattr(RemoteCollection, _name, _special(_name))


def tests(told: Any, receive: Receive, send: Send) -> None:
    """Run the tests against the answer, and send the verdict with its nonce."""

    def ask(remote: Remote, what: str, *arguments: Any) -> Any:
        key, of_same_kind = object.__getattribute__(remote, "_key"), partial(made, type(remote))
        sent = [encode(one, key_of) for one in arguments]
        send({"ask": {"target": key, "what": what, "arguments": sent}})
        found = receive()
        if "raised" in found:
            raise exception_of(str(found["raised"]), str(found.get("text", "")))
        if "arguments" in found and what == "call":
            changed = decode(found["arguments"], of_same_kind)
            for old, new in zip(
                [*arguments[0], *arguments[1].values()], _flat(changed), strict=True
            ):
                update(old, new)
        return decode(found["value"], of_same_kind)

    def made(kind: type[Remote], key: int | str) -> Remote:
        return kind(key, ask)

    remote_of = partial(made, RemoteCollection)
    known = set(told["names"])
    solution = types.ModuleType("solution")
    solution.__dict__.update({name: remote_of(name) for name in known})
    sys.modules["solution"] = solution
    tree = ast.parse(told["tests"])
    wanted = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    module: dict[str, Any] = {"__name__": "tests"}
    module |= {name: remote_of(name) for name in known & wanted - set(dir(builtins))}
    entry = told["entry_point"]
    module |= modules_in(tree, entry)
    if entry and entry in known:
        module |= dict.fromkeys((entry, "candidate"), made(Remote, entry))
    verdict = {"nonce": told["nonce"], "passed": False, "broken": False}
    try:
        exec(compile(tree, "tests", "exec"), module)
        verdict["broken"] = not run(module, module.get("candidate"))
        verdict["passed"] = not verdict["broken"]
    except BaseException:
        # Whatever the tests raise, SystemExit too, they did not pass.
        pass
    send(verdict)


def run(module: dict[str, Any], candidate: Any) -> bool:
    """Run the test functions and classes that the tests define; False: one cannot be run.

    Raises:
        AssertionError: A class's tests fail, or are skipped.
    """
    functions = {k: v for k, v in module.items() if isinstance(v, types.FunctionType)}
    own = {name: one for name, one in functions.items() if name.startswith("test")}
    if any(one.__code__.co_argcount for one in own.values()):
        return False
    for one in own.values():
        one()
    if check := functions.get("check"):
        # HumanEval's form, which calls nothing without the name of the function.
        if candidate is None and check.__code__.co_varnames[:1] == ("candidate",):
            return False
        if candidate is not None:
            check(candidate)
    for one in list(module.values()):
        if isinstance(one, type) and issubclass(one, unittest.TestCase):
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(one).run(result)
            assert result.wasSuccessful()
            assert result.testsRun > len(result.skipped) == 0
    return True


def modules_in(tree: ast.Module, entry: str | None) -> dict[str, types.ModuleType]:
    """Return the modules that tests use without an import, by name.

    They are the real ones, whatever the answer calls so: else its `math` would compare for them.
    """
    nodes = list(ast.walk(tree))
    bases = {node.value for node in nodes if isinstance(node, ast.Attribute)}
    called = {node.func for node in nodes if isinstance(node, ast.Call)}
    names = {node.id for node in bases if isinstance(node, ast.Name)}
    names -= {entry, *(node.id for node in called if isinstance(node, ast.Name))}
    found = {}
    for name in names:
        if name in USUAL_NAMES or name in sys.stdlib_module_names:
            with contextlib.suppress(ImportError):
                found[name] = importlib.import_module(USUAL_NAMES.get(name, name))
    return found


def exception_of(name: str, text: str) -> Exception:
    """Return what an answer raised, as an exception here; never one that ends the process."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(text)
        except TypeError:
            pass
    return AnswerError(f"{name}: {text}")


def update(old: Any, new: Any) -> None:
    """Give a collection the content that the answer gave it."""
    if isinstance(old, list) and isinstance(new, list):
        old[:] = new
    elif isinstance(old, dict | set) and type(old) is type(new):
        old.clear()
        old.update(new)


def encode(value: Any, keep: Callable[[Any], Any]) -> Any:
    """Return a value as JSON; what is not plain is kept, and its key sent."""
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < PLAIN_INTEGER else {"int": hex(value)}
    if isinstance(value, bytes | bytearray):
        return {"bytes": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, dict):
        pairs = [[encode(part, keep) for part in pair] for pair in value.items()]
        return {"dict": pairs}
    if isinstance(value, VIEWS):
        items: Any = value
        value = list(itertools.islice(items, MOST_ITEMS))
    for name, kind in COLLECTIONS.items():
        if isinstance(value, kind):
            return {name: [encode(part, keep) for part in value]}
    return {"kept": keep(value)}


def decode(value: Any, found: Callable[[Any], Any]) -> Any:
    """Return the value that `encode` wrote; `found` returns what a key stands for."""
    if not isinstance(value, dict):
        return value
    [(name, content)] = value.items()
    if name == "int":
        return int(content, 16)
    if name == "bytes":
        return bytes.fromhex(content)
    if name == "complex":
        return complex(*content)
    if name == "dict":
        return {decode(k, found): decode(v, found) for k, v in content}
    if name == "kept":
        return found(content)
    return COLLECTIONS[name](decode(part, found) for part in content)


def key_of(value: Any) -> Any:
    """Return the key of an object of the answer; nothing else that is not plain can be sent."""
    if isinstance(value, Remote):
        return object.__getattribute__(value, "_key")
    raise TypeError(f"tests cannot pass {type(value).__name__} to an answer")


def _flat(arguments: Any) -> list[Any]:
    positional, named = arguments
    return [*positional, *named.values()]
