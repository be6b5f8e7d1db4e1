"""What a compressed file decodes to, up to a cap."""

import gzip
import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from ft_tools import workspace
from ft_tools.errors import BadData

# A gzip stream reaches 1028:1 and a Parquet file of 289 bytes can hold 4 GB, so the cap is on what
# comes out: 20 times the file, but at least 256 MiB. Judgement.
MIN_DECODED_BYTES = 256 * 2**20
EXPANSION = 20


def decoded_cap(size_bytes: int) -> int:
    """Return how many bytes a compressed file may decode to."""
    return max(MIN_DECODED_BYTES, EXPANSION * size_bytes)


class _CappedGzip(io.RawIOBase):
    """A gzip stream that ends in an error when more comes out than the cap, or it is damaged."""

    def __init__(self, inner: BinaryIO, path: Path, cap: int) -> None:
        self._inner = inner
        self._gzip = gzip.GzipFile(fileobj=inner, mode="rb")
        self._path = path
        self._left = cap
        self._cap = cap

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._gzip.read(min(len(buffer), 1 << 20))
        except (OSError, EOFError, zlib.error) as error:
            raise BadData(self._path, "is damaged gzip", "compress it again") from error
        self._left -= len(data)
        if self._left < 0:
            raise BadData(
                self._path,
                f"decodes to more than {self._cap / 2**20:.0f} MiB",
                "unpack it first, if you trust it",
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._gzip.close()
        self._inner.close()
        super().close()


def gunzip(path: Path, size: int) -> BinaryIO:
    """Open a gzip file of `size` bytes.

    Reading it raises BadData above the cap, or where it is damaged.
    """
    return io.BufferedReader(
        _CappedGzip(workspace.open_file(path), path, decoded_cap(size)), buffer_size=1 << 20
    )
