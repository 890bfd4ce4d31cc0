"""A Ray cluster of a head and two worker nodes, for tests.

Where that is permitted each node is in a network namespace of its own, with a private address on a bridge without a
way out; elsewhere they are three sets of processes on loopback addresses. The cluster asks for a token.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from restem_lib.config import PROJECT

RAY = Path(sys.executable).parent / "ray"
HEAD, WORKERS = 1, (2, 3)
QUICK = {
    "health_check_period_ms": "500",
    "health_check_timeout_ms": "2000",
    "health_check_failure_threshold": "4",
    "gcs_rpc_server_reconnect_timeout_s": "10",
}
"""When a node that does not answer is taken for dead, and when the head is: Ray's own defaults are half a minute or so
and a minute."""


class Cluster:
    """Node 1 is the head, without CPUs for work; nodes 2 and 3 have one each."""

    def __init__(self, namespaces: bool) -> None:
        self.namespaces = namespaces
        self.name = f"restem{os.getpid() % 10**5}"
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))  # paths of sockets must be short
        token = self.folder / "token"
        token.touch(0o600)
        token.write_text(secrets.token_hex(32))
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            **{f"RAY_{name}": value for name, value in QUICK.items()},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_memory_monitor_refresh_ms": "0",  # other tests may fill the memory
            "PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests'}",
            "OMP_NUM_THREADS": "1",
        }
        self.groups: dict[int, int] = {}
        """Process groups of the nodes that run."""
        self.cut: set[int] = set()
        """Nodes whose link is down."""
        self.drivers: list[subprocess.Popen[str]] = []
        self.address = f"{self.ip(HEAD)}:{6379 if namespaces else 20000 + os.getpid() % 10000}"

    def ip(self, node: int) -> str:
        return f"10.1.0.{node}" if self.namespaces else f"127.0.0.{node}"

    def open(self) -> None:
        if self.namespaces:
            _ip(f"link add {self.name} type bridge")
            _ip(f"link set {self.name} up")
            for node in (HEAD, *WORKERS):
                space, outside = f"{self.name}-{node}", f"{self.name}.{node}"
                _ip(f"netns add {space}")
                _ip(f"link add {outside} type veth peer name eth0 netns {space}")
                _ip(f"link set {outside} master {self.name} up")
                _ip(f"-n {space} addr add {self.ip(node)}/24 dev eth0")
                _ip(f"-n {space} link set eth0 up")
                _ip(f"-n {space} link set lo up")
        self.mend()

    def mend(self) -> None:
        """End the drivers and start the nodes that do not run: as if no test had been before."""
        while self.drivers:
            driver = self.drivers.pop()
            if driver.poll() is None:
                os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
            assert driver.stdout
            driver.stdout.close()
        for node in self.cut:
            _ip(f"link set {self.name}.{node} up")
            self.kill(node)  # what the head took for dead it does not take back
        self.cut.clear()
        if HEAD not in self.groups:
            for node in list(self.groups):  # which belong to the head before
                self.kill(node)
            port = self.address.split(":")[1]
            head = ["--head", f"--port={port}", f"--temp-dir={self.folder}"]
            self._start(HEAD, [*head, "--num-cpus=0", "--include-dashboard=false"])
        for node in WORKERS:
            if node not in self.groups:
                self._start(node, [f"--address={self.address}", "--num-cpus=1"])

    def _start(self, node: int, options: list[str]) -> None:
        ports = [] if self.namespaces else [f"--dashboard-agent-listen-port={52365 + node}"]
        small = ["--object-store-memory=80000000", "--disable-usage-stats"]
        command = [str(RAY), "start", f"--node-ip-address={self.ip(node)}", *options]
        for _ in range(3):  # on a busy machine a node may miss the half minute that Ray gives it
            process = self.start([*command, *ports, *small], node)
            output, _ = process.communicate(timeout=120)
            self.groups[node] = process.pid
            if process.returncode == 0:
                return
            self.kill(node)
        raise RuntimeError(output)

    def drive(self, command: Sequence[str], **environment: str) -> subprocess.Popen[str]:
        """Run a command of restem on the head, with this cluster's workers."""
        options = ["--executor", "ray", "--ray-address", self.address]
        self.drivers.append(self.start([*command, *options], HEAD, **environment))
        return self.drivers[-1]

    def start(self, command: Sequence[str], node: int, **environment: str) -> subprocess.Popen[str]:
        """A process on a node, the leader of a group of its own."""
        where = ["ip", "netns", "exec", f"{self.name}-{node}"] if self.namespaces else []
        return subprocess.Popen(
            [*where, *command],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def freeze(self, node: int) -> None:
        """Stop everything that runs on a node in its tracks."""
        for process in self._on(node):
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def kill(self, node: int) -> None:
        """kill -9 of everything that runs on a node."""
        for process in self._on(node):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        del self.groups[node]

    def cut_off(self, node: int) -> None:
        """Take a node's link down; everything on it goes on. Only with namespaces."""
        _ip(f"link set {self.name}.{node} down")
        self.cut.add(node)

    def _on(self, node: int) -> list[psutil.Process]:
        """Its process group and what that has started: workers are in groups of their own."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                line = [process, *process.parents()]
                if any(one.pid and os.getpgid(one.pid) == self.groups[node] for one in line):
                    found.append(process)
        return found

    def close(self) -> None:
        for driver in self.drivers:
            driver.kill()
        for node in list(self.groups):
            self.kill(node)
        if self.namespaces:
            for node in (HEAD, *WORKERS):
                subprocess.run(["ip", "netns", "del", f"{self.name}-{node}"], check=False)
            subprocess.run(["ip", "link", "del", self.name], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def namespaces_permitted() -> bool:
    """Whether this process may make network namespaces and bridges."""
    name = f"restem{os.getpid() % 10**5}"
    try:
        _ip(f"netns add {name}-0")
        try:
            _ip(f"-n {name}-0 link add {name} type bridge")
        finally:
            _ip(f"netns del {name}-0")
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True, capture_output=True)
