"""What every selection must be, on made-up pools: nested, exact, scale-free, complete, repeatable."""
import subprocess, sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.spatial.distance import cdist

from mlfixes.coreset.selection import (BALANCES, METRICS, compile_kernels, craig, crest, facility_location,
                                       k_center, quotas)
from mlfixes.coreset.scoring import inclusion, systematic, unbiased_weights

NESTED = ["lazy", "sparse", "k_center"]
ALL = [*NESTED, "stochastic"]
compile_kernels()


def choose(method, X, k, **options):
    if method == "k_center": return k_center(X, k, **options)
    return facility_location(X, k, method=method, neighbors=9 if method == "sparse" else None, **options)


@st.composite
def pools(draw):
    "Clouds, grids full of ties, copies, and a row that is far from all."
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(8, 60)), draw(st.integers(1, 6))
    kind = draw(st.sampled_from(["cloud", "grid", "copies", "outlier"]))
    X = random.normal(size=(n, d))
    if kind == "grid": X = random.integers(0, 3, (n, d)).astype(float)
    if kind == "copies": X = X[random.integers(0, n // 3 + 1, n)]
    if kind == "outlier": X[random.integers(n)] *= 1e3
    return X + 10 * np.eye(1, d)   # no row is all zero


@st.composite
def labelled(draw):
    X = draw(pools())
    names = np.array(draw(st.sampled_from([["a", "bb", "ccc"], [-7, 0, 40], [2**60, 5, 6]])))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return X, names[random.choice(3, len(X), p=[.7, .2, .1])]


sizes = st.floats(0, 1)
quick = settings(deadline=None, max_examples=40, derandomize=True)


def at(share, n): return 1 + int(share * (n - 1))


@quick
@given(pools(), sizes, sizes, st.sampled_from(NESTED), st.sampled_from(METRICS[:2]))
def test_orders_are_nested(X, a, b, method, metric):
    k, j = sorted([at(a, len(X)), at(b, len(X))], reverse=True)
    longer, shorter = (choose(method, X, size, metric=metric) for size in (k, j))
    np.testing.assert_array_equal(longer.order[:j], shorter.order)
    np.testing.assert_array_equal(longer.gains[:j], shorter.gains)


@quick
@given(labelled(), sizes, sizes, st.sampled_from(NESTED))
def test_orders_are_nested_with_labels(pool, a, b, method):
    (X, y), (j, k) = pool, sorted([at(a, len(pool[0])), at(b, len(pool[0]))])
    np.testing.assert_array_equal(choose(method, X, k, y=y).order[:j], choose(method, X, j, y=y).order)


def naive(cost, start, k):
    best, order = np.full(len(cost), start), []
    for _ in range(k):
        gains = np.maximum(best[:, None] - cost, 0).sum(0)
        gains[order] = -1
        order.append(int(gains.argmax()))
        best = np.minimum(best, cost[:, order[-1]])
    return order


@quick
@given(pools(), sizes)
def test_lazy_makes_the_picks_of_naive_greedy(X, share):
    k, start = at(share, len(X)), 2 * np.linalg.norm(X - X.mean(0), axis=1).max()
    chosen = facility_location(X, k)
    cost, best = cdist(X, X), np.full(len(X), start)
    for pick, gain in zip(chosen.order, chosen.gains):   # every pick is as good as any, up to 32 bits
        gains = np.maximum(best[:, None] - cost, 0).sum(0)
        assert gains[pick] >= gains.max() - 1e-5 * start * len(X) ** .5
        assert gain == pytest.approx(gains[pick], rel=1e-4, abs=1e-5 * start * len(X) ** .5)
        best = np.minimum(best, cost[:, pick])


@quick
@given(st.integers(0, 2**32 - 1), st.integers(8, 60), sizes)
def test_lazy_picks_equal_naive_picks_to_the_index(seed, n, share):
    "On a line of whole numbers all sums are exact, and ties are many: the lowest index wins."
    x = np.random.default_rng(seed).integers(0, 12, n // 2 * 2)
    X = np.concatenate([x, -x])[:, None].astype(float)   # the mean is exactly 0, so nothing is rounded
    k, start = at(share, len(X)), 2 * abs(X).max()
    assert facility_location(X, k).order.tolist() == naive(abs(X - X.T), start, k)
    everyone = facility_location(X, k, method="sparse", neighbors=len(X))
    assert everyone.order.tolist() == naive(abs(X - X.T), start, k)


@quick
@given(pools(), sizes, st.integers(-200, 200), st.sampled_from(ALL), st.sampled_from(METRICS))
def test_a_power_of_two_changes_no_bit(X, share, power, method, metric):
    if method == "k_center" and metric == "dot": metric = "euclidean"
    k, factor = at(share, len(X)), 2. ** power
    plain, scaled = (choose(method, Z, k, metric=metric) for Z in (X, factor * X))
    np.testing.assert_array_equal(scaled.order, plain.order)
    np.testing.assert_array_equal(scaled.weights, plain.weights)
    unit = {"euclidean": factor, "cosine": 1., "dot": factor**2}[metric]
    np.testing.assert_allclose(scaled.gains, unit * plain.gains, rtol=1e-12)


@quick
@given(st.integers(0, 2**32 - 1), st.floats(1e-9, 1e9), st.sampled_from(ALL))
def test_any_factor_changes_no_pick(seed, factor, method):
    X = np.random.default_rng(seed).normal(size=(50, 4))   # no ties
    np.testing.assert_array_equal(choose(method, factor * X, 12).order, choose(method, X, 12).order)


@quick
@given(labelled(), sizes, st.sampled_from(ALL), st.booleans())
def test_weights_sum_to_n_and_no_point_comes_twice(pool, share, method, by_class):
    X, y = pool
    chosen = choose(method, X, at(share, len(X)), y=y if by_class else None)
    assert chosen.weights.sum() == len(X) and len(np.unique(chosen.order)) == len(chosen)
    if by_class and len(np.unique(y[chosen.order])) == len(np.unique(y)):
        for c in np.unique(y): assert chosen.weights[y[chosen.order] == c].sum() == (y == c).sum()


@pytest.mark.parametrize("method", ALL)
def test_the_last_copy_can_be_chosen(method):
    "Where nothing is left to gain, picks go on, and none comes twice."
    X = np.random.default_rng(1).normal(size=(5, 3))[np.arange(60) % 5]
    assert sorted(choose(method, X, 60).order) == list(range(60))


@quick
@given(labelled(), sizes, st.sampled_from(ALL), st.sampled_from(sorted(BALANCES)))
def test_class_quotas_are_exact_or_refused(pool, share, method, balance):
    (X, y), k = pool, at(share, len(pool[0]))
    names, counts = np.unique(y, return_counts=True)
    try: wanted = quotas(counts, k, balance)
    except ValueError as error:
        assert balance != "proportional" and "its quota is" in str(error)
        with pytest.raises(ValueError, match="its quota is"): choose(method, X, k, y=y, balance=balance)
        return
    chosen = y[choose(method, X, k, y=y, balance=balance).order]
    assert [(chosen == name).sum() for name in names] == wanted.tolist() and wanted.sum() == k


@quick
@given(st.lists(st.integers(0, 50), min_size=1, max_size=9).filter(sum), sizes)
def test_a_larger_budget_takes_no_seat_away(counts, share):
    k = at(share, sum(counts))
    seats = quotas(counts, k)
    assert seats.sum() == k and (seats <= counts).all() and (k == 1 or (seats >= quotas(counts, k - 1)).all())


@quick
@given(labelled(), sizes, st.integers(0, 99), st.sampled_from(ALL))
def test_same_seed_same_selection(pool, share, seed, method):
    one, two = (choose(method, pool[0], at(share, len(pool[0])), seed=seed, y=pool[1]) for _ in range(2))
    for name in ("order", "gains", "weights", "objective"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


@quick
@given(labelled(), sizes, st.integers(0, 99), st.integers(1, 20))
def test_gradient_selectors_are_complete(pool, share, seed, batch):
    y = np.unique(pool[1], return_inverse=True)[1]
    k, random = at(share, len(y)), np.random.default_rng(seed)
    probs = random.dirichlet(np.ones(y.max() + 2), len(y))   # one class is never the label
    for chosen in (craig(probs, y, k), crest(probs, y, k, batch=batch, seed=seed)):
        assert len(np.unique(chosen.order)) == k and chosen.weights.mean() == pytest.approx(1)


def test_import_is_light_and_a_second_process_starts_fast():
    code = ("import sys, mlfixes.coreset.selection as s; heavy = {'numba', 'torch', 'sklearn', 'scipy'}; "
            "print(sorted(heavy & set(sys.modules)), s.compile_kernels() < 8)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"


@pytest.mark.parametrize("seed", range(12))
def test_importance_sampling_is_unbiased(seed):
    "Exact size, no repeats, weighted means within three standard errors of the pool's; seeds that are fixed."
    random = np.random.default_rng(seed)
    n, skew = int(random.integers(10, 60)), random.uniform(0, 3)
    score, values, k = random.exponential(size=n) ** skew, random.normal(size=n), int(random.integers(1, n // 2))
    pi = inclusion(.2 * score.mean() + .8 * score, k)   # a floor: what is hardly ever drawn has no normal error
    assert pi.sum() == pytest.approx(k) and pi.max() <= 1 and (pi > 0).all()
    draws = [systematic(pi, random) for _ in range(4000)]
    assert all(len(set(index)) == k for index in draws)
    means = np.array([(unbiased_weights(pi[index], n) * values[index]).mean() for index in draws])
    assert abs(means.mean() - values.mean()) <= 3 * means.std(ddof=1) / np.sqrt(len(means))
