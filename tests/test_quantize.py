"""What quantisers and allocations must be, on made-up rows: nearest, least squares, better for more work."""
import math, pickle, subprocess, sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from mlfixes.vqvae.bits import (allocate_bits, balanced_range, document_sizes, gaussian_bound,
                                gaussian_distortion, gaussian_rate, latent_dims, rate, sizes_for, sizes_of,
                                stretched)
from mlfixes.vqvae.quantize import (Bank, ResidualQuantizer, _level, _refine, _refit, _revived, ema_update,
                                    finite_scalar, fsq_decode, fsq_levels, kmeans_codebook, nearest, revive,
                                    usage)

quick = settings(deadline=None, max_examples=40, derandomize=True)
few = settings(deadline=None, max_examples=12, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
KINDS = ("cloud", "grid", "copies", "offset", "outlier", "tails")


def rows(seed, n, d, kind="cloud"):
    "Clouds, grids full of ties, copies, a common offset, one row far from all, or heavy tails, [n, d]."
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, d))
    if kind == "grid": X = random.integers(-3, 4, (n, d)).astype(float)
    if kind == "copies": X = X[random.integers(0, n // 5 + 1, n)]
    if kind == "offset": X += 3000
    if kind == "outlier": X[random.integers(n)] *= 1e4
    if kind == "tails": X = random.standard_t(2, size=(n, d))
    return X.astype(np.float32)


@st.composite
def problems(draw, most=600):
    "Rows and codes of one kind."
    n, K, d = draw(st.integers(1, most)), draw(st.integers(1, 70)), draw(st.integers(1, 20))
    both = rows(draw(seeds), n + K, d, draw(st.sampled_from(KINDS)))
    return both[:n], both[n:]


def books(seed, sizes, d):
    return [rows(seed + level, K, d) / 2**level for level, K in enumerate(sizes)]


def lost(quantizer, X): return ((X - quantizer.decode(quantizer.encode(X))).astype(float)**2).sum()


@quick
@given(problems())
def test_no_code_is_nearer(problem):
    X, codebook = problem
    square, idx = cdist(X.astype(float), codebook.astype(float), "sqeuclidean"), nearest(X, codebook)
    chosen = square[np.arange(len(X)), idx]
    span = np.linalg.norm(codebook - codebook[0], axis=1).max() + np.sqrt(square.min(1))   # of factors
    assert idx.dtype == np.int64 and (chosen <= square.min(1) + 1e-5 * span**2).all()


@quick
@given(seeds, st.integers(1, 600), st.integers(1, 40), st.integers(1, 8))
def test_ties_go_to_the_first(seed, n, K, d):
    both = rows(seed, n + K, d, "grid")
    first = cdist(both[:n], both[n:], "sqeuclidean").argmin(1)
    np.testing.assert_array_equal(nearest(both[:n], both[n:]), first)


@quick
@given(problems(), seeds, st.integers(1, 5))
def test_a_row_finds_its_code_wherever_it_stands(problem, seed, copies):
    X, codebook = problem
    idx, order = nearest(X, codebook), np.random.default_rng(seed).permutation(len(X))
    np.testing.assert_array_equal(nearest(X[order], codebook), idx[order])
    np.testing.assert_array_equal(nearest(X[:1], codebook), idx[:1])
    np.testing.assert_array_equal(nearest(np.asfortranarray(X, float), codebook), idx)
    again = nearest(X, np.repeat(codebook, copies, axis=0))
    assert (again % copies == 0).all()                          # the first of equal codes


@quick
@given(seeds, st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(1, 9), st.integers(1, 400))
def test_greedy_codes_are_those_of_plain_loops(seed, sizes, d, n):
    X, own = rows(seed, n, d), books(seed % 1000, sizes, d)
    rest = X.astype(float)
    for codes, book in zip(ResidualQuantizer(codebooks=own).encode(X).T, own):
        square = cdist(rest, book.astype(float), "sqeuclidean")
        assert (square[np.arange(n), codes] <= square.min(1) + 1e-4).all()
        rest = rest - book[codes]


@quick
@given(seeds, st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=3), min_size=1, max_size=5),
       st.integers(1, 600))
def test_a_bank_is_its_quantizers(seed, sizes, n):
    random = np.random.default_rng(seed)
    widths = random.integers(1, 7, len(sizes))
    columns = np.split(random.permutation(widths.sum()), np.cumsum(widths)[:-1])
    parts = [(own, ResidualQuantizer(codebooks=books(seed % 1000, K, len(own))))
             for own, K in zip(columns, sizes)]
    bank, X = Bank.from_quantizers(parts), rows(seed, n, widths.sum())
    codes, quantised = bank.encode(X, quantised=True)
    np.testing.assert_array_equal(codes, np.hstack([q.encode(X[:, own]) for own, q in parts]))
    np.testing.assert_array_equal(codes, bank.encode(X))
    np.testing.assert_allclose(quantised, bank.decode(codes), atol=2e-5)
    assert bank.sizes == tuple(K for own in sizes for K in own) and (codes < bank.sizes).all()
    same = pickle.loads(pickle.dumps(bank))
    np.testing.assert_array_equal(same.encode(X), codes)


@quick
@given(seeds, st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(1, 5), st.integers(1, 60))
def test_an_exhaustive_search_is_exact_and_final(seed, sizes, d, n):
    own, X = books(seed % 1000, sizes, d), rows(seed, n, d)
    quantizer = ResidualQuantizer(math.prod(sizes), codebooks=own)
    every = np.array([*product(*map(range, sizes))])
    points = quantizer.decode(every)
    best = cdist(X.astype(float), points.astype(float), "sqeuclidean").min(1)
    found = ((X - quantizer.decode(quantizer.encode(X))).astype(float)**2).sum(1)
    np.testing.assert_allclose(found, best, atol=1e-4)
    np.testing.assert_allclose(quantizer.decode(quantizer.encode(points)), points, atol=1e-4)   # idempotent


@quick
@given(seeds, st.lists(st.integers(2, 9), min_size=2, max_size=4), st.integers(2, 12), st.integers(1, 6))
def test_no_row_is_further_than_by_greedy_encoding(seed, sizes, beam, d):
    own, X = books(seed % 1000, sizes, d), rows(seed, 300, d)
    greedy, wide = (ResidualQuantizer(m, codebooks=own) for m in (1, beam))
    gap = [((X - q.decode(q.encode(X))).astype(float)**2).sum(1) for q in (greedy, wide)]
    assert (gap[1] <= gap[0] + 1e-4).all()


@few
@given(seeds, st.sampled_from([1, 4]), st.sampled_from(["cloud", "tails", "copies"]))
def test_more_work_leaves_less_on_training_rows(seed, beam, kind):
    X = rows(seed, 300, 4, kind) @ np.diag([3, 2, 1, .5]).astype("f")
    levels = [lost(ResidualQuantizer(beam).fit(X, (6,) * L), X) for L in (1, 2, 3)]
    assert levels[0] * 1.0001 + 1e-4 >= levels[1] and levels[1] * 1.0001 + 1e-4 >= levels[2]
    rounds = [lost(ResidualQuantizer(beam, refine).fit(X, (6, 6)), X) for refine in (0, 1, 3, 6)]
    assert (np.diff(rounds) <= 1e-5 * rounds[0] + 1e-5).all()


@quick
@given(seeds, st.lists(st.integers(1, 8), min_size=1, max_size=3), st.integers(1, 5))
def test_refitted_codebooks_are_least_squares(seed, sizes, d):
    X, own = rows(seed, 200, d), books(seed % 1000, sizes, d)
    quantizer = ResidualQuantizer(codebooks=own)
    codes = quantizer.encode(X)
    new = _refit(X, codes, quantizer.codebooks)
    A = np.hstack([np.eye(K)[own] for own, K in zip(codes.T, sizes)])
    best = ((X - A @ np.linalg.lstsq(A, X.astype(float), rcond=None)[0])**2).sum()
    found = ((X - ResidualQuantizer(codebooks=new).decode(codes)).astype(float)**2).sum()
    assert best * (1 - 1e-5) - 1e-5 <= found <= best * 1.001 + 1e-3
    for old, book, level in zip(own, new, codes.T):     # codes without rows stay
        idle = np.bincount(level, minlength=len(old)) == 0
        np.testing.assert_allclose(book[idle], old[idle], atol=1e-6)


@pytest.mark.parametrize("beam", [1, 6])
def test_refinement_brings_dead_codes_back(beam):
    X = rows(5, 800, 5)
    own = [book.copy() for book in ResidualQuantizer().fit(X, (12, 8)).codebooks]
    for book in own: book[::3] += 50
    before, after = (ResidualQuantizer(beam, codebooks=b) for b in (own, _refine(X, own, beam, 6)))
    dead = [[usage(level, K).dead for level, K in zip(q.encode(X).T, q.sizes)] for q in (before, after)]
    assert min(dead[0]) >= 2 and dead[1] == [0, 0] and lost(after, X) < .9 * lost(before, X)


@quick
@given(seeds, st.integers(1, 4))
def test_a_revived_code_completes_the_worst_row(seed, d):
    X, own = rows(seed, 60, d), books(seed % 1000, (5, 4), d)
    own[1][2] += 99
    codes = ResidualQuantizer(codebooks=own).encode(X)
    idle = [np.flatnonzero(np.bincount(level, minlength=len(book)) == 0) for level, book in zip(codes.T, own)]
    new = _revived(X, codes, own)
    square = ((X - ResidualQuantizer(codebooks=own).decode(codes))**2).sum(1)
    every = ResidualQuantizer(20, codebooks=new)
    worst = X[np.argsort(-square, kind="stable")[:sum(map(len, idle))]]
    np.testing.assert_allclose(every.decode(every.encode(worst)), worst, atol=1e-4)
    for old, book, gone in zip(own, new, idle):
        np.testing.assert_array_equal(np.delete(book, gone, 0), np.delete(old, gone, 0))


def test_of_equal_codes_only_the_first_has_a_score():
    score, _ = _level(np.array([[1., 2], [0, 0], [1, 2], [1, 2]]), np.zeros(2), np.zeros(2))
    assert np.isneginf(score[:, 2]).tolist() == [False, False, True, True]


@few
@given(seeds, st.integers(1, 12))
def test_codebooks_are_those_of_scikit_learn(seed, K):
    X = rows(seed, 150, 3)
    peer = KMeans(K, n_init=2, random_state=seed).fit(X)
    book = kmeans_codebook(X, K, seed)
    square = cdist(X, book, "sqeuclidean").min(1).sum()
    assert square == pytest.approx(peer.inertia_, rel=1e-4)


def test_the_same_bits_again_and_other_seeds_differ():
    X = rows(0, 500, 6)
    one, two, other = (ResidualQuantizer(4, 2).fit(X, (8, 4), seed) for seed in (3, 3, 4))
    for a, b in zip(one.codebooks, two.codebooks): np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(one.codebooks, other.codebooks))


@quick
@given(seeds, st.integers(1, 300), st.integers(1, 30))
def test_usage_by_plain_counts(seed, n, K):
    codes = np.random.default_rng(seed).integers(0, K, n)
    seen = usage(codes, K)
    share = np.array([np.mean(codes == k) for k in range(K)])
    share = share[share > 0]
    assert (seen.n, seen.K, seen.live, seen.dead) == (n, K, len(share), K - len(share))
    assert seen.perplexity == pytest.approx(math.exp(-(share * np.log(share)).sum()))
    assert seen.dead_share + seen.utilisation == pytest.approx(1)
    assert 1 <= seen.null_perplexity[0] <= seen.null_perplexity[1] <= min(n, K) + 1e-9
    assert seen.null_dead == pytest.approx(sum((1 - 1 / K)**n for _ in range(K)))   # each is missed n times


def test_null_of_64_draws_from_512_codes():
    low, high = usage(np.zeros(64, int), 512).null_perplexity
    random = np.random.default_rng(9)
    values = [usage(random.integers(0, 512, 64), 512).perplexity for _ in range(500)]
    assert np.mean(values) == pytest.approx(58, abs=1.5)
    assert .82 < np.mean([low <= v <= high for v in values]) < .97


@quick
@given(seeds, st.floats(.5, .99))
def test_moving_averages(seed, decay):
    random = np.random.default_rng(seed)
    e, x = rows(seed, 6, 3), rows(seed + 1, 40, 3)
    idx = random.integers(0, 5, 40)                  # code 5 has no row
    counts, sums = np.ones(6), e.copy()
    new, now, total = ema_update(e, counts, sums, x, idx, decay, eps=0)
    for k in range(6):
        own = x[idx == k].astype(float)
        n, s = decay + (1 - decay) * len(own), decay * e[k] + (1 - decay) * own.sum(0)
        np.testing.assert_allclose(new[k], s / n, rtol=1e-5, atol=1e-6)
        assert now[k] == pytest.approx(n)
    np.testing.assert_allclose(new[5], e[5], rtol=1e-6)
    smooth = ema_update(e, counts, sums, x, idx, decay, eps=.3)[0]   # counts are evened out, their sum stays
    share = (now + .3) / (now + .3).sum()
    np.testing.assert_allclose(smooth, total / (share * now.sum())[:, None], rtol=1e-5, atol=1e-6)
    far = ema_update(e, 0 * counts, sums, x, idx, decay)[0]
    assert np.linalg.norm(far[5]) > 100 * np.linalg.norm(e[5])   # counts that start at 0
    assert (counts == 1).all() and (sums == e).all()


def test_moving_averages_are_those_of_a_library():
    peer = pytest.importorskip("vector_quantize_pytorch", reason="the extra `peers` is not installed")
    import torch
    vq = peer.VectorQuantize(dim=5, codebook_size=7, decay=.8, threshold_ema_dead_code=0).train()
    e = vq._codebook.embed[0].numpy().copy()
    counts, sums = np.ones(7), e.copy()
    for step in range(4):
        x = rows(step, 64, 5)
        idx = nearest(x, e)
        theirs = vq(torch.from_numpy(x)[None])[1][0].numpy()
        np.testing.assert_array_equal(idx, theirs)
        e, counts, sums = ema_update(e, counts, sums, x, idx, decay=.8)
        np.testing.assert_allclose(e, vq._codebook.embed[0].numpy(), rtol=1e-4, atol=1e-5)


@quick
@given(seeds, st.integers(1, 20), st.integers(1, 30))
def test_revival(seed, K, n):
    random, e, x = np.random.default_rng(seed), rows(seed, K, 2), rows(seed + 1, n, 2)
    counts = random.uniform(0, 2, K)
    new, now, dead = revive(e, counts, x, 1., np.random.default_rng(seed))
    np.testing.assert_array_equal(dead, counts < 1)
    np.testing.assert_array_equal(new[~dead], e[~dead])
    assert (now[dead] == 1).all() and (now[~dead] == counts[~dead]).all()
    assert cdist(new[dead], x).min(1).max(initial=0) == 0
    if dead.sum() <= n: assert len(np.unique(new[dead], axis=0)) == dead.sum()


@quick
@given(seeds, st.lists(st.integers(1, 9), min_size=1, max_size=4), st.booleans())
def test_finite_scalars_are_found_again(seed, levels, symmetric):
    K = math.prod(levels)
    values = fsq_decode(np.arange(K), levels, symmetric)
    assert len(np.unique(values, axis=0)) == K and np.abs(values).max() <= 1
    z = np.random.default_rng(seed).uniform(-5, 5, (200, len(levels)))
    quantised, index = finite_scalar(z, levels, symmetric)
    np.testing.assert_array_equal(fsq_decode(index, levels, symmetric), quantised)
    assert (index >= 0).all() and (index < K).all()
    used = np.array(levels) > 1
    if symmetric:
        assert (np.abs(quantised - np.tanh(z))[:, used] <= 1.01 / (np.array(levels)[used] - 1)).all()


@pytest.mark.parametrize("levels, symmetric", [
    ((8, 5, 5), False), ((7,), False), ((4, 4, 4), False), ((3, 2), True), ((8, 5), True)])
def test_finite_scalars_are_those_of_a_library(levels, symmetric):
    peer = pytest.importorskip("vector_quantize_pytorch", reason="the extra `peers` is not installed")
    import torch
    z = np.random.default_rng(0).uniform(-4, 4, (500, len(levels)))
    fsq = peer.FSQ(list(levels), preserve_symmetry=symmetric).eval()
    with torch.no_grad(): theirs, index = fsq(torch.tensor(z, dtype=torch.float32)[None])
    ours, idx = finite_scalar(z.astype("f"), levels, symmetric)
    alike = idx == index[0].numpy()
    assert alike.mean() > .99                        # but for rounding at the edge of a step
    np.testing.assert_allclose(ours[alike], theirs[0].numpy()[alike], atol=1e-6)


@quick
@given(st.integers(1, 300), st.integers(1, 5))
def test_levels_fit(K, d):
    levels = fsq_levels(K, d)
    used = [L for L in levels if L > 1]
    assert len(levels) == d and math.prod(levels) <= K and len(used) == min(d, K.bit_length() - 1)
    assert list(levels) == sorted(levels, reverse=True)
    if used: assert math.prod(levels) * (1 + 1 / min(used)) > K   # not one more level fits


spectra = st.lists(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=9), min_size=1, max_size=6).map(
    lambda groups: {f"g{i}": np.array(values) for i, values in enumerate(groups)})


def share(values, bits): return gaussian_distortion(values, bits) / values.sum()


@quick
@given(spectra, st.floats(1, 40))
def test_one_water_level_where_there_are_bits(groups, per_group):
    total = per_group * len(groups)
    bits = allocate_bits(groups, total, "mse")
    assert sum(bits.values()) == pytest.approx(total, abs=1e-9 * max(1, total)) and min(bits.values()) >= 0
    slope = {}
    for name, values in groups.items():              # -dD/db at these bits is 2 ln 2 theta
        b, h = bits[name], 1e-4
        if b <= h: continue
        slope[name] = (gaussian_distortion(values, b - h) - gaussian_distortion(values, b + h)) / (2 * h)
    top = max(slope.values())
    assert min(slope.values()) == pytest.approx(top, rel=1e-2)
    for name in set(groups) - set(slope): assert groups[name].max() * 2 * math.log(2) <= top * 1.01


@quick
@given(spectra, st.floats(1, 40))
def test_minimax_makes_all_alike(groups, per_group):
    total = per_group * len(groups)
    bits = allocate_bits(groups, total)
    shares = [share(values, bits[name]) for name, values in groups.items()]
    assert sum(bits.values()) == pytest.approx(total, abs=1e-9 * max(1, total)) and np.ptp(shares) < 1e-9
    rng = np.random.default_rng(0)
    for _ in range(5):                               # no other split has a better worst group
        other = total * rng.dirichlet(np.ones(len(groups)))
        assert max(share(v, b) for v, b in zip(groups.values(), other)) >= max(shares) - 1e-9
    error = lambda given: sum(gaussian_distortion(v, given[name]) for name, v in groups.items())
    assert error(allocate_bits(groups, total, "mse")) <= error(bits) * (1 + 1e-9)
    assert [*gaussian_bound(groups, total).values()] == pytest.approx([1 - s for s in shares], abs=1e-9)


@quick
@given(spectra, st.floats(2, 20), st.sampled_from([.125, .25, .5]))
def test_measured_steps_end_within_a_step_of_minimax(groups, per_group, step):
    total = per_group * len(groups)
    bits = allocate_bits(groups, total, "measured", lambda name, b: share(groups[name], b), step=step)
    exact = allocate_bits(groups, total)
    assert sum(bits.values()) == pytest.approx(total, abs=1e-9)
    assert all(bits[name] < exact[name] + step + 1e-9 for name in groups)   # none is fed a step too much


@quick
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=9).map(np.array), st.floats(0, 60))
def test_rate_and_distortion_are_inverse(values, bits):
    assert gaussian_rate(values, share(values, bits)) == pytest.approx(bits, abs=1e-6)
    less, mid, more = (gaussian_distortion(values, bits + extra) for extra in (2, 1, 0))
    assert mid < more and 2 * mid <= less + more + 1e-9 * values.sum()
    scaled = gaussian_distortion(3 * values, bits)
    assert scaled == pytest.approx(3 * gaussian_distortion(values, bits))


@quick
@given(st.lists(st.floats(.3, 20), min_size=1, max_size=12), st.integers(1, 4))
def test_sizes_fit_the_budget_and_waste_little(bits, levels):
    wanted = {f"g{i}": b for i, b in enumerate(bits)}
    sizes = sizes_for(wanted, levels)
    unused = sum(bits) - sum(map(rate, sizes.values()))
    largest = max(K for own in sizes.values() for K in own)
    assert -1e-6 <= unused <= math.log2(1 + 1 / largest) + 1e-6    # not one more code fits anywhere
    for b in bits:
        own = sizes_of(b, levels)
        assert rate(own) <= b + 1e-6 and max(own) <= 2 ** (b / levels) * 4


def test_no_ratio_enters_the_rate():
    groups = {d: document_sizes(d, 10_000) for d in (2, 5, 14, 33)}
    for d, sizes in groups.items():
        widths = {latent_dims(d, r) for r in [(.3, .85, 1.9), (.05, .5, 6), (1, 1, 1)]}
        assert len(widths) > 1 and rate(sizes) == sum(map(math.log2, sizes))
    assert np.ptp([rate(s) for s in groups.values()]) < 3.1


@quick
@given(seeds, st.integers(2, 9), st.floats(1, 8))
def test_stretching_keeps_order_and_mean(seed, n, factor):
    found = {f"g{i}": row for i, row in enumerate(np.random.default_rng(seed).uniform(.3, 2, (n, 3)))}
    before, after = (np.log([*table.values()]) for table in (found, stretched(found, factor)))
    assert (np.ptp(after, axis=0) >= math.log(factor) - 1e-9).all()
    np.testing.assert_allclose(after.mean(0), before.mean(0), atol=1e-9)
    np.testing.assert_array_equal(after.argsort(0), before.argsort(0))


def test_the_documents_ratios_could_not_differ():
    ends = balanced_range([14, 14, 5, 9, 7, 28, 13, 21], [1.], np.linspace(.9, 1, 51))
    document = np.array([[.30, .33], [.84, .90], [1.90, 2.00]])
    assert np.abs(ends - document).max() < .04
    anything = balanced_range()
    assert (anything[:, 0] <= document[:, 0]).all() and (anything[:, 1] >= document[:, 1]).all()


def test_imports_are_light():
    code = ("import sys, mlfixes.vqvae.quantize, mlfixes.vqvae.bits; "
            "print(sorted({'numba', 'torch', 'sklearn', 'scipy', 'pandas'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_looking_codes_up_needs_no_torch():
    code = ("import sys; import numpy as np; from mlfixes.vqvae.quantize import ResidualQuantizer; "
            "x = np.random.default_rng(0).normal(size=(99, 3)); "
            "print(ResidualQuantizer(4, 2).fit(x, (4, 3)).encode(x).shape, 'torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(99, 2) False"
