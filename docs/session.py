"""Record a session at the command line and draw it: `python docs/session.py`.

Runs COMMANDS in a terminal of its own, in an empty folder with the demo's tickets. Writes
session.cast (asciicast version 2, https://docs.asciinema.org/manual/asciicast/v2/) and session.svg,
which README.md shows, beside this file.
"""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from html import escape
from pathlib import Path

from ft_tools.demo import data

COMMANDS = (
    "fine-tuning-llm recommend-approach --considering sft --format human | fold -sw 98 | head -13",
    """fine-tuning-llm prepare-dataset tickets.csv --mapping '{"prompt": "{message}",
  "answer": "category",
  "ignore": ["priority", "product", "order"]}' --format human | grep -A 6 'counts'""",
    "fine-tuning-llm estimate-vram Qwen/Qwen3-8B --gpu 'RTX 4090' --format human | fold -s"
    " | head -7",
)
HERE = Path(__file__).parent
PROMPT = "\x1b[32m$\x1b[0m "
COLUMNS, ROWS = 100, 24
TYPING_SECONDS, READING_SECONDS, LONGEST_WAIT_SECONDS = 0.035, 3.5, 1.0
CHAR_WIDTH, LINE_HEIGHT, PADDING = 8.4, 19, 16
STYLES = {"1": "b", "2": "d", "31": "r", "32": "g", "33": "y", "36": "c"}
SGR = re.compile(r"\x1b\[([\d;]*)m")

Event = tuple[float, str]


def record(folder: Path) -> list[Event]:
    """Type and run each command; return what the terminal showed, with the seconds."""
    events: list[Event] = []
    now = 0.5
    for command in COMMANDS:
        events.append((now, PROMPT))
        for letter in command:
            now += TYPING_SECONDS
            events.append((now, "\r\n" if letter == "\n" else letter))
        now += 0.4
        events.append((now, "\r\n"))
        now = run(command, folder, now, events)
        now += READING_SECONDS
    return events


def run(command: str, folder: Path, now: float, events: list[Event]) -> float:
    """Run a command in a terminal and add its output; return when it ended."""
    ours, theirs = pty.openpty()
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # What head shows of a command has its colours, as without it.
    shown = {"FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=os.environ | shown | {"PATH": scripts, "TERM": "xterm-256color"},
    )
    os.close(theirs)
    before = time.monotonic()
    while True:
        ready, _, _ = select.select([ours], [], [], 0.1)
        if not ready:
            if process.poll() is not None:
                break
            continue
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        now += min(time.monotonic() - before, LONGEST_WAIT_SECONDS)
        before = time.monotonic()
        events.append((now, part.decode()))
    os.close(ours)
    process.wait()
    return now


def drawn(events: list[Event]) -> str:
    """Return the session as an animated picture: each piece of text appears at its time.

    The lines stand on one long sheet, which moves up when the window is full. It repeats without
    end, and needs no script.
    """
    pieces, lines = _pieces(events)
    total = events[-1][0] + READING_SECONDS
    width, height = COLUMNS * CHAR_WIDTH + 2 * PADDING, ROWS * LINE_HEIGHT + 2 * PADDING
    times = sorted({at for at, *_ in pieces})
    names = {at: f"t{number}" for number, at in enumerate(times)}
    keys = [_appears(name, at / total) for at, name in names.items()]
    texts = [
        f'<text class="{names[at]} {style}" x="{PADDING + column * CHAR_WIDTH:.1f}" '
        f'y="{PADDING + (line + 0.75) * LINE_HEIGHT:.1f}" '
        f'textLength="{len(text) * CHAR_WIDTH:.1f}">{escape(text)}</text>'
        for at, line, column, style, text in pieces
    ]
    return _SVG.format(
        title=escape("; ".join(COMMANDS)),
        width=round(width),
        height=round(height),
        total=round(total, 2),
        keys="".join(keys) + _moves(lines, total),
        texts="\n".join(texts),
    )


def _pieces(
    events: list[Event],
) -> tuple[list[tuple[float, int, int, str, str]], list[tuple[float, int]]]:
    """Return (seconds, line, column, classes, text) of each piece, and when each line began."""
    pieces, lines = [], [(0.0, 0)]
    line = column = 0
    style: tuple[str, ...] = ()
    for at, shown in events:
        for part in re.split(r"(\x1b\[[\d;]*m|\r?\n)", shown):
            if found := SGR.fullmatch(part):
                codes = found[1].split(";")
                style = () if "0" in codes or codes == [""] else (*style, *codes)
            elif part.endswith("\n"):
                line, column = line + 1, 0
                lines.append((at, line))
            elif part:
                classes = " ".join(STYLES[code] for code in style if code in STYLES)
                if part.strip():
                    pieces.append((at, line, column, classes, part))
                column += len(part)
    return pieces, lines


def _appears(name: str, fraction: float) -> str:
    at = round(100 * fraction, 3)
    keys = f"@keyframes {name}{{0%,{at}%{{opacity:0}}{at + 0.001:.3f}%,100%{{opacity:1}}}}"
    return f"{keys}.{name}{{animation-name:{name}}}"


def _moves(lines: list[tuple[float, int]], total: float) -> str:
    """Return how the sheet moves up, a line at a time, once the window is full."""
    steps = ["0%{transform:translateY(0)}"]
    before = 0
    for at, line in lines:
        up = max(0, line + 1 - ROWS) * LINE_HEIGHT
        if up != before:
            percent = 100 * at / total
            steps.append(f"{percent:.3f}%{{transform:translateY(-{before}px)}}")
            steps.append(f"{percent + 0.001:.3f}%{{transform:translateY(-{up}px)}}")
            before = up
    steps.append(f"100%{{transform:translateY(-{before}px)}}")
    return f"@keyframes sheet{{{''.join(steps)}}}"


_SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" \
viewBox="0 0 {width} {height}">
<title>{title}</title>
<style>
text{{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#d8dee9;\
white-space:pre;animation:{total}s linear infinite}}
.b{{font-weight:bold;fill:#fff}}.d{{fill:#8b949e}}.r{{fill:#ff7b72}}.g{{fill:#7ee787}}\
.y{{fill:#e3b341}}.c{{fill:#79c0ff}}
#sheet{{animation:sheet {total}s linear infinite}}
{keys}
</style>
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
<svg y="16" width="{width}" height="{height}" viewBox="0 16 {width} {height}"><g id="sheet">
{texts}
</g></svg>
</svg>
"""


def main() -> None:
    """Record, and write both files."""
    with tempfile.TemporaryDirectory() as name:
        shutil.copy(Path(data.__file__).with_name("tickets.csv"), name)
        events = [(round(at, 3), shown) for at, shown in record(Path(name))]
    header = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "fine-tuning-llm"}
    rows = [header, *([at, "o", shown] for at, shown in events)]
    cast = "".join(json.dumps(row) + "\n" for row in rows)
    (HERE / "session.cast").write_text(cast, encoding="utf-8")
    (HERE / "session.svg").write_text(drawn(events), encoding="utf-8")


if __name__ == "__main__":
    main()
