#!/usr/bin/python3
"""Sluice's figures beside others': starts everything itself, on the loopback and in a temporary directory.

./run.sh bench builds what this needs and runs it. Exits with 1 when something broke, and never because a figure is low.
"""

import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import measure_ingest
import measure_queue
import plot
import report
from figures import Result
from stage import Trouble
from subjects import Absent

MEASUREMENTS = {
    "post": measure_ingest.post,
    "status": measure_ingest.status,
    "ipc": measure_ingest.ipc_lines,
    "bulk": measure_ingest.bulk,
    "dispatch": measure_queue.dispatch,
    "jitter": measure_queue.jitter,
    "backlog": measure_queue.backlog,
}


class Bench:
    def __init__(self, options):
        self.build = options.build.resolve()
        self.waiting = options.waiting
        self.rounds = options.rounds or (3 if options.quick else 5)
        self.seconds = 2 if options.quick else 4
        self.problems = []

    def progress(self, text):
        print(f"bench: {text}", file=sys.stderr, flush=True)

    def broke(self, what, trouble):
        self.problems.append(f"{what}: {trouble}")
        self.progress(self.problems[-1])

    def compare(self, group, contenders, sample):
        """A sample of each contender in turn, round by round. One that cannot be had, or that broke, is left out from
        there on, with a note."""
        results = {contender: Result() for contender in contenders}
        for contender, result in results.items():
            try:
                getattr(contender, "prepare", lambda build: None)(self.build)
            except Absent as absent:
                result.note = str(absent)
        for number in range(1, self.rounds + 1):
            for contender, result in results.items():
                if result.note:
                    continue
                self.progress(f"{group}: round {number} of {self.rounds}, {contenders[contender]}")
                try:
                    result.samples.append(sample(contender))
                except Trouble as trouble:
                    result.note = "broke, see below"
                    self.broke(f"{group}, {contenders[contender]}", trouble)
        return results


def output_of(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return (done.stdout or done.stderr).strip().splitlines()[0] if done.returncode == 0 else None


def machine(build):
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "kernel": platform.release(),
        "file_system": output_of("findmnt", "-no", "FSTYPE", "-T", str(build)) or "unknown",
    }


def versions(build):
    python = ["/usr/bin/python3", "-c"]
    return {
        "sluice": output_of(build / "bin" / "sluice-scheduler", "--version"),
        "commit": output_of("git", "-C", str(build), "describe", "--always", "--dirty"),
        "python": output_of(*python, "import platform; print(platform.python_version())"),
        "fastapi": output_of(*python, "import fastapi; print(fastapi.__version__)"),
        "uvicorn": output_of(*python, "import uvicorn; print(uvicorn.__version__)"),
        "node": output_of("node", "--version"),
        **json.loads((measure_ingest.BullMq.SOURCE / "package.json").read_text())["dependencies"],
        "redis": output_of("redis-server", "--version"),
        "beanstalkd": output_of("beanstalkd", "-v"),
    }


def cpu_time():
    """All there was, and what the host of a virtual machine gave to others instead."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields), fields[7]


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: {message}\n")


def parse(arguments):
    parser = Parser(prog="./run.sh bench", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(MEASUREMENTS)} (all)")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2 s instead of 5 of 4 s")
    parser.add_argument("--rounds", type=int, metavar="N", help="so many rounds instead")
    parser.add_argument("--waiting", type=int, default=1_000_000, metavar="N", help="the largest backlog (1000000)")
    parser.add_argument("--markdown", action="store_true", help="print the last results as Markdown, and measure nothing")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw their backlog as an SVG, and measure nothing")
    parser.add_argument("--build", type=Path, default=Path(__file__).resolve().parents[2] / "build", metavar="DIR",
                        help="of a release build (build)")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in MEASUREMENTS]
    if unknown:
        parser.error(f"{unknown[0]} is none of {', '.join(MEASUREMENTS)}")
    if options.waiting < 1 or (options.rounds or 1) < 1:
        parser.error("--waiting and --rounds must be 1 or more")
    return options


def measure(options):
    bench = Bench(options)
    before = cpu_time()
    results = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(bench.build),
        "versions": versions(bench.build),
        "rounds": bench.rounds,
        "seconds": bench.seconds,
        "rows": [],
    }
    if results["machine"]["file_system"] in ("tmpfs", "ramfs"):
        bench.progress(f"{bench.build} is on {results['machine']['file_system']}: a sync may cost nothing there")
    for name, function in MEASUREMENTS.items():
        if not options.names or name in options.names:
            try:
                results["rows"] += map(report.row_as_data, function(bench))
            except Trouble as trouble:
                bench.broke(name, trouble)
    total, stolen = (after - start for after, start in zip(cpu_time(), before))
    results["stolen"] = stolen / max(total, 1)
    results["problems"] = bench.problems
    return results


def main():
    options = parse(sys.argv[1:])
    file = options.build / "bench" / "results.json"
    if options.markdown or options.plot:
        results = json.loads(file.read_text())
        if options.markdown:
            print(report.markdown(results))
        if options.plot:
            options.plot.write_text(plot.svg(results))
        return 0
    for name in [name for name in os.environ if name.startswith("SLUICE_")]:
        del os.environ[name]  # meant for running Sluice, and not for the programs that are measured
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results = measure(options)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(report.text(results))
    return 1 if results["problems"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
