"""What puts load on programs: wrk and the load generators of this directory. A sample is a dict of figures; its main
one is called value."""

import http.client
import json
import re
import subprocess
from pathlib import Path

from stage import Trouble

HERE = Path(__file__).resolve().parent
WRK_THREADS = 2
GRACE_S = 60


def run(command, seconds):
    """What a load generator prints behind "result"."""
    command = ["setpriv", "--pdeathsig", "KILL", *map(str, command)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + GRACE_S)
    except subprocess.TimeoutExpired:
        raise Trouble(f"{command[3]} did not end") from None
    match = re.search(r"^result (.*)", done.stdout, re.M)
    if done.returncode != 0 or not match:
        raise Trouble(f"{Path(command[3]).name}: {(done.stderr or done.stdout).strip()[-300:]}")
    return [float(word) for word in match[1].split()]


def wrk(url, connections, seconds, body=None, headers=None):
    """GET, or POST of a file."""
    given = [word for name, value in (headers or {}).items() for word in ("-H", f"{name}: {value}")]
    command = ["wrk", f"-t{min(WRK_THREADS, connections)}", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s",
               *given, "-s", HERE / "load.lua", url, *(["--", body] if body else [])]
    rate, requests, p50, p99, errors = run(command, seconds)
    if errors:
        raise Trouble(f"{errors:.0f} of {requests:.0f} requests to {url} failed")
    return {"value": rate, "requests": requests, "p50_ms": p50 / 1000, "p99_ms": p99 / 1000}


def ipc(stage, url, contexts, lines, length, request):
    """The same line for so many seconds, or ("x1000") so many times."""
    seconds = length if isinstance(length, int) else 600
    rate, requests = run([stage.bin / "ipc_load", url, contexts, lines, length, json.dumps(request)], seconds)
    return {"value": rate, "requests": requests}


def observed(programs, load):
    """A load's sample, with what each program used for one of its requests."""
    before = [program.usage() for program in programs]
    sample = load()
    for program, (cpu, switches) in zip(programs, before):
        cpu_after, switches_after = program.usage()
        sample[f"cpu_us {program.name}"] = (cpu_after - cpu) / sample["requests"] * 1e6
        sample[f"switches {program.name}"] = (switches_after - switches) / sample["requests"]
        program.check()
    return sample


def ask(port, method, path, body=None, headers=None):
    """One request: the answer's body, which must be a good one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        text = json.dumps(body) if body is not None else None
        connection.request(method, path, text, (headers or {}) | ({"Content-Type": "application/json"} if text else {}))
        response = connection.getresponse()
        answer = response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise Trouble(f"{method} {path}: {error}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise Trouble(f"{method} {path} was answered {response.status}: {answer[:300]}")
    return answer
