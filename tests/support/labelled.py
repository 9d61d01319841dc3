"""
A SAN that adds an attribute of its own to every file: an rsync that loads ``labelled.c`` before the C library.

Whatever starts it and in whichever root, no variable and no file besides is needed: what it loads first is written into
the program itself.
"""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")
#: The library's file name: a string that each rsync has already, the end of "lremovexattr" among what it imports.
LIBRARY = "removexattr"
FOLDER = "/usr/lib"
DYNAMIC, LOAD = 2, 1  # program headers, elf(5)
NEEDED, STRINGS, DEBUG = 1, 5, 21  # entries of the dynamic section


def library(folder, label):
    """The library for an attribute, as bytes."""
    if not shutil.which("cc"):
        pytest.skip("this machine has no C compiler")
    target = folder / f"{label}.so"
    argv = ["cc", "-shared", "-fPIC", f'-DLABEL="{label}"', "-o", target, SOURCE, "-ldl"]
    subprocess.run(argv, check=True)
    return target.read_bytes()


def loading_it(program):
    """A program as bytes that needs the library, and before all others; its entry for debuggers makes room."""
    changed = bytearray(program)
    start, size, count = (
        struct.unpack_from(form, program, at)[0] for form, at in (("<Q", 32), ("<H", 54), ("<H", 56))
    )
    headers = [struct.unpack_from("<IIQQQQQQ", program, start + size * number) for number in range(count)]
    (dynamic,) = [header for header in headers if header[0] == DYNAMIC]
    entries = [
        (at, *struct.unpack_from("<QQ", program, at)) for at in range(dynamic[2], dynamic[2] + dynamic[5], 16)
    ]
    address = next(value for _, tag, value in entries if tag == STRINGS)
    strings = next(
        header[2] + address - header[3]
        for header in headers
        if header[0] == LOAD and header[3] <= address < header[3] + header[5]
    )
    name = program.index(f"l{LIBRARY}\0".encode(), strings) + 1 - strings
    first, first_value = next((at, value) for at, tag, value in entries if tag == NEEDED)
    room = next(at for at, tag, _ in entries if tag == DEBUG)
    struct.pack_into("<QQ", changed, first, NEEDED, name)
    struct.pack_into("<QQ", changed, room, NEEDED, first_value)
    return bytes(changed)
