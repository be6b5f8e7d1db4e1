"""Ask the CUDA driver itself which GPUs there are: `python -m ft_tools.runs.hardware.cuda_driver`.

For machines without nvidia-smi: containers that were given `compute` only, Jetson, WSL. It is a
process of its own, because a driver in trouble may hang or end it. No context is made, so no GPU
memory is used.
"""

import ctypes
import json
import sys
import uuid

# Source: CUDA driver API, cuda.h: attributes of a device.
MAJOR, MINOR = 75, 76
NAME_BYTES = 100
LIBRARIES = ("libcuda.so.1", "libcuda.so", "libcuda.dylib")


class Uuid(ctypes.Structure):
    """A CUuuid."""

    _fields_ = (("bytes", ctypes.c_char * 16),)


def cards() -> list[dict[str, object]]:
    """Return a row for each device that CUDA shows this process, in its order.

    Raises:
        OSError: There is no driver library, or it refuses.
    """
    cuda = _library()
    _check(cuda.cuInit(0))
    count = ctypes.c_int()
    _check(cuda.cuDeviceGetCount(ctypes.byref(count)))
    return [_card(cuda, number) for number in range(count.value)]


def _library() -> ctypes.CDLL:
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError("no libcuda")


def _card(cuda: ctypes.CDLL, number: int) -> dict[str, object]:
    device = ctypes.c_int()
    _check(cuda.cuDeviceGet(ctypes.byref(device), number))
    name = ctypes.create_string_buffer(NAME_BYTES)
    _check(cuda.cuDeviceGetName(name, NAME_BYTES, device))
    total = ctypes.c_size_t()
    _check(cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device))
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(cuda.cuDeviceGetAttribute(ctypes.byref(major), MAJOR, device))
    _check(cuda.cuDeviceGetAttribute(ctypes.byref(minor), MINOR, device))
    return {
        "index": number,
        "uuid": _uuid(cuda, device),
        "model": name.value.decode("utf-8", "replace"),
        "memory_gib": round(total.value / 2**30, 1),
        "capability": float(f"{major.value}.{minor.value}"),
    }


def _uuid(cuda: ctypes.CDLL, device: ctypes.c_int) -> str:
    found = Uuid()
    # Version 2 names the part of a card that is divided (MIG). Source: CUDA driver API 11.4.
    ask = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
    _check(ask(ctypes.byref(found), device))
    return f"GPU-{uuid.UUID(bytes=ctypes.string_at(ctypes.byref(found), 16))}"


def _check(code: int) -> None:
    if code:
        raise OSError(f"the CUDA driver answers {code}")


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps(cards()))
    except (OSError, AttributeError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
