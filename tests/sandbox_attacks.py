"""Programs that try to get out of the sandbox: a table (promise, program), for any test and any user.

Each prints "out" where it succeeds and is tried outside first: an attack that fails there shows nothing. None leaves
anything behind but in its own folder. Standard library only: an ordinary user runs this file from a copy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PRELUDE = """
import ctypes, json, os, sys, time
host = json.loads(input())
secret, folder = host["secret"], host["folder"]
kept, parent = folder + "/kept", os.getppid()
libc = ctypes.CDLL(None, use_errno=True)

def out():
    print("out", flush=True)

def call(number, *arguments):
    ready = [x if isinstance(x, bytes) else ctypes.c_long(x) for x in arguments]
    ctypes.set_errno(0)
    return libc.syscall(ctypes.c_long(number), *ready)

def reached(result):  # the kernel looked at the arguments: it did not say EPERM or ENOSYS
    return result != -1 or ctypes.get_errno() not in (1, 38)
"""

PLACES = '{"secret": "", "folder": ""}\n'
"""For a program that needs no place."""

FILES = {
    "read a file": "open(secret).read(); out()",
    "read a file from the root folder": "os.open(secret[1:], 0, dir_fd=os.open('/', os.O_PATH)); out()",
    "read a file by openat2": "if call(437, -100, secret.encode(), b'\\0' * 24, 24) >= 0: out()",
    "read a file through a descriptor of its path": (
        "os.open(f'/proc/self/fd/{os.open(secret, os.O_PATH)}', 0); out()"
    ),
    "read a file through /proc/self/root": "open('/proc/self/root' + secret).read(); out()",
    "read a file through the parent's root": "open(f'/proc/{parent}/root{secret}').read(); out()",
    "read a file through a symlink": (
        "os.symlink(secret, folder + '/l'); open(folder + '/l').read(); out()"
    ),
    "read /etc/passwd": "open('/etc/passwd').read(); out()",
    "list a folder": "os.listdir(folder); out()",
    "list /proc": "os.listdir('/proc'); out()",
    "read the parent's environment": "open(f'/proc/{parent}/environ', 'rb').read(); out()",
    "read a kernel setting": "open('/proc/sys/kernel/core_pattern').read(); out()",
    "open a device": "open('/dev/zero', 'rb').read(1); out()",
    "make a file": "os.close(os.open(folder + '/new', os.O_CREAT | os.O_WRONLY)); out()",
    "make a file by creat": "if call(85, (folder + '/new').encode(), 0o600) >= 0: out()",
    "append to a file": "open(kept, 'a').write('x'); out()",
    "truncate a file": "os.truncate(kept, 0); out()",
    "truncate a file by opening it": "os.open(kept, os.O_TRUNC); out()",
    "remove a file": "os.unlink(kept); out()",
    "rename a file": "os.rename(kept, folder + '/new'); out()",
    "link a file": "os.link(kept, folder + '/new'); out()",
    "make a symlink": "os.symlink('/etc', folder + '/new'); out()",
    "make a folder": "os.mkdir(folder + '/new'); out()",
    "remove a folder": "os.rmdir(folder + '/empty'); out()",
    "make a named pipe": "os.mkfifo(folder + '/new'); out()",
    "change a file's mode": "os.chmod(host['mine'], 0o600); out()",
    "change a file's owner": "os.chown(host['mine'], os.getuid(), os.getgid()); out()",
    "change a file's times": "os.utime(kept); out()",
    "write a file without a name": """
for place in ("/tmp", "/var/tmp", "/dev/shm", "/run", folder):
    try:
        os.open(place, os.O_TMPFILE | os.O_RDWR)
        out()
    except OSError:
        pass
""",
    "write a file in memory": "os.memfd_create('x'); out()",
    "share memory (SysV)": """
made = libc.shmget(0, 4096, 0o600)
if made != -1:
    libc.shmctl(made, 0, None)
    out()
""",
    "change the working folder": "os.chdir(folder); out()",
    "change the umask": "os.umask(0); out()",
}

SOCKETS = {
    f"open a socket: {name}": f"if libc.socket({family}, {kind}, 0) >= 0: out()"
    for name, family, kind in (
        ("TCP", 2, 1),
        ("TCP over IPv6", 10, 1),
        ("UDP", 2, 2),
        ("unix", 1, 1),
        ("unix datagrams", 1, 2),
        ("netlink", 16, 3),
    )
} | {
    "open a socket: a pair": "if libc.socketpair(1, 1, 0, (ctypes.c_int * 2)()) == 0: out()",
    "set up io_uring": "if call(425, 1, bytes(120)) >= 0: out()",
}

_FORKED = """
if child == 0:
    os._exit(0)
if child > 0:
    os.waitpid(child, 0)
    out()
"""
PROCESSES = {
    "fork": f"child = os.fork(){_FORKED}",
    "fork by the raw call": f"child = call(57){_FORKED}",
    "clone": f"child = call(56, 17, 0, 0, 0, 0){_FORKED}",
    "clone3": f"child = call(435, (bytes(32) + bytes([17]) + bytes(31)), 64){_FORKED}",
    "run a command": "os.execv('/bin/sh', ['sh', '-c', 'echo out'])",
    "run a command by os.system": "os.system('echo out')",
    "run a command by posix_spawn": (
        "os.waitpid(os.posix_spawn('/bin/sh', ['sh', '-c', 'echo out'], {}), 0)"
    ),
    "run Python anew": "os.execv(sys.executable, [sys.executable, '-S', '-c', 'print(\"out\")'])",
    "start a thread": "import _thread; _thread.start_new_thread(out, ()); time.sleep(0.2)",
    "start a thread by pthread_create": (
        "if libc.pthread_create(ctypes.byref(ctypes.c_long()), None, libc.abs, None) == 0: out()"
    ),
    "find a way by subclasses": """
for each in ().__class__.__base__.__subclasses__():
    if each.__name__ == "_wrap_close":
        each.__init__.__globals__["system"]("echo out")
""",
}

OTHERS = {
    "signal the parent": "os.kill(parent, 0); out()",
    "signal everyone": "os.kill(-1, 0); out()",
    "signal a group": "os.killpg(os.getpgid(parent), 0); out()",
    "signal a thread of the parent": "if call(234, parent, parent, 0) == 0: out()",
    "signal through the owner of a pipe": "if libc.fcntl(1, 8, parent) == 0: out()",
    "signal through the owner of a pipe (extended)": (
        "if libc.fcntl(1, 15, (ctypes.c_int * 2)(1, parent)) == 0: out()"
    ),
    "hold the parent by a descriptor": "os.pidfd_open(parent); out()",
    "take the parent's descriptors": ("if reached(call(438, call(434, parent, 0), 0, 0)): out()"),
    "read the parent's memory": "open(f'/proc/{parent}/mem', 'rb'); out()",
    "read the parent's memory by process_vm_readv": "if call(310, parent, 0, 0, 0, 0, 0) == 0: out()",
    "be traced": "if call(101, 0, 0, 0, 0) == 0: out()",
    "change the parent's priority": ("os.setpriority(0, parent, os.getpriority(0, parent)); out()"),
    "bind the parent to a processor": (
        "os.sched_setaffinity(parent, os.sched_getaffinity(parent)); out()"
    ),
    "read the parent's limits": "import resource; resource.prlimit(parent, 0); out()",
    "write its own memory as a file": "open('/proc/self/mem', 'r+b'); out()",
    "move a limit": "import resource; resource.setrlimit(0, (9, 9)); out()",
    "become dumpable": "if libc.prctl(4, 1, 0, 0, 0) == 0: out()",
    "change a signal's handler": "import signal; signal.signal(15, signal.SIG_IGN); out()",
    "set an alarm": "import signal; signal.alarm(9); signal.alarm(0) == 9 and out()",
    "type into a terminal": "if reached(libc.ioctl(0, 0x5412, b'x')): out()",
}
FOR_ROOT = {
    "signal process 1": "os.kill(1, 0); out()",
    "become root by setresuid": "os.setresuid(0, 0, 0); out()",
    "become root by seteuid": "os.seteuid(0); out()",
    "become root's group": "os.setresgid(0, 0, 0); out()",
    "compare with the parent (kcmp)": "if call(312, os.getpid(), parent, 0, 0, 0) >= 0: out()",
    "open a kernel setting": (
        "os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY); out()  # opened, never written"
    ),
    "open the kernel's memory settings": "os.open('/proc/sys/vm/drop_caches', os.O_WRONLY); out()",
}
"""Outside, only root can."""

CALLS = {
    "leave or make namespaces": "272 -1; 308 -1 0; 161 0",
    "mount": "165 0 0 0 0 0; 166 0 0; 428 -1 0 0; 155* 0 0; 430* 0 0; 429* -1 0 -1 0 0; 167* 0 0",
    "keys": "250 -1; 248 0 0 0 0 -1; 249 0 0 0 0",
    "bpf and perf": "321* -1 0 0; 298 0 0 -1 -1 0",
    "page faults and memory of others": "323 -1; 440 -1 0 0 0 0; 279 -1 0 0 0 0 0; 310 -1 0 0 0 0 0",
    "files by other calls": "437 -1 0 0 0; 319 0 0; 303 -1 0 0 0 0; 304* 0 0 0; 188 0 0 0 0 0",
    "watch files": "294 -1; 300* -1 0",
    "messages and semaphores": "29 0 0 -1; 64 0 -1 0; 71 -1 0 0; 240 0 0 0 0; 30 -1 0 0",
    "sockets by other calls": "41 -1 0 0; 53 -1 -1 0 0; 42 -1 0 0; 425 0 0; 426 -1 0 0 0 0",
    "programs": "59 0 0 0; 322 -1 0 0 0 0; 435 0 0",
    "signals": "62 0x3fffffff 0; 200 -1 0; 234 -1 -1 0; 129 -1 0 0; 434 -1 0; 424 -1 0 0 0; 438 -1 0 0",
    "its own handlers and timers": "13 -1 0 0 8; 38 -1 0 0; 222 -1 0 0; 283 -1 0",
    "its own filter and rights": "157 -1 0 0 0 0; 317 -1 0 0; 126 0 0; 158 -1 0; 444 -1 0 -1; 302 -1 0 0 0",
    "users": "117 -1 -1 -1; 119 -1 -1 -1; 105 -1; 106 -1; 116* -1 0",
    "the kernel": "103* -1 0 0; 179* -1 0 0 0; 154 0 0 0; 227 0 0",
}
"""System calls that do nothing with these arguments, but are not refused; * marks what refuses an ordinary user."""

if sys.platform == "linux" and os.uname().machine != "x86_64":
    CALLS = {}  # the numbers are those of x86-64


def calls(promise: str) -> str:
    """A program that makes the calls and prints "out", or the numbers of those refused."""
    made = []
    for text in CALLS[promise].split(";"):
        number, *arguments = text.split()
        if number.endswith("*") and os.getuid() != 0:
            continue
        made.append(f"({', '.join([number.strip('*'), *arguments])})")
    return f"""
refused = [made[0] for made in [{", ".join(made)}] if not reached(call(*made))]
print("through:", {len(made)} - len(refused), "refused:", refused)
if len(refused) < {len(made)}: out()
"""


def attacks() -> dict[str, str]:
    """Every attack that can succeed outside for the user that asks."""
    tables = FILES | SOCKETS | PROCESSES | OTHERS | (FOR_ROOT if os.getuid() == 0 else {})
    return tables | {f"system calls: {promise}": calls(promise) for promise in CALLS}


def host(folder: Path) -> str:
    """What an attack is told: a folder open to everyone, a secret that everyone may read."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    for name in ("secret", "kept", "mine"):
        (folder / name).write_text("the host's own text")
        (folder / name).chmod(0o666)
    (folder / "empty").mkdir()
    (folder / "empty").chmod(0o777)
    names = {"secret": f"{folder}/secret", "mine": f"{folder}/mine", "folder": str(folder)}
    return json.dumps(names) + "\n"


def seen(folder: Path) -> list[tuple[object, ...]]:
    """All that an attack could have changed in the folder."""
    found = [(path, path.lstat()) for path in sorted(folder.rglob("*"))]
    return [(str(p), s.st_mode, s.st_uid, s.st_size, s.st_mtime_ns, s.st_nlink) for p, s in found]


def outside(program: str, given: str) -> str:
    """What an attack prints without a sandbox."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", PRELUDE + program],
        input=given,
        capture_output=True,
        text=True,
        timeout=20,
    )
    return done.stdout + done.stderr[-200:]


def main(folder: Path) -> None:
    """Every attack at every level that works for this user: a line of JSON."""
    from restem_lib.rewards import sandbox
    from restem_lib.rewards.sandbox import Job

    none = []
    for number, (promise, program) in enumerate(attacks().items()):
        if "out" not in outside(program, host(folder / f"outside-{number}")).split():
            none.append(promise)
    found: dict[str, dict[str, Any]] = {"user": {"id": os.getuid(), "no attack": none}}
    folder = folder / "inside"
    given = host(folder)
    before = seen(folder)
    for level in sandbox.LEVELS:
        probe = sandbox.probe(level)
        found[level] = {"works": probe.works, "why": probe.why, "got out": [], "broken": []}
        if probe.works:
            for promise, program in attacks().items():
                jobs = [
                    Job("stdin", PRELUDE + program, given, seconds=1),
                    Job("stdin", "print(42)"),
                ]
                attack, after = sandbox.each(
                    lambda run, pair: [run(job) for job in pair], [jobs], level
                )[0]
                if "out" in attack.output.split() or seen(folder) != before:
                    found[level]["got out"].append(promise)
                if after.output != "42\n":
                    found[level]["broken"].append(promise)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
