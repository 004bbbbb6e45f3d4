"""A stage: a temporary directory on a real disk, and the programs that run in it, for one sample of a measurement."""

import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

READY_S = 60  # until a program is ready: for what never comes
END_S = 15
TICKS = os.sysconf("SC_CLK_TCK")
LOW_PORT = 10000


class Trouble(Exception):
    """Something broke, so there is no figure."""


class Program:
    """A child in a session of its own, which the kernel kills should we die. Its standard error goes to a log."""

    def __init__(self, name, command, log, ready_fd=False, merged=False, cwd=None):
        self.name, self.log, self.ready_s, self.heard = name, log, None, []
        self.ready, writer = os.pipe() if ready_fd else (None, None)
        flags = ["--ready-fd", writer] if ready_fd else []
        command = ["setpriv", "--pdeathsig", "KILL", *command, *flags]
        with open(log, "ab") as errors:
            self.started = time.monotonic()
            self.process = subprocess.Popen(
                list(map(str, command)), start_new_session=True, cwd=cwd, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT if merged else errors, pass_fds=flags[1:])
        if ready_fd:
            os.close(writer)

    def wait_ready(self):
        """On the descriptor; leaves the seconds that it took in ready_s."""
        self._line(self.ready)
        self.ready_s = time.monotonic() - self.started
        os.close(self.ready)

    def _line(self, fd, what="readiness"):
        """One line from a descriptor."""
        line, end = b"", time.monotonic() + READY_S
        while not line.endswith(b"\n"):
            left = max(0, end - time.monotonic())
            byte = os.read(fd, 1) if select.select([fd], [], [], left)[0] else b""
            if not byte:
                raise Trouble(f"{self.name} ended, or gave no sign of {what} within {READY_S} s: {self.last_words()}")
            line += byte
        return line.decode()

    def says(self, pattern):
        """Reads lines of its standard output until one matches."""
        match = None
        while not match:
            self.heard.append(self._line(self.process.stdout.fileno(), f'"{pattern}"').rstrip())
            match = re.search(pattern, self.heard[-1])
        return match

    def last_words(self):
        lines = Path(self.log).read_text(errors="replace").splitlines() or self.heard
        return " / ".join(lines[-3:]) or "it said nothing"

    def check(self):
        if self.process.poll() is not None:
            raise Trouble(f"{self.name} died with status {self.process.returncode}: {self.last_words()}")

    def end(self, number=signal.SIGKILL):
        """Its exit status, and what was left of its standard output."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            output, _ = self.process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise Trouble(f"{self.name} did not end within {END_S} s") from None
        return self.process.returncode, output.decode()

    def usage(self):
        """Seconds of CPU, and voluntary context switches of the threads it has."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        switches = 0
        for status in Path(f"/proc/{self.process.pid}/task").glob("*/status"):
            switches += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.M)[1])
        return (int(fields[11]) + int(fields[12])) / TICKS, switches

    def memory(self):
        """MiB resident: now, and at the most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return tuple(int(re.search(rf"^{name}:\s+(\d+) kB", status, re.M)[1]) / 1024 for name in ("VmRSS", "VmHWM"))


class Stage:
    """Use with `with`: at its end all programs are killed and the directory is removed."""

    def __init__(self, build):
        self.build, self.bin = build, build / "bin"
        self.programs = []

    def __enter__(self):
        base = self.build / "bench"
        base.mkdir(exist_ok=True)
        self.dir = Path(tempfile.mkdtemp(prefix="stage-", dir=base))
        self.sockets = Path(tempfile.mkdtemp(prefix="sluice-bench-"))  # the path of a socket has to be short
        return self

    def __exit__(self, kind, *_):
        for program in self.programs:
            program.process.kill()
        for program in self.programs:
            program.process.communicate()
        shutil.rmtree(self.dir, ignore_errors=True)
        shutil.rmtree(self.sockets, ignore_errors=True)
        os.sync()  # so that the next sample does not wait for what this one has written

    def start(self, name, command, **how):
        try:
            program = Program(name, command, self.dir / f"{name}-{len(self.programs)}.log", **how)
        except OSError as error:
            raise Trouble(f"{name} cannot be started: {error}") from None
        self.programs.append(program)
        if program.ready is not None:
            program.wait_ready()
        return program

    def file(self, name, text):
        path = self.dir / name
        path.write_text(text)
        return path

    def check(self):
        for program in self.programs:
            program.check()


def free_port():
    """Nobody listens there, and no connection takes it for its own end."""
    top = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]) - 1
    while True:
        port = random.randint(min(LOW_PORT, top - 1), top)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
