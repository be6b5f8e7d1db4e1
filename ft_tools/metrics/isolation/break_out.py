"""Try, from inside, to reach what isolation has to keep away; the probe's program."""

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any


def main(receive: Callable[[], Any], send: Callable[[Any], None]) -> None:
    """Send what was reached, in words."""
    told = receive()
    send(sorted({*reached(told), *outgrown(told, receive)}))


def reached(told: dict[str, Any]) -> Iterator[str]:
    """Yield what of the machine is there."""
    addresses = ((socket.AF_INET, ("127.0.0.1", told["port"])), (socket.AF_UNIX, told["name"]))
    for family, address in addresses:
        with socket.socket(family) as one:
            one.settimeout(1)
            if not one.connect_ex(address):
                yield "the network"
    if any(map(os.path.lexists, told["paths"])):
        yield "files of this machine"
    if any(os.access(path, os.W_OK) for path in ("/", "/usr", "/dev")):
        yield "a folder that it can write"
    if set(os.environ) - {*told["environment"], "PWD", "LC_CTYPE"}:
        yield "the environment"
    try:
        os.kill(told["pid"], 0)
    except OSError:
        return
    yield "processes of this machine"


def outgrown(told: dict[str, Any], receive: Callable[[], Any]) -> Iterator[str]:
    """Yield the limits that do not hold."""
    try:
        bytearray(told["bytes"])
        yield "more memory than its limit"
    except MemoryError:
        pass
    children = []
    try:
        for _ in range(told["processes"]):
            child = os.fork()
            if not child:
                receive()
                os._exit(0)
            children.append(child)
        yield "more processes than its limit"
    except OSError:
        pass
    for child in children:
        os.kill(child, 9)
