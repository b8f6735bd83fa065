"""Coreset selection against other libraries: `python tools/peers.py [--full] [--record FILE]`.

A cell selects `k` of `n` points (d = 32, fixed clouds) with one library, in its own process, on one thread.
Loading libraries and compiling loops is told apart; kernel and greedy search count together. All get the same
formula: similarity = largest distance - distance. The objective is scored by numpy code that none runs."""
import argparse, json, os, resource, subprocess, sys, tempfile, time
from pathlib import Path

THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
LIBRARIES = ("mlfixes lazy", "mlfixes lazy, cold", "mlfixes sparse", "mlfixes stochastic", "apricot two-stage",
             "apricot lazy", "submodlib LazyGreedy", "random")   # cold: nothing is compiled yet
SIZES = ((4_000, 400), (10_000, 1_000))
HUGE = (1_000_000, 10_000)
COLUMNS = ["library", "n", "k", "run", "cpu_seconds", "wall_seconds", "load_seconds", "peak_mb", "extra_mb",
           "objective", "cost", "status"]


def clouds(n, d=32, seed=0):
    "Points in 100 clouds of very different size, [n, d] float32."
    import numpy as np
    draw = np.random.default_rng(seed)
    share = 1 / np.arange(1, 101)
    centres, cloud = draw.normal(size=(100, d)), draw.choice(100, n, p=share / share.sum())
    return (centres[cloud] + .5 * draw.normal(size=(n, d))).astype(np.float32)


def similarities(X):
    "Largest distance less distance, [n, n] float32, as scikit-learn works distances out."
    import numpy as np
    from sklearn.metrics import pairwise_distances
    kernel = pairwise_distances(X, metric="euclidean")
    return np.subtract(kernel.max(), kernel, out=kernel)


def ours(method):
    from mlfixes.coreset.selection import compile_kernels, facility_location
    compile_kernels()
    return lambda X, k: facility_location(X, k, method=method.removesuffix(", cold")).order


def apricot(optimizer):
    from apricot import FacilityLocationSelection
    select = lambda X, k: FacilityLocationSelection(k, metric="precomputed", optimizer=optimizer).fit(
        similarities(X)).ranking
    select(clouds(64), 4)   # compiles
    return select


def submodlib(optimizer):
    from submodlib import FacilityLocationFunction

    def select(X, k):
        function = FacilityLocationFunction(n=len(X), mode="dense", sijs=similarities(X), separate_rep=False)
        return [i for i, _ in function.maximize(budget=k, optimizer=optimizer, show_progress=False)]
    select(clouds(64), 4)
    return select


def chance(_):
    import numpy as np
    return lambda X, k: np.random.default_rng(1).choice(len(X), k, replace=False)


def selector(library):
    name, _, option = library.partition(" ")
    return dict(mlfixes=ours, apricot=apricot, submodlib=submodlib, random=chance)[name](option)


def scores(X, picks):
    "What the picks save of 2 max|x - mean| a point, and the mean distance to the nearest, in 64 bits."
    import numpy as np
    X = X.astype(float) - X.mean(0, dtype=float)
    P, cost = X[picks], np.empty(len(X))
    for i in range(0, len(X), 1000):
        square = (X[i:i + 1000]**2).sum(1)[:, None] + (P**2).sum(1) - 2 * X[i:i + 1000] @ P.T
        cost[i:i + 1000] = np.sqrt(np.maximum(square.min(1), 0))
    return float((2 * np.linalg.norm(X, axis=1).max() - cost).sum()), float(cost.mean())


def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024   # MB; Linux counts in kB


def one(library, n, k):
    "Measures one cell in this process."
    began, X = time.process_time(), clouds(n)
    select = selector(library)
    loaded, before = time.process_time() - began, peak()
    wall, cpu = time.perf_counter(), time.process_time()
    picks = select(X, k)
    cpu, wall, after = time.process_time() - cpu, time.perf_counter() - wall, peak()
    objective, cost = scores(X, list(picks))
    assert len(set(map(int, picks))) == k, "picks must be k different points"
    return dict(cpu_seconds=round(cpu, 3), wall_seconds=round(wall, 3), load_seconds=round(loaded, 2),
                peak_mb=round(after), extra_mb=round(after - before), objective=round(objective, 3),
                cost=round(cost, 6), status="ok")


def cell(library, n, k, run, limit):
    "One row: the cell in a process of its own, stopped after `limit` seconds."
    begin = dict(library=library, n=n, k=k, run=run)
    with tempfile.TemporaryDirectory() as empty:
        env = {**os.environ, **THREADS, **({"NUMBA_CACHE_DIR": empty} if library.endswith("cold") else {})}
        call = [sys.executable, __file__, "--one", library, str(n), str(k)]
        try: done = subprocess.run(call, capture_output=True, text=True, timeout=limit, env=env)
        except subprocess.TimeoutExpired: return {**begin, "status": f"over {limit} s"}
    if done.returncode: return {**begin, "status": "failed: " + done.stderr.strip().splitlines()[-1][:120]}
    return {**begin, **json.loads(done.stdout.splitlines()[-1])}


def measure(sizes=SIZES, runs=3, limit=600, libraries=LIBRARIES, rows=()):
    "A table of all cells; runs take turns, so that a busy minute hits every library."
    import pandas as pd
    rows = list(rows)
    for n, k in sizes:
        for run in range(runs):
            for library in libraries:
                rows.append(cell(library, n, k, run, limit))
                print(*rows[-1].values(), file=sys.stderr, flush=True)
    return pd.DataFrame(rows, columns=COLUMNS)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=3, metavar=("LIBRARY", "N", "K"), help="measure one cell right here")
    parser.add_argument("--full", action="store_true", help=f"also n, k = {HUGE}, sparse only, one run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit", type=int, default=600, help="seconds after which a cell is stopped")
    parser.add_argument("--record", type=Path, help="write the table to this file")
    args = parser.parse_args()
    if args.one: return print(json.dumps(one(args.one[0], int(args.one[1]), int(args.one[2]))))
    import pandas as pd
    table = measure(runs=args.runs, limit=args.limit)
    if args.full:
        huge = measure([HUGE], 1, 3600, ["mlfixes sparse", "random"])
        table = pd.concat([table, huge], ignore_index=True)
    table.to_csv(args.record or sys.stdout, index=False)


if __name__ == "__main__": main()
