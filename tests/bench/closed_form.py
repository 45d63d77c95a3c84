"""Benchmark: one shared map for all layers, against the per-layer loop of the papers.

    python tests/bench/closed_form.py [--quick] [--models sd14 sdxl] [--devices cpu cuda] [--out FILE.json]

RECE with one preserve prompt and three epochs, on random weights of the real shapes and on rows that correlate as those
of padded prompts do. Every case runs in a process of its own, so that its peak memory is its own. Two loops do per
layer and epoch what the papers' algorithms say, in the precision of the case (build both matrices, invert, derive with
sums over the layers). "outer products" sums `v cᵀ` and `c cᵀ` prompt by prompt, as the equations are written and the
published codes run them; "per layer" puts one matrix product for all those sums: the best that a loop can do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor

from tests.reference import correlated_rows, random_weights

WIDTH = {"tiny": 32, "sd14": 768, "sdxl": 2048}
OUTS = {
    "tiny": [16, 32, 64] * 2,
    # K and V; two down, three up blocks each, one in the middle
    "sd14": [320] * 10 + [640] * 10 + [1280] * 12,
    "sdxl": [640] * 2 * 10 + [1280] * 2 * 60,  # 4 down and 6 up; 20 down, 10 in the middle, 30 up
}
LAMB, REG, PRESERVE = 0.1, 0.1, 0.1
LOOPS = ("outer products", "per layer")
ROW_SIZE = 1.0  # rows of unit variance, as CLIP's final layer norm gives them (norm 28 at a width of 768)


@dataclass(frozen=True)
class Case:
    """One run: `solver` is "shared", "per layer" or "outer products"; `keep` is the file its weights go to."""

    model: str
    solver: str
    dtype: str
    device: str
    concepts: int
    epochs: int = 3
    length: int = 77
    keep: str | None = None

    @property
    def name(self) -> str:
        return f"{self.model} {self.solver} {self.dtype} {self.device} {self.concepts}"


def inputs(case: Case) -> tuple[list[tuple[Tensor, Tensor]], Tensor, dict[str, Tensor]]:
    """Pairs of rows, rows to preserve, and weights: float64 rows on the CPU, weights in the case's dtype and device."""
    d = WIDTH[case.model]
    *prompts, kept, guide = correlated_rows(case.concepts + 2, case.length, d, seed=0, size=ROW_SIZE)
    dtype = getattr(torch, case.dtype)
    weights = {name: W.to(torch.float32) for name, W in random_weights(OUTS[case.model], d, seed=1).items()}
    return [(rows, guide) for rows in prompts], kept, {name: W.to(case.device, dtype) for name, W in weights.items()}


def one_product(values: Tensor, rows: Tensor, length: int) -> Tensor:
    """`Σ v cᵀ` of `(n, o)` and `(n, d)`, at once."""
    return values.T @ rows


def outer_products(values: Tensor, rows: Tensor, length: int) -> Tensor:
    """`Σ v cᵀ`, prompt after prompt: every outer product of a prompt is formed, then they are summed."""
    prompts = zip(values.split(length), rows.split(length), strict=True)
    return sum(((v[:, :, None] @ c[:, None, :]).sum(0) for v, c in prompts), torch.zeros(()).to(values))


def per_layer(case: Case, clock: Callable[[str], None]) -> dict[str, Tensor]:
    """RECE layer by layer: everything again for every layer, in the precision of the case."""
    moment = outer_products if case.solver == "outer products" else one_product
    pairs, kept, old = inputs(case)
    like = next(iter(old.values()))
    C, targets = (torch.cat(side).to(like) for side in zip(*pairs, strict=True))
    P, eye, length = kept.to(like), torch.eye(C.shape[1]).to(like), case.length
    clock("start")

    def erase(weights: dict[str, Tensor], C: Tensor) -> dict[str, Tensor]:
        edited = {}
        for name, W in weights.items():
            mat1 = LAMB * W + moment(targets @ W.T, C, length) + PRESERVE * moment(P @ W.T, P, length)
            mat2 = LAMB * eye + moment(C, C, length) + PRESERVE * moment(P, P, length)
            edited[name] = mat1 @ torch.inverse(mat2)
        return edited

    new = erase(old, C)
    for _ in range(case.epochs):
        left, right = REG * eye, torch.zeros_like(eye)
        for name, W in old.items():
            left, right = left + new[name].T @ new[name], right + new[name].T @ W
        new = erase(new, C @ (torch.inverse(left) @ right).T)
    clock("solve")
    return new


def shared(case: Case, clock: Callable[[str], None]) -> dict[str, Tensor]:
    """The library: solve once in float64, then apply the map to every weight."""
    from editkit.edits.edit import Edit
    from editkit.edits.gram import gram_matrix
    from editkit.edits.method import Options
    from editkit.edits.problem import Problem, Rows

    pairs, kept, weights = inputs(case)
    with torch.device(case.device):
        rows = tuple(Rows(source.to(case.device), target.to(case.device)) for source, target in pairs)
        clock("start")
        gram = gram_matrix(weights.values(), WIDTH[case.model])
        clock("gram")
        problem = Problem(rows, kept.to(case.device), weights, gram, None)
        options = Options(
            "rece", protect="none", tokens="all", lamb=LAMB, preserve_scale=PRESERVE, reg=REG, epochs=case.epochs
        )
        solution = options.solve(problem)
        clock("solve")
        edited = Edit(solution.maps).weights(weights)
        clock("apply")
    return edited


def run_case(case: Case) -> dict[str, Any]:
    """Run in this process: seconds per phase, and the peak memory above what the inputs took."""
    sacrifice = Path("/proc/self/oom_score_adj")
    if sacrifice.exists():  # a case that needs more memory than there is dies first, and alone
        sacrifice.write_text("1000")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    cuda, seconds, started = case.device == "cuda", {}, [0.0]
    before = [0.0]

    def clock(phase: str) -> None:
        if cuda:
            torch.cuda.synchronize()
        now = perf_counter()
        if phase == "start":
            before[0] = memory_mib("VmRSS") if not cuda else torch.cuda.memory_allocated() / 2**20
        else:
            seconds[phase] = now - started[0]
        started[0] = perf_counter()

    if cuda:
        torch.linalg.inv(torch.eye(8, device="cuda"))  # start the context and its solver library outside the clock
    edited = (shared if case.solver == "shared" else per_layer)(case, clock)
    peak = memory_mib("VmHWM") if not cuda else torch.cuda.max_memory_allocated() / 2**20
    if case.keep:
        torch.save({name: W.cpu() for name, W in edited.items()}, case.keep)
    finite = all(bool(torch.isfinite(W).all()) for W in edited.values())
    total = sum(seconds.values())
    return {"seconds": seconds, "total": total, "peak_mib": peak, "extra_mib": peak - before[0], "finite": finite}


def memory_mib(field: str) -> float:
    """Resident memory: `VmRSS` now, `VmHWM` at its peak. Without /proc there is only `ru_maxrss`, a peak too."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def difference(solved: str, truth: str) -> float:
    """Largest `‖W − W_truth‖ / ‖W_truth‖` over the layers."""
    mine, exact = (torch.load(path, mmap=True, weights_only=True) for path in (solved, truth))
    return max(float((mine[name].double() - W).norm() / W.norm()) for name, W in exact.items())


def in_process(task: dict[str, Any], threads: int, limit: float) -> dict[str, Any]:
    """Run `task` in a fresh Python process."""
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--task", json.dumps(task)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"more than {limit:g} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [""]
        return {"failed": f"exit code {done.returncode}: {lines[-1]}"}
    return json.loads(done.stdout.splitlines()[-1])


def cases(args: argparse.Namespace) -> Iterator[Case]:
    """The float64 loop comes first: the others of its size are compared with it."""
    for model in args.models:
        for device in args.devices:
            for concepts in args.concepts:
                base = Case(model, "shared", "float64", device, concepts, args.epochs, args.length)
                for dtype in ("float64", "float32"):
                    if concepts <= args.reference_up_to:
                        yield replace(base, solver="per layer", dtype=dtype)
                        yield replace(base, solver="outer products", dtype=dtype)
                    yield replace(base, dtype=dtype)


def run_all(args: argparse.Namespace) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        truth: dict[tuple[str, str, int], Path] = {}
        loop_seconds: dict[tuple[str, str, int, str, str], float] = {}
        for case in cases(args):
            size = (case.model, case.device, case.concepts)
            is_truth = case.solver == "per layer" and case.dtype == "float64"
            if is_truth:
                for old in truth.values():
                    old.unlink(missing_ok=True)
                truth = {size: Path(folder, "truth.pt")}
            keep = str(truth[size]) if is_truth else str(Path(folder, "found.pt")) if size in truth else None
            measured = in_process({"case": asdict(replace(case, keep=keep))}, args.threads, args.limit)
            result = asdict(case) | {"name": case.name} | measured
            if "failed" in measured and is_truth:
                truth = {}
            elif "failed" not in measured:
                if case.solver != "shared":
                    loop_seconds[*size, case.dtype, case.solver] = measured["total"]
                else:
                    loops = {solver: loop_seconds.get((*size, case.dtype, solver)) for solver in LOOPS}
                    result["times_faster"] = {
                        solver: seconds / measured["total"] for solver, seconds in loops.items() if seconds is not None
                    }
                if keep and not is_truth:
                    task = {"compare": [keep, str(truth[size])]}
                    result |= in_process(task, args.threads, args.limit)
            result.pop("keep")
            results.append(result)
            outcome = result["failed"] if "failed" in result else f"{result['total']:.3f} s"
            print(f"{case.name}: {outcome}", file=sys.stderr, flush=True)
    return results


def machine(threads: int) -> dict[str, Any]:
    cpuinfo, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    memory = int(meminfo.read_text().split()[1]) // 1024 if meminfo.exists() else None
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_mib": memory,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def show(results: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="RECE: one shared map against the per-layer loop")
    for heading in ("model", "device", "weights", "concepts", "solver"):
        table.add_column(heading)
    ratios = ("against outer products", "against per layer")
    for heading in ("gram s", "solve s", "apply s", "total s", *ratios, "peak MiB", "extra MiB", "off float64 loop"):
        table.add_column(heading, justify="right")
    for result in results:
        cells = [result["model"], result["device"], result["dtype"], str(result["concepts"]), result["solver"]]
        if "failed" in result:
            table.add_row(*cells, "", "", "", result["failed"])
            continue
        times = [result["seconds"].get(phase) for phase in ("gram", "solve", "apply")] + [result["total"]]
        cells += ["" if time is None else f"{time:.3f}" for time in times]
        faster = result.get("times_faster", {})
        cells += [f"{faster[solver]:.1f}" if solver in faster else "" for solver in LOOPS]
        cells += [f"{result['peak_mib']:.0f}", f"{result['extra_mib']:.0f}"]
        table.add_row(*cells, f"{result['difference']:.1e}" if "difference" in result else "")
    console = Console()
    console.width = max(console.width, 140)
    console.print(table)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny shapes: does the benchmark itself work?")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--models", nargs="+", choices=WIDTH, default=["sd14", "sdxl"])
    parser.add_argument("--devices", nargs="+", choices=["cpu", "cuda"], help="default: all there are")
    parser.add_argument("--concepts", nargs="+", type=int, default=[1, 10, 100, 1000])
    parser.add_argument("--reference-up-to", type=int, default=10, help="most concepts that the loop is run with")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--length", type=int, default=77, help="rows of a prompt")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=float, default=3600, help="seconds that one case may take")
    parser.add_argument("--scratch", help="folder for the weights that are compared (sdxl: 6 GB)")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.devices = args.devices or (["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
    if args.quick:
        args.models, args.concepts, args.length, args.threads = ["tiny"], [1, 3, 20], 12, 1
        args.reference_up_to = min(args.reference_up_to, 3)
    return args


def main() -> None:
    args = arguments()
    if args.task:
        task = json.loads(args.task)
        done = run_case(Case(**task["case"])) if "case" in task else {"difference": difference(*task["compare"])}
        print(json.dumps(done))
        return
    report = {"machine": machine(args.threads), "results": run_all(args)}
    show(report["results"])
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
