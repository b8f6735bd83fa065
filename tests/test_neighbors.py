"""What a neighbour graph must be, on made-up points: complete, exact, in order, whatever the block."""
import subprocess, sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from mlfixes.temi.neighbors import METRICS, check_neighbors, knn_accuracy, knn_graph, mutual, purity

quick = settings(deadline=None, max_examples=40, derandomize=True)
KINDS = ("cloud", "grid", "copies", "crowd", "outlier", "offset", "sorted")


def points(seed, n, d, kind):
    "Clouds, grids full of ties, copies, one row far from all, a common offset, or sorted by a coordinate."
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, d))
    if kind == "grid": X = random.integers(0, 3, (n, d)).astype(float)
    if kind == "copies": X = X[random.integers(0, n // 20 + 1, n)]
    if kind == "crowd": X = X[random.integers(0, 3, n)]   # more copies than a point can collect
    if kind == "outlier": X[random.integers(n)] *= 1e3
    if kind == "offset": X += 300
    if kind == "sorted": X = X[np.argsort(X[:, 0])]
    X[:2, :2] = 7 * np.eye(2)                    # not all the same
    X[~X.any(1), 0] = 1                          # and none zero
    return X.astype(np.float32)


@st.composite
def pools(draw, most=400):
    n, d = draw(st.integers(3, most)), draw(st.integers(2, 12))
    return points(draw(st.integers(0, 2**32 - 1)), n, d, draw(st.sampled_from(KINDS)))


sizes, metrics, blocks = st.floats(0, 1), st.sampled_from(METRICS), st.integers(1, 450)


def at(share, n): return 1 + int(share * (n - 2))


def table(X, metric):
    "Similarities of all pairs, [n, n], in 64 bits; -inf for a point and itself."
    X = X.astype(float)
    if metric == "cosine": X = X / np.linalg.norm(X, axis=1, keepdims=True)
    near = X @ X.T if metric != "euclidean" else -cdist(X, X, "sqeuclidean")
    np.fill_diagonal(near, -np.inf)
    return near


def same(a, b):
    np.testing.assert_array_equal(a.index, b.index)
    np.testing.assert_array_equal(a.similarity, b.similarity)


@quick
@given(pools(), sizes, metrics, blocks)
def test_no_neighbour_is_missed(X, share, metric, block):
    "The e-th neighbour is as near as the e-th best of all, to the rounding of 32 bits."
    k, near = at(share, len(X)), table(X, metric)
    graph = knn_graph(X, k, metric, block)
    best = -np.sort(-near, axis=1)[:, :k]
    close = dict(rtol=3e-7, atol=1e-6 * abs(best).max() if metric == "dot" else 3e-7)
    np.testing.assert_allclose(graph.similarity, best, **close)
    np.testing.assert_allclose(np.take_along_axis(near, graph.index, 1), best, **close)
    check_neighbors(graph, len(X), k)            # in range, no point itself, none twice
    falling = np.diff(graph.similarity, axis=1)
    assert (falling <= 0).all() and (np.diff(graph.index, axis=1)[falling == 0] > 0).all()


@quick
@given(pools(), sizes, st.sampled_from(METRICS[:2]))
def test_agrees_with_scikit_learn(X, share, metric):
    k = at(share, len(X))
    graph = knn_graph(X, k, metric)
    peer = NearestNeighbors(algorithm="brute", metric=metric).fit(X.astype(float))
    far, index = peer.kneighbors(n_neighbors=k)
    near = 1 - far if metric == "cosine" else -far**2
    scale = abs(near).max()
    np.testing.assert_allclose(graph.similarity, near, rtol=1e-5, atol=1e-5 * scale)
    sure = near > graph.similarity[:, [-1]] + 1e-5 * scale   # those who are no tie with the last
    for row, theirs, certain in zip(graph.index, index, sure): assert set(theirs[certain]) <= set(row)


@quick
@given(pools(600), sizes, metrics, blocks)
def test_it_is_a_stable_sort_of_rounded_similarities(X, share, metric, block):
    "To the position, where all points share a direction and most are ties as well."
    k, near = at(share**2, len(X)), table(X, metric).astype(np.float32)
    order = np.argsort(-near, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(knn_graph(X, k, metric, block).index, order)


@quick
@given(pools(), sizes, metrics, blocks, blocks, st.integers(1, 3))
def test_block_and_threads_change_no_bit(X, share, metric, one, other, threads):
    k = at(share, len(X))
    same(knn_graph(X, k, metric, one), knn_graph(X, k, metric, other, threads))


@quick
@given(pools(), sizes, metrics, st.integers(0, 99))
def test_the_order_of_the_points_changes_no_similarity(X, share, metric, seed):
    k, order = at(share, len(X)), np.random.default_rng(seed).permutation(len(X))
    graph, mixed = knn_graph(X, k, metric), knn_graph(X[order], k, metric)
    np.testing.assert_array_equal(mixed.similarity, graph.similarity[order])
    ties = (np.diff(graph.similarity, axis=1) == 0).any(1)
    if k < len(X) - 1: ties |= knn_graph(X, k + 1, metric).similarity[:, -1] == graph.similarity[:, -1]
    clear = ~ties[order]                         # where there is one answer, it is the same one
    np.testing.assert_array_equal(order[mixed.index[clear]], graph.index[order][clear])


@quick
@given(pools(), sizes, metrics, st.integers(-20, 20))
def test_a_power_of_two_changes_no_bit(X, share, metric, power):
    k, factor = at(share, len(X)), np.float32(2) ** power
    graph, scaled = knn_graph(X, k, metric), knn_graph(factor * X, k, metric)
    unit = 1 if metric == "cosine" else factor**2
    np.testing.assert_array_equal(scaled.index, graph.index)
    np.testing.assert_array_equal(scaled.similarity, unit * graph.similarity)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_many_points_and_wide_rows(kind, metric):
    "Bars rise, lists fill up and are thinned out many times."
    X = points(1, 1500, 96, kind)
    for k in (1, 30, 300): same(knn_graph(X, k, metric, 256), knn_graph(X, k, metric, 700))
    best = -np.partition(-table(X, metric), 29, axis=1)[:, 29]
    last = knn_graph(X, 30, metric).similarity[:, -1]
    np.testing.assert_allclose(last, best, rtol=1e-6, atol=1e-7 * abs(best).max())


def test_the_input_is_not_changed_and_a_graph_is_made_again():
    X = points(3, 200, 8, "cloud")
    before = X.copy()
    for metric in METRICS: same(knn_graph(X, 7, metric), knn_graph(X, 7, metric))
    np.testing.assert_array_equal(X, before)


@quick
@given(pools(60), sizes, st.integers(0, 99), st.integers(1, 4))
def test_shares_against_plain_loops(X, share, seed, classes):
    graph, y = knn_graph(X, at(share, len(X))), np.random.default_rng(seed).integers(0, classes, len(X))
    right, alike = 0, 0
    for i, row in enumerate(graph.index):
        votes = [sum(y[j] == c for j in row) for c in range(classes)]
        winners = [j for j in row if votes[y[j]] == max(votes)]
        right += y[winners[0]] == y[i]
        alike += np.mean([y[j] == y[i] for j in row])
    assert knn_accuracy(graph, y) == pytest.approx(right / len(X))
    assert purity(graph, y) == pytest.approx(alike / len(X))
    for i, row in enumerate(mutual(graph)):
        assert row.tolist() == [i in graph.index[j] for j in graph.index[i]]


def test_import_is_light():
    code = ("import sys, mlfixes.temi.neighbors; "
            "print(sorted({'numba', 'torch', 'sklearn', 'scipy', 'threadpoolctl'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
