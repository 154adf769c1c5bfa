"""Starts a command under what of a unit's sandbox needs no systemd: its system calls, and no capabilities.

`python sandbox.py UNIT COMMAND...`. Without systemd-analyze or libseccomp the command is started as it is.
"""

import ctypes
import ctypes.util
import errno
import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_ALLOW = 0x7FFF0000
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38


def main(unit: Path, command: list[str]) -> None:
    """Becomes the command."""
    text = unit.read_text(encoding="utf-8")
    libc = ctypes.CDLL(None, use_errno=True)
    if "CapabilityBoundingSet=\n" in text:
        for capability in range(41):
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    if "NoNewPrivileges=yes" in text:
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    library = ctypes.util.find_library("seccomp")
    if library and shutil.which("systemd-analyze"):
        _filter(ctypes.CDLL(library), re.findall("^SystemCallFilter=(.+)$", text, flags=re.MULTILINE))
    os.execvp(command[0], command)


def _filter(seccomp: ctypes.CDLL, lines: list[str]) -> None:
    allowed: set[str] = set()
    for line in lines:
        names = {name for word in line.lstrip("~").split() for name in _names(word)}
        allowed = allowed - names if line.startswith("~") else allowed | names
    seccomp.seccomp_init.restype = ctypes.c_void_p
    refusing = 0x00050000 | errno.EPERM
    context = ctypes.c_void_p(seccomp.seccomp_init(refusing))
    for name in sorted(allowed | {"execve"}):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            assert seccomp.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0) == 0, name
    assert seccomp.seccomp_load(context) == 0


@functools.cache
def _names(word: str) -> frozenset[str]:
    """The system calls of a group, or the one that is named."""
    if not word.startswith("@"):
        return frozenset({word})
    said = subprocess.run(["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True)
    members = [line.strip() for line in said.stdout.splitlines()[1:] if line.strip() and "#" not in line]
    return frozenset(name for member in members for name in _names(member))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
