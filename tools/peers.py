"""This package against other libraries: `python tools/peers.py FAMILY [--full] [--record FILE]`.

Every cell is one library at one size, in its own process, on one thread.
coreset: selects `k` of `n` points (d = 32, fixed clouds). Loading libraries and compiling loops is told
apart; kernel and greedy search count together. All get the same formula: similarity = largest distance -
distance. The objective is scored by numpy code that none runs.
arcface: forward and backward of a margin head (128 embeddings of 512, s = 64, m = .5), median over steps.
Loss and gradients are held against 64-bit numpy code that none runs.
temi: the 50 nearest neighbours of every point by cosine, exactly (n points of 768 in 100 clouds); scaling to
length 1 counts. `agree` is the share found of the neighbours of 2,000 points, by 64-bit numpy code that none
runs.
heads: forward and backward of 16 clustering heads with a hidden layer, batch norm and dropout (256
embeddings, 100 clusters) in one kernel against a loop of torch modules, median over steps.
quantize: codes of 27 levels (9 groups of 3 to 28 columns, 359 codes in all) and what they stand for, for a
batch of rows, median over calls; all have the same codebooks. `agree` is the share of codes that numpy finds
in 64 bits, `error` the largest difference in what they stand for, where codes agree.
lensing: mean and deviation of the posterior of two parameters, given a summary of two numbers whose moments
are tabulated at 101 cosmologies and linear in between; flat in their hull. Time of one in a batch, and alone;
errors in posterior deviations, against numpy code that none runs: midpoints of 1,600 pieces a triangle."""
import argparse, json, math, os, resource, subprocess, sys, tempfile, time
from contextlib import suppress
from pathlib import Path

THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
SELECTORS = ("mlfixes lazy", "mlfixes lazy, cold", "mlfixes sparse", "mlfixes stochastic",   # cold: not compiled
             "apricot two-stage", "apricot lazy", "submodlib LazyGreedy", "random")
SIZES = ((4_000, 400), (10_000, 1_000))
HUGE = (1_000_000, 10_000)
HEADS = ("mlfixes", "mlfixes sampled", "mlfixes sampled, dense gradient", "pytorch-metric-learning",
         "plain autograd", "three products")
CLASSES = ((518,), (10_000,), (100_000,))
BATCH, WIDTH, SCALE, MARGIN = 128, 512, 64., .5
GRAPHS = ("mlfixes", "faiss flat", "faiss flat, AVX-512", "scikit-learn brute", "torch blocks")
PAIRS = ((5_000, 768, 50), (20_000, 768, 50))   # n, d, k
MANY = (50_000, 768, 50)
WAYS = ("mlfixes, one kernel", "loop of torch modules")   # of 16 clustering heads
WIDTHS = ((64, 128), (128, 64), (128, 341), (768, 512), (768, 2048))   # of an embedding, of the hidden layer
LOOKUPS = ("mlfixes", "mlfixes, codes alone", "vector-quantize-pytorch ResidualVQ",
           "vector-quantize-pytorch VectorQuantize", "torch by hand")
BATCHES = ((512,), (8192,))
GROUPS = (14, 14, 5, 9, 7, 28, 13, 21, 3)   # columns: the documented run's eight groups, and a small one
ENGINES = ("mlfixes", "mlfixes, 64 bits", "Metropolis, batched", "emcee", "zeus")
MAPS = ((4_000,),)
SAMPLED = {"Metropolis, batched": 500, "emcee": 6, "zeus": 6}   # posteriors that a cell samples
# faiss-cpu brings a BLAS older than some processors and takes its slowest kernels there; this names fast ones
SETTINGS = {"faiss flat, AVX-512": {"OPENBLAS_CORETYPE": "SKYLAKEX"}}
COLUMNS = dict(
    coreset=["library", "n", "k", "run", "cpu_seconds", "wall_seconds", "load_seconds", "peak_mb", "extra_mb",
             "objective", "cost", "status"],
    arcface=["library", "n_classes", "run", "cpu_ms", "wall_ms", "load_seconds", "peak_mb", "extra_mb",
             "loss", "loss_error", "emb_gradient_error", "weight_gradient_error", "status"],
    temi=["library", "n", "d", "k", "run", "cpu_seconds", "wall_seconds", "load_seconds", "peak_mb",
          "extra_mb", "agree", "status"],
    heads=["library", "d", "hidden", "run", "cpu_ms", "wall_ms", "load_seconds", "peak_mb", "status"],
    quantize=["library", "rows", "run", "cpu_ms", "wall_ms", "load_seconds", "peak_mb", "agree", "error",
              "status"],
    lensing=["library", "maps", "run", "posteriors", "cpu_ms", "wall_ms", "alone_ms", "load_seconds", "peak_mb", "rms_mean",
             "max_mean", "max_std", "status"])


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


def one_selection(library, n, k):
    "Measures one cell of `coreset` in this process."
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


def forget_peak():
    "The most memory used so far becomes what is used now, where Linux allows it."
    with suppress(OSError): Path("/proc/self/clear_refs").write_text("5")


def batch(n_classes, seed=0):
    "Embeddings [128, 512], class vectors [C, 512] and labels, numpy float32."
    import numpy as np
    draw = np.random.default_rng(seed)
    normal = lambda *shape: draw.standard_normal(shape, np.float32)
    W = normal(n_classes, WIDTH)
    W /= np.float32(WIDTH ** .5)
    return normal(BATCH, WIDTH), W, draw.integers(n_classes, size=BATCH)


def our_head(option):
    from mlfixes.arcface.margins import ArcFace
    options = dict(sample_rate=.1, sparse="dense" not in option) if option else {}

    def make(W):
        head = ArcFace(WIDTH, len(W), SCALE, MARGIN, **options)
        head.weight.data = W
        return lambda X, y: head(X, y).loss, head.weight
    return make


def pml_head(_):
    from pytorch_metric_learning.losses import ArcFaceLoss

    def make(W):   # keeps class vectors in columns
        head = ArcFaceLoss(len(W), WIDTH, math.degrees(MARGIN), SCALE)
        head.W.data = W.T.contiguous()
        return head, head.W
    return make


def plain_head(_):
    "As many write it by hand: normalised copies, the margin on the true class, cross-entropy, autograd."
    import torch
    from torch.nn import functional as F

    def make(W):
        W.requires_grad_()

        def loss(X, y):
            cosine = F.linear(F.normalize(X), F.normalize(W))
            own = torch.cos(torch.acos(cosine.gather(1, y[:, None]).clamp(-1, 1)) + MARGIN)
            return F.cross_entropy(SCALE * cosine.scatter(1, y[:, None], own), y)
        return loss, W
    return make


def head(library):
    name, _, option = library.partition(" ")
    return {"mlfixes": our_head, "pytorch-metric-learning": pml_head, "plain": plain_head}[name](option)


def reference(X, W, y):
    "Loss and its gradients in the embeddings and class vectors, 64 bits."
    import numpy as np
    rows, X, W = np.arange(len(X)), X.astype(float), W.astype(float)
    x, w = np.linalg.norm(X, axis=1, keepdims=True), np.linalg.norm(W, axis=1, keepdims=True)
    X, W = X / x, W / w
    cosine = X @ W.T
    own = cosine[rows, y]
    logits = SCALE * cosine
    logits[rows, y] = SCALE * np.cos(np.arccos(own) + MARGIN)
    top = logits.max(1, keepdims=True)
    probs = np.exp(logits - top)
    total = probs.sum(1, keepdims=True)
    loss = (np.log(total) + top)[:, 0] - logits[rows, y]
    G = probs / total
    G[rows, y] -= 1
    G[rows, y] *= np.sin(np.arccos(own) + MARGIN) / np.sin(np.arccos(own))
    G *= SCALE / len(X)
    along = (G * cosine).sum
    return loss.mean(), (G @ W - along(1)[:, None] * X) / x, (G.T @ X - along(0)[:, None] * W) / w


def errors(X, W, y, loss, for_X, for_W):
    "Differences from the reference, each relative to its largest entry."
    import numpy as np
    names = ("loss_error", "emb_gradient_error", "weight_gradient_error")
    pairs = zip(names, (loss, for_X, for_W), reference(X, W, y))
    off = {name: np.abs(ours - true).max() / np.abs(true).max() for name, ours, true in pairs}
    return {name: float(f"{value:.2e}") for name, value in off.items()}


def stepper(library, X, W, y):
    "A function that makes one step and returns (loss, gradient in the embeddings, in the class vectors)."
    import torch
    if library == "three products":
        def step():
            with torch.no_grad(): Z = X @ W.T; return Z[0, 0], Z @ W, Z.T @ X
        return step
    loss_of, weight = head(library)(W)
    X.requires_grad_()

    def step():
        X.grad = weight.grad = None
        loss = loss_of(X, y)
        loss.backward()
        return loss, X.grad, weight.grad
    return step


def clocked(step, n):
    "Medians of processor and wall milliseconds over `n` steps, and what the last one returned."
    from statistics import median
    cpu, wall = [], []
    for _ in range(n):
        out = None   # its arrays are free to be used again
        began = time.process_time(), time.perf_counter()
        out = step()
        cpu.append(1e3 * (time.process_time() - began[0]))
        wall.append(1e3 * (time.perf_counter() - began[1]))
    return round(median(cpu), 3), round(median(wall), 3), out


def one_step(library, n_classes):
    "Measures one cell of `arcface` in this process."
    import torch
    began = time.process_time()
    torch.set_num_threads(1)
    if library != "three products": head(library)   # loads it
    loaded = time.process_time() - began
    X, W, y = batch(n_classes)
    step = stepper(library, *(torch.from_numpy(part) for part in (X, W, y)))
    forget_peak()
    before = peak()
    clocked(step, 2)
    cpu, wall, (loss, for_X, for_W) = clocked(step, min(50, 600_000 // n_classes + 1))
    row = dict(cpu_ms=cpu, wall_ms=wall, load_seconds=round(loaded, 2), peak_mb=round(peak()),
               extra_mb=round(peak() - before, 1), status="ok")
    if "sampled" in library or library == "three products": return row   # they compute something else
    by_class = for_W.T if for_W.shape != W.shape else for_W
    off = errors(X, W, y, loss.item(), for_X.numpy(), by_class.numpy())
    return row | dict(loss=round(loss.item(), 6)) | off


def unit(X):
    import numpy as np
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def our_graph():
    from mlfixes.temi.neighbors import knn_graph
    knn_graph(clouds(64), 4)   # compiles, or loads from the cache
    return lambda X, k: knn_graph(X, k).index


def faiss_graph():
    "The flat index; a point is among its own neighbours, so one more is asked for."
    import faiss
    faiss.omp_set_num_threads(1)

    def graph(X, k):
        X = unit(X)
        index = faiss.IndexFlatIP(X.shape[1])
        index.add(X)
        return index.search(X, k + 1)[1]
    return graph


def sklearn_graph():
    from sklearn.neighbors import NearestNeighbors
    return lambda X, k: NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine").fit(X).kneighbors(
        return_distance=False)


def torch_graph():
    "As many write it by hand: 1,024 rows at a time against all, and the largest."
    import torch
    torch.set_num_threads(1)

    def graph(X, k):
        X = torch.from_numpy(unit(X))
        return torch.cat([torch.topk(rows @ X.T, k + 1).indices for rows in X.split(1024)]).numpy()
    return graph


def found(index, X, k, sample=2000):
    "Share of the `k` nearest points of some that are in their rows of `index`, in 64 bits."
    import numpy as np
    X = unit(X.astype(float))
    some = np.linspace(0, len(X) - 1, min(sample, len(X))).astype(int)
    shares = []
    for rows in np.array_split(some, len(some) // 200 + 1):
        near = X[rows] @ X.T
        near[range(len(rows)), rows] = -np.inf
        true = np.argpartition(-near, k, axis=1)[:, :k]
        shares += [len(np.intersect1d(a, b)) / k for a, b in zip(index[rows], true)]
    return float(np.mean(shares))


def one_graph(library, n, d, k):
    "Measures one cell of `temi` that finds neighbours, in this process."
    began, X = time.process_time(), clouds(n, d)
    maker = {"mlfixes": our_graph, "faiss": faiss_graph, "scikit-learn": sklearn_graph, "torch": torch_graph}
    graph = maker[library.partition(" ")[0]]()
    loaded = time.process_time() - began
    forget_peak()
    before, wall, cpu = peak(), time.perf_counter(), time.process_time()
    index = graph(X, k)
    cpu, wall, after = time.process_time() - cpu, time.perf_counter() - wall, peak()
    return dict(cpu_seconds=round(cpu, 3), wall_seconds=round(wall, 3), load_seconds=round(loaded, 2),
                peak_mb=round(after), extra_mb=round(after - before), agree=round(found(index, X, k), 7),
                status="ok")


def many_heads(library, d, hidden, heads=16, clusters=100):
    "Embeddings -> logits of all heads, [heads, n, clusters]."
    import torch
    from torch import nn
    if library == WAYS[0]:
        from mlfixes.temi.heads import Heads
        return Heads(d, clusters, heads, "mlp", hidden)
    one = lambda: nn.Sequential(nn.Linear(d, hidden), nn.BatchNorm1d(hidden), nn.GELU(), nn.Dropout(.1),
                                nn.Linear(hidden, clusters))
    loop = nn.ModuleList(one() for _ in range(heads))
    loop.forward = lambda x: torch.stack([module(x) for module in loop])
    return loop


def one_pass(library, d, hidden, batch=256, steps=40):
    "Measures one cell of `heads` in this process."
    began = time.process_time()
    import numpy as np, torch
    torch.set_num_threads(1)
    x, heads = torch.randn(batch, d), many_heads(library, d, hidden)
    loaded, cpu, wall = time.process_time() - began, [], []
    for _ in range(3 + max(4, min(steps, 20_000 // hidden))):
        heads.zero_grad(set_to_none=True)
        start, ticks = time.process_time(), time.perf_counter()
        heads(x).square().mean().backward()
        cpu.append(time.process_time() - start); wall.append(time.perf_counter() - ticks)
    return dict(cpu_ms=round(1000 * float(np.median(cpu[3:])), 3), load_seconds=round(loaded, 2),
                wall_ms=round(1000 * float(np.median(wall[3:])), 3), peak_mb=round(peak()), status="ok")


def levels(rows, seed=0):
    "Rows [n, d] float32, and of every group its columns, codebooks, codes and their sum, found in 64 bits."
    import numpy as np
    from scipy.spatial.distance import cdist
    from mlfixes.vqvae.bits import document_sizes
    draw, ends = np.random.default_rng(seed), np.cumsum((0, *GROUPS))
    X = draw.standard_t(6, (rows, ends[-1])).astype("f")
    pool = draw.standard_t(6, (5000, ends[-1])).astype("f")   # what codes are drawn from
    groups = []
    for a, b in zip(ends, ends[1:]):
        rest, other, books, codes = X[:, a:b].astype(float), pool[:, a:b], [], []
        for K in document_sizes(b - a, 10_000):
            books.append(other[draw.choice(len(other), K, replace=False)])
            codes.append(cdist(rest, books[-1].astype(float), "sqeuclidean").argmin(1))
            rest = rest - books[-1][codes[-1]]
            other = other - books[-1][cdist(other, books[-1]).argmin(1)]
        groups.append((slice(a, b), books, np.stack(codes, 1), X[:, a:b] - rest))
    return X, groups


def our_lookup(groups, option):
    import numpy as np
    from mlfixes.vqvae.quantize import Bank
    bank = Bank.from_quantizers([(np.arange(own.start, own.stop), books) for own, books, *_ in groups])
    if option: return lambda X: (bank.encode(X), None)
    return lambda X: bank.encode(X, quantised=True)


def residual_vq(groups):
    "One module for the levels of a group, its codebooks replaced by ours."
    import torch
    from vector_quantize_pytorch import ResidualVQ
    modules = []
    for own, books, *_ in groups:
        modules.append(ResidualVQ(dim=own.stop - own.start, codebook_size=tuple(map(len, books))).eval())
        for layer, book in zip(modules[-1].layers, books):
            layer._codebook.embed.copy_(torch.from_numpy(book)[None])
    return modules


def peer_lookup(groups, option):
    "As its documentation calls it: codes and what they stand for, group by group; nothing is put together."
    import torch
    modules = residual_vq(groups)
    parts = lambda X: X.split(GROUPS, 1)

    def whole(X): return [module(part)[:2] for module, part in zip(modules, parts(X))]

    def by_level(X):
        out = []
        for module, left in zip(modules, parts(X)):
            codes, total = [], 0
            for layer in module.layers:
                near, idx, _ = layer(left)
                left, total = left - near, total + near
                codes.append(idx)
            out.append((total, torch.stack(codes, 1)))
        return out
    return whole if option == "ResidualVQ" else by_level


def torch_lookup(groups, _):
    "As one would write it by hand: a product, the smallest, and a subtraction a level."
    import torch
    books = [[(e := torch.from_numpy(book), e.T.contiguous(), e.square().sum(1) / 2) for book in own]
             for _, own, *_ in groups]

    def lookup(X):
        out = []
        for part, own in zip(X.split(GROUPS, 1), books):
            left, codes = part, []
            for e, turned, half in own:
                codes.append(torch.addmm(half, left, turned, alpha=-1).argmin(1))
                left = left - e[codes[-1]]
            out.append((part - left, torch.stack(codes, 1)))
        return out
    return lookup


def one_lookup(library, rows):
    "Measures one cell of `quantize` in this process."
    import numpy as np
    name, _, option = library.replace(",", "").partition(" ")
    X, groups = levels(rows)
    began = time.process_time()
    maker = {"mlfixes": our_lookup, "vector-quantize-pytorch": peer_lookup, "torch": torch_lookup}[name]
    lookup, given = maker(groups, option), X
    if name != "mlfixes":
        import torch
        torch.set_num_threads(1); torch.set_grad_enabled(False)
        given = torch.from_numpy(X)
    clocked(lambda: lookup(given), 3)   # compiles, or loads from the cache
    loaded = time.process_time() - began
    cpu, wall, out = clocked(lambda: lookup(given), 41 if rows > 1000 else 201)
    if name != "mlfixes": out = [np.hstack([part[i].numpy() for part in out]) for i in (1, 0)]
    codes, total = out
    true = np.hstack([group[2] for group in groups])
    row = dict(cpu_ms=cpu, wall_ms=wall, load_seconds=round(loaded, 2), peak_mb=round(peak()),
               agree=round(float((codes == true).mean()), 7), status="ok")
    if total is None: return row
    same = [(codes[:, 3 * g:3 * g + 3] == group[2]).all(1) for g, group in enumerate(groups)]
    off = max(np.abs(total[ok][:, own] - stands[ok]).max() for ok, (own, *_, stands) in zip(same, groups))
    return row | dict(error=float(f"{off:.2e}"))


def tabulated(maps, seed=0):
    "Design [101, 2], moments of a summary at each from 52 draws, and summaries [maps, 2] of fresh cosmologies."
    import numpy as np
    from mlfixes.lensing.data import Prior
    from mlfixes.lensing.summaries import group_moments
    draw, prior = np.random.default_rng(seed), Prior()

    def summary(t):
        L = np.zeros((len(t), 2, 2))
        L[:, 0, 0], L[:, 1, 0], L[:, 1, 1] = .045 * (.7 + t[:, 0]), -.012, .022 * (.85 + .5 * t[:, 0])
        bent = (t[:, 0] - .3)**2
        return (np.c_[t[:, 0] + .4 * bent + .2 * t[:, 1], t[:, 1] - .3 * bent]
                + np.einsum("kij,kj->ki", L, draw.normal(size=t.shape)))
    design, group = prior.design(101, draw), np.repeat(np.arange(101), 52)
    return design, *group_moments(summary(design[group]), group), summary(prior.cosmologies(maps, draw))


def midpoints(design, mean, cov, d, cut=40):
    "Posterior mean and deviation of each d by the midpoints of cut x cut pieces of every triangle, in 64 bits."
    import numpy as np
    from scipy.spatial import Delaunay
    i, j = np.divmod(np.arange(cut * cut), cut)
    up = i + j < cut
    share = np.where(up[:, None], np.c_[i, j] + 1 / 3, np.c_[cut - i, cut - j] - 1 / 3)   # the others stand on their heads
    weight = np.c_[share / cut, 1 - share.sum(1) / cut]   # barycentric
    corners = Delaunay(design).simplices
    table = np.c_[design, mean, cov.reshape(-1, 4)][corners]
    nodes = np.einsum("nc,tcv->tnv", weight, table)
    area = np.abs(np.linalg.det(design[corners][:, 1:] - design[corners][:, :1]))[:, None] + 0 * nodes[..., 0]
    nodes, area = nodes.reshape(-1, 8), area.ravel()
    inverse, log_det = np.linalg.inv(nodes[:, 4:].reshape(-1, 2, 2)), np.log(np.linalg.det(nodes[:, 4:].reshape(-1, 2, 2)))
    out = []
    for one in d:
        x = one - nodes[:, 2:4]
        logs = -.5 * (np.einsum("ni,nij,nj->n", x, inverse, x) + log_det)
        p = area * np.exp(logs - logs.max()); p /= p.sum()
        m = p @ nodes[:, :2]
        out.append((m, np.sqrt(p @ (nodes[:, :2] - m)**2)))
    return tuple(map(np.stack, zip(*out)))


def one_posterior(library, maps):
    "Measures one cell of `lensing` in this process."
    import numpy as np
    from mlfixes.lensing.posterior import SimplexPosterior, emcee_posterior, log_posterior, metropolis
    from mlfixes.lensing.summaries import LinearEmulator
    began = time.process_time()
    design, mean, cov, d = tabulated(maps)
    n, draw = SAMPLED.get(library, maps), np.random.default_rng(1)
    if library.startswith("mlfixes"):
        posterior = SimplexPosterior(design, mean, cov, outside="keep", dtype="float64" if library.endswith("64 bits") else None)
        posterior.moments(d)
        job, alone = (lambda: posterior.moments(d)), (lambda: posterior.moments(d[:1]))
    else:
        linear = LinearEmulator(design, mean, cov)
        start = design[draw.integers(101, size=n)]
        walkers = [design[draw.permutation(101)[:16]] for _ in range(n)]

        def chains(rows):
            made = metropolis(log_posterior(linear, d[rows]), start[rows], rng=1, keep=False)
            return made.mean, made.std

        def ensemble(i):
            if library == "emcee": samples = emcee_posterior(log_posterior(linear, d[i]), walkers[i], 625, seed=i).samples
            else: samples = zeus(log_posterior(linear, d[i]), walkers[i], i)
            return samples.reshape(-1, 2)
        job, alone = (lambda: chains(slice(n))), (lambda: chains(slice(1)))
        if library in ("emcee", "zeus"):
            job = lambda: tuple(map(np.stack, zip(*((s.mean(0), s.std(0)) for s in map(ensemble, range(n))))))
            alone = lambda: ensemble(0)
    loaded = time.process_time() - began
    fast = library.startswith("mlfixes")
    cpu, wall, found = clocked(job, 9 if fast else 1)
    _, one, _ = clocked(alone, 101 if fast else 1)
    some = min(n, 200)
    true = midpoints(design, mean, cov, d[:some])
    off, wide = np.abs(found[0][:some] - true[0]) / true[1], np.abs(found[1][:some] / true[1] - 1)
    return dict(posteriors=n, cpu_ms=cpu / n, wall_ms=wall / n, alone_ms=one, load_seconds=round(loaded, 2), peak_mb=round(peak()),
                rms_mean=float(f"{np.sqrt(np.square(off).mean()):.2e}"), max_mean=float(f"{off.max():.2e}"),
                max_std=float(f"{wide.max():.2e}"), status="ok")


def zeus(log_prob, start, seed):
    "Samples of zeus's ensemble, 150 steps of 16 walkers, a fifth dropped."
    import numpy as np
    from zeus import EnsembleSampler
    np.random.seed(seed)   # it draws from the global state
    sampler = EnsembleSampler(*start.shape, log_prob, vectorize=True, verbose=False)
    sampler.run_mcmc(start, 150, progress=False)
    return sampler.get_chain(flat=True, discard=30)


ONE = dict(lensing=one_posterior, coreset=one_selection, arcface=one_step, temi=one_graph, heads=one_pass, quantize=one_lookup)


def cell(family, library, size, run, limit):
    "One row: the cell in a process of its own, stopped after `limit` seconds."
    begin = dict(zip(COLUMNS[family], (library, *size, run)))
    with tempfile.TemporaryDirectory() as empty:
        env = {**os.environ, **THREADS, **SETTINGS.get(library, {}),
               **({"NUMBA_CACHE_DIR": empty} if library.endswith("cold") else {})}
        call = [sys.executable, __file__, family, "--one", library, *map(str, size)]
        try: done = subprocess.run(call, capture_output=True, text=True, timeout=limit, env=env)
        except subprocess.TimeoutExpired: return {**begin, "status": f"over {limit} s"}
    if done.returncode: return {**begin, "status": "failed: " + done.stderr.strip().splitlines()[-1][:120]}
    return {**begin, **json.loads(done.stdout.splitlines()[-1])}


def measure(family, sizes, libraries, runs=3, limit=600):
    "A table of all cells; runs take turns, so that a busy minute hits every library."
    import pandas as pd
    rows = []
    for size in sizes:
        for run in range(runs):
            for library in libraries:
                rows.append(cell(family, library, size, run, limit))
                print(*rows[-1].values(), file=sys.stderr, flush=True)
    return pd.DataFrame(rows, columns=COLUMNS[family])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=COLUMNS)
    parser.add_argument("--one", nargs="+", metavar=("LIBRARY", "SIZE"), help="measure one cell right here")
    parser.add_argument("--full", action="store_true",
                        help=f"coreset: also n, k = {HUGE}, sparse only, one run; temi: also {MANY}")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit", type=int, default=600, help="seconds after which a cell is stopped")
    parser.add_argument("--record", type=Path, help="write the table to this file")
    args = parser.parse_args()
    if args.full and args.family not in ("coreset", "temi"): parser.error("--full is for coreset and temi")
    if args.one: return print(json.dumps(ONE[args.family](args.one[0], *map(int, args.one[1:]))))
    import pandas as pd
    sizes, libraries = dict(coreset=(SIZES, SELECTORS), arcface=(CLASSES, HEADS),
                            temi=(PAIRS + (MANY,) * args.full, GRAPHS), heads=(WIDTHS, WAYS),
                            quantize=(BATCHES, LOOKUPS), lensing=(MAPS, ENGINES))[args.family]
    table = measure(args.family, sizes, libraries, args.runs, args.limit)
    if args.full and args.family == "coreset":
        huge = measure("coreset", [HUGE], ["mlfixes sparse", "random"], 1, 3600)
        table = pd.concat([table, huge], ignore_index=True)
    table.to_csv(args.record or sys.stdout, index=False)


if __name__ == "__main__": main()
