"""Large pictures leave nothing allocated behind in a reading process."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

# Blocks of 8 MiB, each followed by one that stays: without the change their memory stays with the process.
PROGRAM = """
import ctypes, sys
from pathlib import Path
from textract_local.server.allocator import adapt_allocator

def data_bytes():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmData"))
    return int(line.split()[1]) * 1024

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
# glibc allocates what is smaller than the largest block that was freed so far on the heap.
libc.free(libc.malloc(30 << 20))
adapt_allocator(Path(sys.argv[1]))
before = data_bytes()
blocks = [(libc.malloc(8 << 20), libc.malloc(100_000)) for _ in range(20)]
for large, _ in blocks:
    libc.free(large)
print((data_bytes() - before) >> 20)
"""


# Small blocks, of which every sixteenth stays: without the change the pages between them stay resident.
TRIMMED = """
import ctypes
from textract_local.server.allocator import give_back_memory

def resident_mib():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
before = resident_mib()
blocks = [libc.malloc(16 << 10) for _ in range(16_000)]
for number, block in enumerate(blocks):
    ctypes.memset(block, 1, 16 << 10)
for number, block in enumerate(blocks):
    if number % 16:
        libc.free(block)
held = resident_mib() - before
give_back_memory()
print(held, resident_mib() - before)
"""

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is glibc's")


@GLIBC
def test_give_back_memory_free_blocks_between_others_leaves_process() -> None:
    ended = subprocess.run([sys.executable, "-c", TRIMMED], capture_output=True, text=True, check=True)
    held, trimmed = map(int, ended.stdout.split())
    assert held > 200
    assert trimmed < 80


def held_mib(path: Path) -> int:
    ended = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True)
    return int(ended.stdout)


@GLIBC
def test_adapt_allocator_large_picture_gives_blocks_back(tmp_path: Path) -> None:
    large, usual, scaled = tmp_path / "large.png", tmp_path / "usual.png", tmp_path / "scaled.jpg"
    Image.new("1", (4900, 4900)).save(large)
    Image.new("1", (3000, 4000)).save(usual)
    Image.new("L", (4900, 4900)).save(scaled)
    assert held_mib(large) < 20
    for other in (usual, scaled, tmp_path / "missing.png"):
        assert held_mib(other) > 100, other.name
