"""What is measured, and what it is compared with. Each is started in a stage."""

import json
import shutil
import socket
import subprocess
import time


from load import HERE, ask
from stage import free_port

PYTHON = "/usr/bin/python3"  # Debian's, which has Debian's FastAPI
NPM_S = 300


class Absent(Exception):
    """An optional peer is not there."""


class Server:
    warm_s = 1  # that it takes until it is as fast as it gets


class Sluice(Server):
    name = "Sluice"

    headers = {}

    def __init__(self, stage, *flags, data=None):
        self.stage = stage
        self.data = data or stage.dir / "data"
        self.ipc = f"ipc://{stage.sockets}/sluice.sock"
        self.scheduler = stage.start(
            "scheduler", [stage.bin / "sluice-scheduler", "--data", self.data, "--ipc", self.ipc, *flags], ready_fd=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.gateway = stage.start(
            "gateway", [stage.bin / "sluice-gateway", "--listen", self.url, "--scheduler", self.ipc, *self.gateway_flags()],
            ready_fd=True)
        self.programs = [self.gateway, self.scheduler]

    def gateway_flags(self):
        return []

    def ask(self, method, path, body=None):
        return json.loads(ask(self.port, method, path, body, self.headers))

    def queue(self, name="default"):
        return self.ask("GET", f"/queues/{name}")

    def batches(self, name="default"):
        """All that a queue has ever been given, if none was cancelled."""
        queue = self.queue(name)
        return sum(queue["waiting"].values()) + sum(queue[key] for key in ("delayed", "in_flight", "completed", "failed"))


class SluiceSameHeader(Sluice):
    """Without keys: what the header alone costs the load generator and NNG, and not the check of a key."""

    name = "Sluice, a key is sent and not looked at"
    headers = {"Authorization": "Bearer sluice_7e36OozgXLTvlBTK2oDuQQz9VW6dkZoc8g8TF1QPUXo"}


class SluiceWithKeys(Sluice):
    name = "Sluice, with one key of 100"

    def gateway_flags(self):
        file = self.stage.dir / "keys"
        for number in range(100):
            done = subprocess.run([self.stage.bin / "sluice", "key", "add", f"key-{number}", "--keys", file, "--role",
                                   "submit,read", "--rate", "1000000/s"], capture_output=True, text=True, check=True)
        self.headers = {"Authorization": f"Bearer {done.stdout.strip()}"}
        return ["--keys", file]


class Fixed(Server):
    """NNG's HTTP server, which does nothing else."""

    name = "NNG, fixed answer"

    def __init__(self, stage, status_bytes=64):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.programs = [stage.start("server", [stage.bin / "nng_fixed", self.url, status_bytes])]
        self.programs[0].says("^ready")


class FastApi(Server):
    name = "FastAPI + uvicorn, in memory"
    parts = ["--loop", "asyncio", "--http", "h11"]
    modules = ["fastapi", "uvicorn"]

    def __init__(self, stage):
        server = stage.start(
            "server", [PYTHON, "-B", "-m", "uvicorn", "--host", "127.0.0.1", "--port", "0", "--no-access-log", *self.parts,
                       "fastapi_app:app"], merged=True, cwd=HERE / "peers")
        self.port = int(server.says(r"running on http://127\.0\.0\.1:(\d+)")[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.programs = [server]

    @classmethod
    def prepare(cls, _build):
        for module in cls.modules:
            if subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True).returncode != 0:
                raise Absent(f"not there: Python's {module}")


class FastApiFast(FastApi):
    name = "the same, uvloop + httptools"
    parts = ["--loop", "uvloop", "--http", "httptools"]
    modules = ["fastapi", "uvicorn", "uvloop", "httptools"]


class BullMq(Server):
    name = "Fastify + BullMQ, Redis syncs always"
    warm_s = 3  # until its code is compiled
    SOURCE = HERE / "peers" / "bullmq"

    def __init__(self, stage):
        path = stage.sockets / "redis.sock"
        redis = stage.start("redis", ["redis-server", "--port", "0", "--unixsocket", path, "--dir", stage.dir, "--save", "",
                                      "--appendonly", "yes", "--appendfsync", "always"])
        redis.says("eady to accept connections")
        server = stage.start("server", ["node", "server.js", path], cwd=stage.build / "bench" / "bullmq")
        self.port = int(server.says(r"^ready (\d+)")[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.programs = [server, redis]

    @staticmethod
    def prepare(build):
        for program in ("redis-server", "node", "npm"):
            if not shutil.which(program):
                raise Absent(f"not there: {program}")
        home = build / "bench" / "bullmq"
        home.mkdir(parents=True, exist_ok=True)
        for file in ("package.json", "server.js"):
            shutil.copy(BullMq.SOURCE / file, home)
        installed, wanted = home / "installed.json", home / "package.json"
        if installed.exists() and installed.read_text() == wanted.read_text():
            return
        try:
            done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"], cwd=home,
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=NPM_S)
        except subprocess.TimeoutExpired:
            raise Absent("npm install did not end") from None
        if done.returncode != 0:
            raise Absent(f"npm install failed: {done.stderr.strip().splitlines()[-1:]}")
        shutil.copy(wanted, installed)


class Beanstalkd:
    """Bare puts: no HTTP, no batches, no status."""

    name = "beanstalkd, sync every 50 ms"
    sync_ms = 50

    def __init__(self, stage):
        directory = stage.dir / "log"
        directory.mkdir()
        self.socket = stage.sockets / "beanstalkd.sock"
        self.programs = [stage.start("server", ["beanstalkd", "-l", f"unix:{self.socket}", "-b", directory, "-f", self.sync_ms])]
        while not self._listens():  # it does not say when it is ready
            self.programs[0].check()
            time.sleep(0.01)

    def _listens(self):
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    @staticmethod
    def prepare(_build):
        if not shutil.which("beanstalkd"):
            raise Absent("not there: beanstalkd")


class BeanstalkdEach(Beanstalkd):
    name = "beanstalkd, sync for each"
    sync_ms = 0
