"""What comes in, and what is asked: POST /ingest, GET /status, the same over IPC, and bulk."""

import json
import random
import uuid

from figures import Row, ratio
from load import ask, ipc, observed, run, wrk
from stage import Stage, Trouble
from subjects import Beanstalkd, BeanstalkdEach, BullMq, FastApi, FastApiFast, Fixed, Sluice, SluiceSameHeader, SluiceWithKeys

SMALL = '{"ids":[1,2,3,4,5],"priority":"HIGH"}'
FIVE_IDS = [4711001, 1234567, 7654321, 2718281, 3141592]
INGEST = {"op": "ingest", "ids": FIVE_IDS, "priority": "MEDIUM"}
CONNECTIONS = (64, 256)
BULK_IDS = 100_000
BULK_CONNECTIONS = 4
CONTEXTS = 8


def check_count(sluice, answered, open_ones, batches_each=2):
    """What was answered is there, and nothing else but what the load generator no longer waited for."""
    there = sluice.batches() / batches_each
    if not answered <= there <= answered + open_ones:
        raise Trouble(f"{answered:.0f} requests were answered, and {there:.0f} are there")


def post(bench):
    def sample(subject):
        with Stage(bench.build) as stage:
            it = subject(stage)
            body = stage.file("body.json", SMALL)
            url = it.url + "/ingest"
            headers = getattr(it, "headers", None)
            answered = wrk(url, CONNECTIONS[0], it.warm_s, body, headers)["requests"]
            samples = {}
            for connections in CONNECTIONS:
                samples[connections] = observed(it.programs, lambda: wrk(url, connections, bench.seconds, body, headers))
                answered += samples[connections]["requests"]
            if isinstance(it, Sluice):
                check_count(it, answered, CONNECTIONS[0] + sum(CONNECTIONS))
            return samples

    subjects = [Sluice, SluiceSameHeader, SluiceWithKeys, Fixed, FastApi, FastApiFast, BullMq]
    results = bench.compare("post", {subject: subject.name for subject in subjects}, sample)
    rows = []
    for connections, floor in zip(CONNECTIONS, (0.60, 0.80)):
        mine = {subject: Row("post", f"POST /ingest, {connections} connections", subject.name, "requests/s",
                             [result[connections] for result in results[subject].samples], results[subject].note)
                for subject in subjects}
        row = mine[Sluice]
        row.want("of NNG", ratio(row, mine[Fixed]), least=floor)
        mine[SluiceWithKeys].want("of that without keys", ratio(mine[SluiceWithKeys], row), least=0.95)
        mine[SluiceWithKeys].want("of that without a check", ratio(mine[SluiceWithKeys], mine[SluiceSameHeader]), least=0.95)
        if connections == CONNECTIONS[0]:
            row.want("p99 / median", row.median("p99_ms") / row.median("p50_ms") if row.samples else None, most=4)
        else:
            row.want("× FastAPI", ratio(row, mine[FastApi]), least=8)
        rows += mine.values()
    return rows


def status(bench):
    size = {}

    def sample(subject):
        with Stage(bench.build) as stage:
            it = subject(stage, size["answer"]) if subject is Fixed else subject(stage)
            path = f"/status/{uuid.uuid4()}"
            if subject is not Fixed:
                path = f"/status/{behind_others(it.port)}"
                size.setdefault("answer", len(ask(it.port, "GET", path)))
            wrk(it.url + path, CONNECTIONS[0], it.warm_s)
            return observed(it.programs, lambda: wrk(it.url + path, CONNECTIONS[0], bench.seconds))

    subjects = [Sluice, Fixed, FastApi, FastApiFast]
    results = bench.compare("status", {subject: subject.name for subject in subjects}, sample)
    rows = {subject: Row("status", f"GET /status, {CONNECTIONS[0]} connections", subject.name, "requests/s",
                         results[subject].samples, results[subject].note) for subject in subjects}
    rows[Sluice].want("of NNG", ratio(rows[Sluice], rows[Fixed]), least=0.80)
    return list(rows.values())


def behind_others(port):
    """An ingestion of two batches that wait, because many more urgent ones do."""
    ask(port, "POST", "/ingest", {"ids": list(range(1, 1000)), "priority": "HIGH"})
    body = {"ids": FIVE_IDS, "priority": "LOW"}
    return json.loads(ask(port, "POST", "/ingest", body))["ingestion_id"]


def ipc_lines(bench):
    kinds = {
        "ingest 64": ("ingest over IPC, 64 lines a message", "Sluice"),
        "ingest 256": ("ingest over IPC, 256 lines a message", "Sluice"),
        "status 64": ("status over IPC, 64 lines a message", "Sluice"),
        Beanstalkd: ("bare puts, 64 connections", Beanstalkd.name),
        BeanstalkdEach: ("bare puts, 64 connections", BeanstalkdEach.name),
    }

    def sample(kind):
        with Stage(bench.build) as stage:
            if kind in (Beanstalkd, BeanstalkdEach):
                it = kind(stage)
                return observed(it.programs, lambda: puts(stage, it, bench.seconds))
            sluice = Sluice(stage)
            op, lines = kind.split()
            request = INGEST if op == "ingest" else {"op": "status", "id": behind_others(sluice.port)}
            before = sluice.batches()
            answered = ipc(stage, sluice.ipc, CONTEXTS, int(lines), sluice.warm_s, request)["requests"]
            result = observed([sluice.scheduler],
                              lambda: ipc(stage, sluice.ipc, CONTEXTS, int(lines), bench.seconds, request))
            answered += result["requests"]
            if op == "ingest" and sluice.batches() != before + answered * 2:
                raise Trouble(f"{answered:.0f} lines were answered, and {sluice.batches()} batches are there")
            return result

    results = bench.compare("ipc", {kind: " ".join(words[::-1]) for kind, words in kinds.items()}, sample)
    rows = {kind: Row("ipc", what, subject, "requests/s", results[kind].samples, results[kind].note)
            for kind, (what, subject) in kinds.items()}
    for kind in ("ingest 64", "ingest 256"):
        rows[kind].want("", rows[kind].median(), least=42_700)
        rows[kind].want("of beanstalkd without a sync for each", ratio(rows[kind], rows[Beanstalkd]), least=1)
    return list(rows.values())


def puts(stage, it, seconds):
    job = json.dumps({"ids": FIVE_IDS, "priority": "MEDIUM"})
    rate, requests = run([stage.bin / "put_load", it.socket, CONNECTIONS[0], seconds, job], seconds)
    return {"value": rate, "requests": requests}


def bulk(bench):
    ids = random.Random(1).sample(range(1_000_000, 10_000_000), BULK_IDS)
    body = '{"ids":[' + ",".join(map(str, ids)) + '],"priority":"HIGH"}'

    def sample(subject):
        with Stage(bench.build) as stage:
            file = stage.file("bulk.json", body)
            if subject == "cJSON":
                rate, _ = run([stage.bin / "parse_limit", file, bench.seconds], bench.seconds)
                return {"value": rate * BULK_IDS}
            sluice = Sluice(stage)
            url = sluice.url + "/ingest"
            answered = wrk(url, BULK_CONNECTIONS, sluice.warm_s, file)["requests"]
            result = observed(sluice.programs, lambda: wrk(url, BULK_CONNECTIONS, bench.seconds, file))
            check_count(sluice, answered + result["requests"], 2 * BULK_CONNECTIONS, -(-BULK_IDS // 3))
            return {key: figure / BULK_IDS if key.startswith("cpu_us") else figure * BULK_IDS
                    for key, figure in result.items() if key == "value" or key.startswith("cpu_us")}

    results = bench.compare("bulk", {"Sluice": "Sluice", "cJSON": "cJSON"}, sample)
    rows = {name: Row("bulk", what, name, "IDs/s", results[name].samples, results[name].note) for name, what in
            {"Sluice": "POST /ingest, 100,000 IDs each", "cJSON": "parsing the same body, one thread"}.items()}
    rows["Sluice"].want("", rows["Sluice"].median(), least=1_000_000)
    share = ratio(rows["Sluice"], rows["cJSON"])
    if share is not None:
        rows["Sluice"].note = f"{share:.2f} of what cJSON alone parses"
    return list(rows.values())
