"""Which device computes, and in which precision; found out without torch, so that a cached run stays quick.

Every device computes in fp32 unless half precision is asked for, so that results depend on no processor.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bserkit.errors import UsageError

PRECISIONS = ("fp32", "bf16", "fp16")
#: Names of the C library's settings (malloc.h), and the most that glibc raises them to of itself, bytes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_OWN_TRIM, _OWN_MMAP = 64 << 20, 32 << 20
_GPU_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))


def resolve_device(asked: str) -> str:
    """Return ``cpu`` or ``cuda:N`` for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: the device is not known or not there.
    """
    if asked == "cpu" or (
        asked == "auto" and sys.platform == "linux" and not any(path.exists() for path in _GPU_DRIVERS)
    ):
        return "cpu"
    match = re.fullmatch(r"auto|cuda(?::(\d+))?", asked)
    if not match:
        raise UsageError(f"--device {asked} is not known; expected auto, cpu, cuda or cuda:N.")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(match[1] or 0) < count:
        return f"cuda:{int(match[1] or 0)}"
    if asked == "auto":
        return "cpu"
    raise UsageError(f"--device {asked} is not there: torch sees {count} CUDA devices. Use --device cpu or auto.")


def resolve_precision(asked: str, device: str) -> str:
    """Return ``fp32``, ``bf16`` or ``fp16``; ``auto`` is the fastest here, so other numbers on other machines.

    Raises:
        UsageError: the precision is not known, or of no use on the device.
    """
    if asked not in ("auto", *PRECISIONS):
        raise UsageError(f"--precision {asked} is not known; expected auto, {', '.join(PRECISIONS)}.")
    if device == "cpu" and asked == "fp16":
        raise UsageError("--precision fp16 is for GPUs; on a processor use bf16, fp32 or auto.")
    return fastest_precision(device) if asked == "auto" else asked


def fastest_precision(device: str) -> str:
    """Return the precision that a device computes fastest in: bf16 where it is native, on a GPU without it fp16."""
    if device == "cpu":
        return "bf16" if _processor_has_bf16() else "fp32"
    import torch

    return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"


def compute_whole_fp32() -> None:
    """Have torch multiply fp32 numbers as they are, for the rest of the process: no TF32, no bf16 in their place."""
    import torch

    # By the older names first: torch refuses to read them once the newer ones say something else.
    torch.set_float32_matmul_precision("highest")
    cuda, cudnn, cpu = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    cuda.matmul.allow_tf32 = cudnn.allow_tf32 = False
    for kind in (cuda.matmul, cudnn.conv, cudnn.rnn, cpu.matmul, cpu.conv, cpu.rnn):  # type: ignore[attr-defined]
        kind.fp32_precision = "ieee"  # type: ignore[union-attr]


def _processor_has_bf16() -> bool:
    """Say whether bfloat16 is the faster arithmetic here.

    It is with Intel's AMX, on AMD's and Arm's units. Intel's AVX512-BF16 alone multiplies matrices in it at about half
    the speed of fp32, so it does not count.
    """
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return False
    return bool(words & {"amx_bf16", "bf16"}) or {"avx512_bf16", "AuthenticAMD"} <= words


@contextmanager
def memory_kept() -> Iterator[None]:
    """Let the C library keep freed memory while a network computes, rather than give it back after every layer.

    What the system gives anew has to be mapped page by page and filled with zeros, which costs AlexNet a tenth of its
    time. Of glibc alone; elsewhere nothing changes. Afterwards free memory is given back.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    assert library is not None  # noqa: S101
    library.mallopt(_MMAP_THRESHOLD, 1 << 30)
    library.mallopt(_TRIM_THRESHOLD, 1 << 30)
    try:
        yield
    finally:
        library.mallopt(_MMAP_THRESHOLD, _OWN_MMAP)
        library.mallopt(_TRIM_THRESHOLD, _OWN_TRIM)
        library.malloc_trim(0)
