"""What goes out, and what waits: dispatching, its jitter, and everything again with a large backlog."""

import array
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from figures import Row, pace, ratio
from load import ipc, observed, wrk
from measure_ingest import CONTEXTS, FIVE_IDS, INGEST, SMALL
from stage import Stage, Trouble
from subjects import Sluice

POLL_S = 0.02
DISPATCH_INGESTIONS = 150_000  # of two batches
WARM_S = 0.5
ENDLESS_S = 120
JITTER_RATE = 1000
JITTER_BURST = 10
CONNECTIONS = 64


def wait_for(sluice, name, condition):
    """The figures of a queue, once they are so."""
    end = time.monotonic() + ENDLESS_S
    while time.monotonic() < end:
        queue = sluice.queue(name)
        if condition(queue):
            return queue
        time.sleep(POLL_S)
    raise Trouble(f"the queue {name} does not get there: {queue}")


class Sink:
    """A target that answers at once, and counts."""

    def __init__(self, stage, arrivals=None):
        self.program = stage.start("sink", [stage.bin / "http_sink", *([arrivals] if arrivals else [])])
        port = self.program.says(r"^ready (\d+)")[1]
        self.url = f"http://127.0.0.1:{port}/deliver"

    def end(self):
        """How many came."""
        code, output = self.program.end(signal.SIGTERM)
        if code != 0:
            raise Trouble(f"the sink ended with status {code}: {self.program.last_words()}")
        return int(output.split()[1])


def dispatch(bench):
    kinds = {(target, concurrency): f"{target}, {concurrency} at a time"
             for target in ("simulate:0s", "HTTP") for concurrency in (64, 256)}

    def sample(kind):
        target, concurrency = kind
        with Stage(bench.build) as stage:
            sluice = Sluice(stage)
            sink = Sink(stage) if target == "HTTP" else None
            sluice.ask("PUT", "/queues/out", {"rate": "unlimited", "concurrency": concurrency,
                                              "target": sink.url if sink else target})
            sluice.ask("POST", "/queues/out/pause")
            ipc(stage, sluice.ipc, CONTEXTS, 256, f"x{DISPATCH_INGESTIONS}", {**INGEST, "queue": "out"})
            sluice.ask("POST", "/queues/out/resume")
            time.sleep(WARM_S)
            result = observed(sluice.programs[1:], lambda: drain(sluice, "out", bench.seconds))
            sluice.ask("POST", "/queues/out/pause")
            queue = wait_for(sluice, "out", lambda queue: queue["in_flight"] == 0)
            if queue["dispatched"] != queue["completed"]:
                raise Trouble(f"{queue['dispatched']} batches were dispatched, and {queue['completed']} have completed")
            if sink and sink.end() != queue["completed"]:
                raise Trouble("not every delivery that completed came to the sink")
            return result

    results = bench.compare("dispatch", kinds, sample)
    rows = []
    for kind, what in kinds.items():
        row = Row("dispatch", f"dispatch, {what}", "Sluice", "batches/s", results[kind].samples, results[kind].note)
        row.want("", row.median(), least=20_000 if kind[0] == "simulate:0s" else 4_000)
        rows.append(row)
    return rows


def drain(sluice, name, seconds):
    """For so long, or until nothing waits: the batches that completed."""
    completed = sluice.queue(name)["completed"]
    begin = now = time.monotonic()
    after = completed
    while now - begin < seconds:
        time.sleep(POLL_S)
        queue, now = sluice.queue(name), time.monotonic()
        after = queue["completed"]
        if not any(queue["waiting"].values()):
            break
    if after == completed:
        raise Trouble(f"nothing of the queue {name} was completed in {seconds} s")
    return {"value": (after - completed) / (now - begin), "requests": after - completed}


def jitter(bench):
    count = JITTER_RATE * bench.seconds * 2

    def sample(_):
        with Stage(bench.build) as stage:
            sluice = Sluice(stage)
            arrivals = stage.dir / "arrivals"
            sink = Sink(stage, arrivals)
            sluice.ask("PUT", "/queues/out", {"rate": f"{JITTER_RATE}/s", "concurrency": CONNECTIONS, "batch_size": 1,
                                              "target": sink.url})
            sluice.ask("POST", "/ingest", {"ids": list(range(1, count + 1)), "priority": "HIGH", "queue": "out"})
            wait_for(sluice, "out", lambda queue: queue["completed"] == count)
            if sink.end() != count:
                raise Trouble("not every delivery that completed came to the sink")
            times = array.array("q", arrivals.read_bytes())
            return pace(sorted(times), 1_000_000_000 // JITTER_RATE, JITTER_BURST)

    result = bench.compare("jitter", {"Sluice": "Sluice"}, sample)["Sluice"]
    figures = {
        "p50_ms": ("late at the median", "ms"),
        "p99_ms": ("late at the 99th percentile", "ms"),
        "max_ms": ("late at the most", "ms"),
        "used": ("of the rate was used", ""),
        "early_ms": ("the worst window was too short by", "ms"),
    }
    rows = {key: Row("jitter", f"1,000 dispatches/s: {what}", "Sluice", unit, result.values(key), result.note)
            for key, (what, unit) in figures.items()}
    rows["early_ms"].note = result.note or "the contract allows 4, and what the way to the sink takes"
    return list(rows.values())


# --- With a backlog ---------------------------------------------------------------------------------------------------

STILL = ("--rate", "1/1h")  # one batch is dispatched, and then nothing for a long while


def fill(bench, stage, waiting):
    """A store with so many ingestions waiting, left by a scheduler that was killed."""
    directory = stage.dir / f"full-{waiting}"
    sluice = Sluice(stage, *STILL, data=directory)
    if waiting:
        bench.progress(f"backlog: {waiting:,} ingestions")
        ipc(stage, sluice.ipc, CONTEXTS, 256, f"x{waiting}", INGEST)
    last = sluice.ask("POST", "/ingest", {"ids": FIVE_IDS, "priority": "LOW"})["ingestion_id"]
    if sluice.batches() != (waiting + 1) * 2:
        raise Trouble(f"{waiting + 1} ingestions were accepted, and {sluice.batches()} batches are there")
    most = sluice.scheduler.memory()[1]
    for program in (sluice.gateway, sluice.scheduler):
        program.end(signal.SIGKILL)
        stage.programs.remove(program)
    disk = sum(file.stat().st_blocks for file in directory.iterdir()) * 512
    return Full(directory, last, most, {"disk": disk / waiting} if waiting else {})


@dataclass
class Full:
    directory: Path
    last: str  # the ID of an ingestion behind all others
    most: float  # MiB resident of the scheduler that took them in
    sample: dict


def with_backlog(bench, full):
    """On a copy of such a store: the start, what is asked and ingested, and the memory that it took."""
    with Stage(bench.build) as stage:
        data = stage.dir / "data"
        shutil.copytree(full.directory, data)
        os.sync()
        sluice = Sluice(stage, *STILL, data=data)
        url, body = sluice.url + "/ingest", stage.file("body.json", SMALL)
        wrk(url, CONNECTIONS, sluice.warm_s, body)
        sample = {
            "ready": sluice.scheduler.ready_s * 1000,
            "status": wrk(f"{sluice.url}/status/{full.last}", CONNECTIONS, bench.seconds)["value"],
            "post": wrk(url, CONNECTIONS, bench.seconds, body)["value"],
        }
        sluice.ask("PUT", "/queues/default", {"rate": "unlimited", "concurrency": CONNECTIONS, "target": "simulate:0s"})
        sample["dispatch"] = drain(sluice, "default", bench.seconds)["value"]
        for program in sluice.programs:
            sample[f"{program.name} now"], sample[program.name] = program.memory()
        sample["scheduler"] = max(sample["scheduler"], full.most)
        stage.check()
        return {**sample, **full.sample}


BACKLOG = {  # what, unit, the target of a large one: a share of what it is with none, or the most
    "post": ("POST /ingest, 64 connections", "requests/s", {"least": 0.85}),
    "status": ("GET /status, 64 connections", "requests/s", {"least": 0.85}),
    "dispatch": ("dispatch, simulate:0s, 64 at a time", "batches/s", None),
    "scheduler": ("scheduler, resident at the most", "MiB", {"most": 64}),
    "gateway": ("gateway, resident at the most", "MiB", {"most": 24}),
    "ready": ("ready after kill -9", "ms", {"most": 1000}),
    "disk": ("disk for an ingestion of 5 IDs", "bytes", {"most": 220}),
}
LARGE = 1_000_000


def backlog(bench):
    sizes = [0, *(size for size in (100_000, 1_000_000) if size < bench.waiting), bench.waiting]
    with Stage(bench.build) as stage:
        full = {size: fill(bench, stage, size) for size in sizes}
        results = bench.compare("backlog", {size: f"{size:,} waiting" for size in sizes},
                                lambda size: with_backlog(bench, full[size]))
    rows = []
    for key, (what, unit, target) in BACKLOG.items():
        of = {size: Row("backlog", what, f"{size:,} waiting", unit, results[size].values(key), results[size].note, size)
              for size in sizes if key != "disk" or size}
        for size, row in of.items():
            if target and size >= LARGE:
                flat = "least" in target
                row.want("of that with none" if flat else "", ratio(row, of[0]) if flat else row.median(), **target)
        rows += of.values()
    return rows
