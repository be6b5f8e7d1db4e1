"""Files that break readers: 130 of them, each a name and how to make it."""

import gzip
import io
import json
import os
import pickle
import socket
import sqlite3
import zipfile
from pathlib import Path

GOOD = [{"prompt": f"What is {at}?", "completion": f"It is the number {at}."} for at in range(12)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in GOOD)
ARRAY = json.dumps(GOOD).encode()
CSV = b"prompt,completion\n" + b"".join(
    f"{row['prompt']},{row['completion']}\n".encode() for row in GOOD
)


def line_with(value):
    """Put raw JSON among good rows."""
    return LINES + b'{"prompt": "a", "completion": ' + value + b"}\n" + LINES


def texts():
    """Yield (name, bytes): encodings, line ends, odd characters."""
    text = LINES.decode() + '{"prompt": "caf\u00e9 \u4f60\u597d", "completion": "\U0001f600"}\n'
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "gb18030"):
        yield f"{encoding}.jsonl", text.encode(encoding)
    yield "latin-1.jsonl", LINES + "{'caf\u00e9': 'ol\u00e9'}\n".encode("latin-1")
    for name, end in {"crlf": b"\r\n", "cr": b"\r", "lfcr": b"\n\r", "nel": b"\xc2\x85"}.items():
        yield f"{name}.jsonl", LINES.replace(b"\n", end)
    yield "u2028.jsonl", line_with('"a\u2028b\u2029c"'.encode())
    yield "nul.jsonl", line_with(b'"a\x00b"')
    yield "nul-escaped.jsonl", line_with(b'"a\\u0000b"')
    yield "controls.jsonl", line_with(b'"' + bytes(range(1, 32)) + b'"')
    yield "bidi.jsonl", line_with('"\u202e\u2066abc\u200b\ufeff\U000e0041"'.encode())
    yield "private.jsonl", line_with('"\ue000\uf8ff\U0010ffff"'.encode())
    yield "combining.jsonl", line_with(("a" + "\u0301" * 5000).join('""').encode())
    for name, value in {
        "surrogate": b'"\\ud800"',
        "surrogate-low": b'"\\udc00"',
        "surrogate-pair": b'"\\ud83d\\ude00"',
        "surrogate-raw": b'"\xed\xa0\x80"',
        "overlong": b'"\xc0\xaf"',
        "cut": b'"\xe4\xbd"',
        "five-bytes": b'"\xf8\x88\x80\x80\x80"',
        "ff": b'"\xff\xfe"',
        "bad-escape": b'"\\x41 \\u12"',
    }.items():
        yield f"{name}.jsonl", line_with(value)
        yield f"{name}.json", b"[" + b",".join([b'{"a": ' + value + b"}", ARRAY[1:-1]]) + b"]"


def values():
    """Yield (name, bytes): JSON that is odd, damaged or deep."""
    for name, value in {
        "nan": b"NaN",
        "infinity": b"-Infinity",
        "overflow": b"1e999",
        "digits": b"9" * 5000,
        "fraction": b"0." + b"3" * 20_000,
        "zeros": b"007",
        "hex": b"0x1F",
        "plus": b"+1",
        "undefined": b"undefined",
        "single-quotes": b"'a'",
        "comment": b'"a" // b',
        "trailing-comma": b'"a",',
        "unclosed-string": b'"abc',
        "unclosed-object": b'{"a": {',
        "twice": b'"a", "completion": "b"',
        "empty-key": b'"a", "": ""',
        "number": b"5",
        "deep-list": b"[" * 10_000 + b"]" * 10_000,
        "deep-object": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        "deeper": b"[" * 200_000,
        "many-keys": json.dumps({f"k{at}": at for at in range(20_000)}).encode(),
        "long-key": b'{"' + b"k" * 2**20 + b'": 1}',
        "long-string": b'"' + b"word " * 2**18 + b'"',
        "quotes": b'"' + b'\\"' * 50_000 + b'"',
    }.items():
        yield f"{name}.jsonl", line_with(value)
    for name, field in {
        "deep-removed": '"more": ' + "[" * 500 + "]" * 500,
        "deep-tools": '"tools": ' + "[" * 900 + "]" * 900,
    }.items():
        row = '{"prompt": "a", "completion": "", %s}' % field  # noqa: UP031
        yield f"{name}.jsonl", LINES + row.encode() + b"\n" + LINES
    breaks = "\n" * 20_000
    for name, row in {
        "answer": {"prompt": "a", "completion": f"a:{breaks}b"},
        "task": {"prompt": "a", "completion": f"a: b\nTask{' ' * 20_000}"},
        "prompt": {"prompt": f"a{breaks}b:", "completion": "It is so."},
        "pair": {"prompt": "a", "chosen": f"a{breaks}b", "rejected": f"c{breaks}d"},
        "name": {breaks: breaks},
    }.items():
        yield f"breaks-{name}.jsonl", LINES + json.dumps(row).encode() + b"\n"
    for name, whole in {
        "scalar": b"5",
        "string": b'"abc"',
        "null": b"null",
        "empty-list": b"[]",
        "empty-object": b"{}",
        "lists": b"[[1, 2], [[3]], null, true]",
        "cut-array": ARRAY[:-40],
        "no-commas": ARRAY.replace(b"},", b"}"),
        "semicolons": ARRAY.replace(b"},", b"};"),
        "after": ARRAY + b" and more",
        "two-arrays": ARRAY + ARRAY,
        "wrapped": b'{"data": ' + ARRAY + b', "version": 1}',
        "pretty": json.dumps(GOOD, indent=3).encode(),
        "closers": b"[" + b"}" * 5000 + b"]",
        "openers": b"[" * 5000,
        "only-commas": b"[" + b"," * 100_000 + b"]",
        "strings": b"[" + b'"",' * 1000 + b'""]',
    }.items():
        yield f"{name}.json", whole


def tables():
    """Yield (name, bytes): CSV and what calls itself so."""
    yield "open-quote.csv", CSV + b'"never closed, ' + CSV * 50
    yield "ragged.csv", CSV + b"a\na,b,c,d\n,\n"
    yield "nul.csv", CSV + b"a\x00,b\n"
    yield "binary-cells.csv", CSV + b"\xff\xfe,\xe9\n"
    yield "no-rows.csv", b"prompt,completion\n"
    yield "one-column.csv", b"text\n" + b"a line of words\n" * 12
    yield "same-names.csv", CSV.replace(b"prompt,completion", b"prompt,prompt")
    yield "wide.csv", b",".join([b"c"] * 20_000) + b"\n" + b",".join([b"x"] * 20_000) + b"\n"
    yield "long-line.csv", CSV + b"x" * 3 * 2**20 + b",y\n"
    yield "tabs.tsv", CSV.replace(b",", b"\t")
    yield "pipes.csv", CSV.replace(b",", b"|")
    yield "formulas.csv", CSV + b'"=HYPERLINK(""http://x"")",@SUM(1)\n'


def others():
    """Yield (name, bytes): what is no data."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("d.jsonl", LINES)
    database = sqlite3.connect(":memory:")
    database.execute("create table t (x)")
    for name, content in {
        "empty": b"",
        "blank": b" \n\t\r\n" * 100,
        "newlines": b"\n" * 500_000,
        "bom-only": b"\xef\xbb\xbf",
        "zip": buffer.getvalue(),
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
        "html": b"<!DOCTYPE html><html><body>Sign in</body></html>",
        "xml": b"<?xml version='1.0'?><a/>",
        "pdf": b"%PDF-1.7\n" + bytes(range(256)),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4,
        "elf": b"\x7fELF" + bytes(5000),
        "sqlite": database.serialize(),
        "pickle": pickle.dumps(GOOD),
        "yaml": b"- prompt: a\n  completion: b\n",
        "prose": b"Dear reader,\nthis is a letter.\n" * 20,
        "random": bytes((at * 7919 + at // 3) % 256 for at in range(20_000)),
    }.items():
        yield f"{name}-as.jsonl", content
    database.close()
    for name, content in {
        "good": gzip.compress(LINES),
        "cut": gzip.compress(LINES)[:-30],
        "flipped": gzip.compress(LINES)[:40] + b"\x00" + gzip.compress(LINES)[41:],
        "joined": gzip.compress(LINES) + gzip.compress(LINES),
        "garbage-after": gzip.compress(LINES) + b"garbage",
        "twice": gzip.compress(gzip.compress(LINES)),
        "empty": gzip.compress(b""),
        "not": LINES,
    }.items():
        yield f"{name}.jsonl.gz", content
    yield "par1.parquet", b"PAR1"
    yield "par1-twice.parquet", b"PAR1" + b"\xff" * 200 + b"PAR1"
    yield "text.parquet", LINES


def small():
    """Return name -> bytes of the files that are quick to make and to read."""
    made = dict([*texts(), *values(), *tables(), *others()])
    assert all(isinstance(content, bytes) for content in made.values())
    return made


def make_special(folder: Path) -> list[str]:
    """Make what is no regular file, or leads to none; return the names."""
    os.mkfifo(folder / "fifo.jsonl")
    (folder / "loop.jsonl").symlink_to("loop.jsonl")
    (folder / "loop-a.jsonl").symlink_to("loop-b.jsonl")
    (folder / "loop-b.jsonl").symlink_to("loop-a.jsonl")
    (folder / "zero.jsonl").symlink_to("/dev/zero")
    (folder / "random.jsonl").symlink_to("/dev/urandom")
    (folder / "nowhere.jsonl").symlink_to("not-there")
    (folder / "folder.jsonl").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    before = Path.cwd()
    # A socket's address is short: it is bound from inside.
    os.chdir(folder)
    listener.bind("socket.jsonl")
    os.chdir(before)
    listener.close()
    return sorted(path.name for path in folder.iterdir())
