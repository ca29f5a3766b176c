"""What studies cost, and what they survive.

`python benchmarks/study.py` prints: seconds for 1000 seeds of the engine's reference problem,
compilation included, and how they grow with the seeds; how busy the cores are; what is left of a
study killed with SIGKILL at twenty random moments; and the driver's memory at 100 000 runs.
`--quick` does less of each. `--only` picks parts. Cores shared with other programs cannot be
busy: beside the share of the machine's time stands how often the workers were ready to run.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

REFERENCE = """
seeds = {seeds}
widths = 50
scales = 1e-4
t1 = 4.0
[data]
family = "orthogonally_separable"
samples = 20
features = 10
mu = 0.5
"""
SMALL = """
seeds = {seeds}
widths = 5
scales = 1e-2
t1 = 1.0
batch = {batch}
[data]
family = "orthogonally_separable"
samples = 4
features = 3
mu = 0.5
[record]
switches = {switches}
"""
COLLECTED = ("study.zarr", "runs.parquet", "switches.parquet")


def command(*arguments: str) -> list[str]:
    """Return the command line of a study's command."""
    return [sys.executable, "-m", "relu_flow.app.cli", "study", *arguments]


def environment(cache: Path) -> dict[str, str]:
    """Return an environment in which only the given cache of compiled programs is used."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "PJRT_"))}
    return {**kept, "XDG_CACHE_HOME": str(cache)}


class Watch(threading.Thread):
    """Samples a process: its processor time, its threads' readiness, its largest memory."""

    def __init__(self, process: int):
        super().__init__(daemon=True)
        self.folder, self.ready, self.samples = Path(f"/proc/{process}"), [0, 0], 0
        self.start()

    def run(self) -> None:
        """Look twenty times a second until the process has ended."""
        while True:
            try:
                states = [
                    (task / "stat").read_text().rpartition(")")[2].split()[0]
                    for task in (self.folder / "task").iterdir()
                ]
            except OSError:
                return
            running = states.count("R")
            self.samples += 1
            self.ready[0] += running >= 1
            self.ready[1] += running >= 2
            time.sleep(0.05)

    @property
    def share(self) -> float:
        """How often two threads or more were ready to run or running."""
        return self.ready[1] / max(self.samples, 1)


def machine_use() -> tuple[float, float]:
    """Return the machine's busy and total processor time so far, in ticks."""
    fields = [int(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def reference(seeds: int, folder: Path) -> float:
    """Run some seeds of the reference problem with an empty cache; print and return seconds."""
    spec, out = folder / f"{seeds}.toml", folder / f"out-{seeds}"
    spec.write_text(REFERENCE.format(seeds=seeds))
    busy, total = machine_use()
    start = time.perf_counter()
    process = subprocess.Popen(
        command("run", str(spec), "--out", str(out), "--quiet", "--no-cache"),
        env=environment(folder),
        stdout=subprocess.PIPE,
        text=True,
    )
    watch = Watch(process.pid)
    assert process.stdout is not None
    said = process.stdout.read()
    _, process.returncode, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"The study ended with {process.returncode}.")
    used = [now - before for now, before in zip(machine_use(), (busy, total), strict=True)]
    receipts = [json.loads(p.read_bytes()) for p in out.glob("chunks/*/receipt.json")]
    inside = sum(r["seconds"] for r in receipts)
    first = max(r["seconds"] for r in receipts)
    workers = len(os.sched_getaffinity(0))
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{seeds} seeds: {seconds:.1f} s, {cpu:.1f} s of processor time; {said.strip()}")
    print(
        f"  processor {cpu / seconds / workers:.0%} of {workers} cores from start to end; two "
        f"threads ready {watch.share:.0%} of the time; the machine was {used[0] / used[1]:.0%} "
        f"busy; slowest chunk (with compilation) {first:.1f} s; workers within chunks "
        f"{inside / workers / seconds:.0%}"
    )
    return seconds


def waits(out: Path, lanes: int = 64, runs_a_lane: int = 4) -> None:
    """Print how long lanes side by side would wait, as on a GPU, from the turns of real runs."""
    import numpy as np

    from relu_flow.study.declare.record import COUNTS

    column = COUNTS.index("evaluations")
    chunks = sorted(out.glob("chunks/[0-9]*/data.npz"))
    turns = np.concatenate([np.load(path)["counts"][:, column] for path in chunks])
    size = lanes * runs_a_lane
    batches = [turns[k : k + size] for k in range(0, turns.size - size + 1, size)]
    if not batches:
        return
    alone = [b[k : k + lanes] for b in batches for k in range(0, size, lanes)]
    plain = 1 - sum(b.sum() for b in alone) / (lanes * sum(b.max() for b in alone))
    longest = 0
    for batch in batches:
        free = np.zeros(lanes)
        for number in batch:
            free[free.argmin()] += number
        longest += free.max()
    queued = 1 - sum(b.sum() for b in batches) / (lanes * longest)
    print(
        f"  on a CPU lanes never wait; {lanes} side by side would wait {plain:.0%} of their turns "
        f"if all waited for the slowest, and {queued:.0%} as they take the next of {size} runs"
    )


def kills(times: int, folder: Path) -> None:
    """Kill a study at random moments, resume it, and compare with an undisturbed one."""
    spec, env = folder / "small.toml", environment(folder)
    spec.write_text(SMALL.format(seeds=300, batch=3, switches="true"))
    quiet = {"env": env, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    whole, killed = folder / "whole", folder / "killed"
    subprocess.run(command("run", str(spec), "--out", str(whole)), check=True, **quiet)
    span = 5.0  # seconds: kills while it starts, too
    chosen, survived = random.Random(0), 0
    for _ in range(times):
        process = subprocess.Popen(command("run", str(spec), "--out", str(killed)), **quiet)
        before = len(list(killed.glob("chunks/[0-9]*")))
        # From the beginning of the imports to some tenths of a second of chunks being written.
        wait = chosen.uniform(0, span) if chosen.random() < 0.3 else None
        moment = time.perf_counter()
        few, pause = before + chosen.randint(1, 8), chosen.uniform(0, 0.02)
        while process.poll() is None:
            if wait is not None and time.perf_counter() - moment > wait:
                break
            if wait is None and len(list(killed.glob("chunks/[0-9]*"))) >= few:
                time.sleep(pause)
                break
            time.sleep(0.001)
        survived += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = len(list(killed.glob("chunks/[0-9]*")))
    subprocess.run(command("run", str(spec), "--out", str(killed)), check=True, **quiet)
    for out in (whole, killed):
        subprocess.run(command("collect", str(out)), check=True, **quiet)
    equal = contents(whole) == contents(killed)
    chunks = len(list(killed.glob("chunks/[0-9]*")))
    left = len(list(killed.glob("chunks/.*")))
    print(
        f"{survived} of {times} SIGKILLs met a running driver; {done} chunks were there before the "
        f"last, {chunks} after it, {left} left-overs; collected files equal byte for byte: {equal}"
    )


def worker_kills(times: int, folder: Path) -> None:
    """Kill Dask's workers at random moments; the study must end with the same numbers."""
    spec, env = folder / "small.toml", environment(folder)
    out, whole = folder / "dask", folder / "whole"
    process = subprocess.Popen(
        command("run", str(spec), "--out", str(out), "--dask", "local:2", "--quiet"),
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    chosen, killed = random.Random(1), 0
    while process.poll() is None and killed < times:
        before = len(list(out.glob("chunks/[0-9]*")))
        while process.poll() is None and len(list(out.glob("chunks/[0-9]*"))) < before + 3:
            time.sleep(0.01)
        workers = descendants(process.pid)
        if workers and process.poll() is None:
            os.kill(chosen.choice(workers), signal.SIGKILL)
            killed += 1
    code = process.wait()
    resumed = subprocess.run(
        command("run", str(spec), "--out", str(out), "--quiet"), env=env, check=True,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    subprocess.run(command("collect", str(out)), env=env, check=True, stdout=subprocess.DEVNULL)
    print(
        f"{killed} SIGKILLs of Dask workers: driver ended with {code}; then "
        f"{resumed.stdout.strip()} Equal byte for byte: {contents(out) == contents(whole)}"
    )


def descendants(process: int) -> list[int]:
    """Return the worker processes below a driver: those that hold compiled programs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            text = path.read_text()
        except OSError:
            continue
        said = dict(re.findall(r"^(PPid|VmRSS):\s+(\d+)", text, re.MULTILINE))
        if int(said["PPid"]) == process and int(said.get("VmRSS", 0)) > 150_000:
            found.append(int(path.parent.name))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """Return what was collected, file by file."""
    files = [p for name in COLLECTED for p in [folder / name, *(folder / name).rglob("*")]]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if p.is_file()}


def memory(seeds: int, folder: Path, *, real: bool) -> None:
    """Run and collect very many tiny runs and print the largest memory of each command.

    Unless `real`, the chunks are made up beforehand: the driver looks at them and collects.
    """
    spec, out = folder / "many.toml", folder / "many"
    spec.write_text(SMALL.format(seeds=seeds, batch=500, switches="false"))
    if not real:
        make_up(spec, out)
    for name, arguments in (
        ("run" if real else "resume", ("run", str(spec), "--out", str(out), "--quiet")),
        ("collect", ("collect", str(out))),
    ):
        start = time.perf_counter()
        process = subprocess.Popen(
            command(*arguments), env=environment(folder), stdout=subprocess.DEVNULL
        )
        _, process.returncode, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
        print(
            f"{seeds} {'' if real else 'made-up '}runs, {name}: {usage.ru_maxrss / 2**20:.2f} GiB "
            f"at most (goal 2), {seconds:.0f} s, {size / 1e6:.0f} MB on disk "
            f"(exit {process.returncode})"
        )


def make_up(spec: Path, out: Path) -> None:
    """Fill a store with chunks of random numbers."""
    import numpy as np

    from relu_flow.study.declare.plan import Plan
    from relu_flow.study.declare.record import lane_schema
    from relu_flow.study.declare.spec import Study
    from relu_flow.study.run.store import Store

    study = Study.from_toml(spec)
    plan, store, draw = Plan.of(study), Store.create(out, study), np.random.default_rng(0)
    for chunk in plan.chunks:
        runs = plan.runs(chunk)
        lanes = {
            name: (draw.random((runs.size, *shape)) * (dtype.kind == "f")).astype(dtype)
            for name, (shape, dtype) in lane_schema(study, 4, 5).items()
        }
        receipt = {"runs": runs.size, "results": {"successful": runs.size}, "switches": 0}
        told = dict.fromkeys(("versions", "device", "machine", "form"), "made up")
        store.put(chunk, runs, lanes, {**receipt, **told})


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of each")
    parser.add_argument("--only", choices=["speed", "kills", "memory"], action="append")
    parser.add_argument("--seeds", type=int, nargs="+", default=[250, 500, 1000])
    chosen = parser.parse_args()
    parts = chosen.only or ["speed", "kills", "memory"]
    folder = Path(tempfile.mkdtemp())
    print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    try:
        if "speed" in parts:
            sizes = (32, 64) if chosen.quick else tuple(chosen.seeds)
            seconds = {seeds: reference(seeds, folder) for seeds in sizes}
            waits(folder / f"out-{max(sizes)}", *((8, 4) if chosen.quick else ()))
            least, middle, most = sizes[0], sizes[len(sizes) // 2], sizes[-1]
            print("  goal: 60 s for 1000 seeds")
            slope = float("nan")
            if len(sizes) > 1:
                slope = (seconds[most] - seconds[least]) / (most - least)
                print(f"  {slope:.4f} s for each further seed")
            if len(sizes) > 2:
                straight = seconds[least] + slope * (middle - least)
                print(f"  at {middle} seeds {seconds[middle] / straight - 1:+.0%} off a line")
        if "kills" in parts:
            kills(2 if chosen.quick else 20, folder)
            worker_kills(1 if chosen.quick else 20, folder)
        if "memory" in parts:
            memory(100_000, folder, real=not chosen.quick)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
