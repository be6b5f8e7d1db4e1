"""The header of a GGUF file that is cut short or damaged is refused, whatever it says."""

import struct

import pytest

from ft_tools.errors import BadInput
from ft_tools.models.gguf_header import ARRAY, STRING, Header, read_header, require_whole

HUGE = 2**62


def text(said):
    return struct.pack("<Q", len(said)) + said.encode()


def header(*values, tensors=b"", num_values=None, num_tensors=0):
    count = len(values) if num_values is None else num_values
    return struct.pack("<4sIQQ", b"GGUF", 3, num_tensors, count) + b"".join(values) + tensors


def value(kind, packed):
    return text("a.key") + struct.pack("<I", kind) + packed


def array(of, count, packed=b""):
    return value(ARRAY, struct.pack("<IQ", of, count) + packed)


WORDS = array(STRING, 2, text("one") + text("two"))
TENSOR = text("w") + struct.pack("<IQIQ", 1, 32, 0, 0)
SOUND = header(WORDS, value(STRING, text("said")), tensors=TENSOR, num_tensors=1)


def test_every_beginning_of_a_header_is_refused_as_cut_short(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(SOUND)
    assert read_header(path) == Header({"a.key": "said"}, {"w": 0})
    for size in range(1, len(SOUND)):
        path.write_bytes(SOUND[:size])
        with pytest.raises(ValueError, match=r"m\.gguf is cut short"):
            read_header(path)


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (header(value(STRING, struct.pack("<Q", HUGE))), "is cut short"),
        (header(array(4, HUGE)), "is cut short"),
        (header(array(STRING, HUGE, text("one"))), "is cut short"),
        (header(array(STRING, 1, struct.pack("<Q", HUGE))), "is cut short"),
        (header(array(ARRAY, HUGE)), "is cut short"),
        (header(num_values=HUGE), "is cut short"),
        (header(num_tensors=HUGE), "is cut short"),
        (header(tensors=text("w") + struct.pack("<I", 2**32 - 1), num_tensors=1), "is cut short"),
        (header(value(77, bytes(8))), "a value of kind 77"),
        (header(array(77, 1, bytes(8))), "a value of kind 77"),
    ],
)
def test_what_a_header_says_beyond_its_file_or_format_is_refused(tmp_path, damaged, said):
    path = tmp_path / "m.gguf"
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=said):
        read_header(path)


def test_a_file_that_ends_before_its_last_tensor_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "m.gguf"
    begins = -(-len(SOUND) // 32) * 32
    path.write_bytes(SOUND.ljust(begins) + bytes(128))
    require_whole(path, "download it again")
    path.write_bytes(SOUND.ljust(begins))
    with pytest.raises(BadInput, match=r"m\.gguf is cut short: .*; download it again"):
        require_whole(path, "download it again")
    nested = header(value(ARRAY, struct.pack("<IQ", ARRAY, 1) * 3000))
    for damaged in (b"", b"GGUF", b"GGML" + SOUND[4:], SOUND[:40], nested):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match=r"cannot be used: .*; download it again"):
            require_whole(path, "download it again")
