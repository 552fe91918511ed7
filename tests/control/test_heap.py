"""One heap of the C library for all threads of the control process."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from control import heap

if sys.argv[1] == "one":
    assert heap.share_one()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.fopen.restype, libc.fclose.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
all_are_there = threading.Barrier(4)

def take():
    all_are_there.wait(30)
    assert libc.malloc(5_000)

threads = [threading.Thread(target=take) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
out = libc.fopen(sys.argv[2].encode(), b"w")
assert libc.malloc_info(0, out) == 0
libc.fclose(out)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has several heaps")
@pytest.mark.parametrize("which", ["one", "as it was"])
def test_threads_share_one_heap(tmp_path, which):
    """By malloc_info(3); without it each thread had its own."""
    told = tmp_path / "malloc.xml"
    subprocess.run([sys.executable, "-c", PROGRAM, which, str(told)], check=True, timeout=60)
    heaps = told.read_text().count("<heap nr=")
    assert heaps == 1 if which == "one" else heaps > 1
