"""The log of a run, bounded, without secrets and with control characters escaped."""

from pathlib import Path

from ft_tools.redaction import redact

LOG_BYTES = 64 * 1024
LINE_CHARS = 300


def log_tail(run_dir: Path, num_lines: int) -> list[str]:
    """Return the last lines of a run's log, bounded and with control characters escaped."""
    return log_end(run_dir, num_lines, is_over=True)[0]


def log_end(run_dir: Path, num_lines: int, *, is_over: bool = False) -> tuple[list[str], int]:
    """Return the last lines of a run's log, as `log_since` shows them, and where they end."""
    log = run_dir / "log.txt"
    begin = max(0, log.stat().st_size - LOG_BYTES) if log.exists() else 0
    lines, end = log_since(run_dir, begin, is_over=is_over)
    # The first one may be without its beginning, and so end in a secret that is not recognised.
    whole = lines[1:] if begin else lines
    return whole[-num_lines:] if num_lines else [], end


def log_since(run_dir: Path, offset: int, *, is_over: bool = False) -> tuple[list[str], int]:
    """Return lines of a run's log, at most 64 KiB of them, and the offset in bytes behind them.

    They begin at an offset, and are shown as by `log_tail`. Where nothing more is written
    (`is_over`), a last line without its end counts, too.
    """
    try:
        with (run_dir / "log.txt").open("rb") as stream:
            stream.seek(offset)
            data = stream.read(LOG_BYTES)
    except FileNotFoundError:
        return [], offset
    is_full = len(data) == LOG_BYTES
    if (is_full and b"\n" in data) or not (is_full or is_over):
        data = data[: data.rfind(b"\n") + 1]
    return _shown(data), offset + len(data)


def _shown(data: bytes) -> list[str]:
    text = redact(data.decode("utf-8", errors="replace"))
    lines = [line.rsplit("\r", 1)[-1] for line in text.split("\n") if line.strip()]
    shown = (line[:LINE_CHARS].encode("unicode_escape") for line in lines)
    return [line.decode("ascii")[:LINE_CHARS] for line in shown]
