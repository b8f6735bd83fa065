"""The score is the formula, the factor its optimum, the quadrature the integral; a killed training goes on."""
import os, subprocess, sys, time

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import multivariate_normal

from mlfixes.lensing.maps import KappaMaps
from mlfixes.lensing.posterior import GridPosterior, SimplexPosterior
from mlfixes.lensing.scores import Temperature, decompose, detection_score, map_scores, score
from mlfixes.lensing.summaries import LinearEmulator, SmoothEmulator, group_moments

quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def answers(seed, m=200):
    "Truths, means and bars [m, 2] that are off by a random factor."
    draw = np.random.default_rng(seed)
    std = draw.uniform(.01, .1, (m, 2))
    mean = draw.normal(.5, .2, (m, 2))
    return mean + std * draw.uniform(.3, 3) * draw.standard_t(5, (m, 2)), mean, std


# the score

@quick
@given(seeds, st.floats(0, 5000))
def test_score_is_the_challenges_formula(seed, scale):
    true, mean, std = answers(seed)
    each = [-sum((t - mu)**2 / s**2 + np.log(s**2) + scale * (t - mu)**2 for t, mu, s in zip(*row))
            for row in zip(true, mean, std)]
    np.testing.assert_allclose(map_scores(true, mean, std, scale), each, rtol=1e-12)
    assert score(true, mean, std, scale) == pytest.approx(np.mean(each))


@quick
@given(seeds)
def test_the_factor_is_where_the_score_is_highest(seed):
    true, mean, std = answers(seed)
    fitted = Temperature.fit(true, mean, std)
    best = minimize_scalar(lambda k: -score(true, mean, k * std), bounds=(.05, 20), method="bounded", options=dict(xatol=1e-9))
    assert fitted.factor == pytest.approx(best.x, rel=1e-5)
    assert fitted.predicted_gain == pytest.approx(-best.fun - score(true, mean, std), abs=1e-8)
    report = decompose(true, mean, std)
    assert report.scaled(np.array([.5, 1.7])) == pytest.approx([score(true, mean, k * std) for k in (.5, 1.7)])
    assert report.gap == pytest.approx(report.score + (1 + np.log(std**2) + 1000 * std**2).sum(1).mean())


@quick
@given(seeds, st.floats(.1, 10), st.floats(-5, 5))
def test_detection_knows_ranks_alone(seed, a, b):
    draw = np.random.default_rng(seed)
    y, s = draw.random(500) < .5, draw.normal(size=500)
    assert detection_score(y, a * s + b) == pytest.approx(detection_score(y, s))
    assert detection_score(y, y.astype(float)) == 1 and 0 <= detection_score(y, s) <= 1


# posteriors

def tabulated(seed, K=25, narrow=1.):
    "A design in general position, linear moments, and summaries near its middle."
    draw = np.random.default_rng(seed)
    design = np.r_[draw.uniform(-1, 1, (K - 4, 2)), [[-1, -1], [-1, 1], [1, -1], [1, 1.]]]
    B = np.eye(2) + draw.uniform(-.3, .3, (2, 2))
    L = narrow * np.array([[draw.uniform(.05, .2), 0], [draw.uniform(-.1, .1), draw.uniform(.05, .2)]])
    return design, design @ B.T, np.tile(L @ L.T, (K, 1, 1)), draw.uniform(-.2, .2, (5, 2)), B


@quick
@given(seeds)
def test_far_from_edges_the_posterior_is_the_closed_form(seed):
    design, mean, cov, d, B = tabulated(seed, narrow=.3)
    inverse = np.linalg.inv(B)
    expected = d @ inverse.T, np.sqrt(np.diagonal(inverse @ cov[0] @ inverse.T))
    grid = GridPosterior(SmoothEmulator(design, mean, cov, degree=1), np.array([[-1, -1], [1, 1.]]), "flat")
    for posterior in (SimplexPosterior(design, mean, cov, dtype="float64"), grid):
        at, std = posterior.moments(d)
        np.testing.assert_allclose(at, expected[0], atol=2e-3 * expected[1].max())
        np.testing.assert_allclose(std, np.tile(expected[1], (5, 1)), rtol=5e-3)
    area = 4.   # of the hull: the flat prior is 1 / 4
    np.testing.assert_allclose(np.exp(posterior.log_evidence(d)), 1 / area / abs(np.linalg.det(B)), rtol=1e-2)


@quick
@given(seeds)
def test_the_order_of_the_design_and_units_of_the_summary_do_not_matter(seed):
    design, mean, cov, d, _ = tabulated(seed)
    draw = np.random.default_rng(seed)
    order, A = draw.permutation(len(design)), np.array([[2., .5], [-.3, 30.]])
    here = SimplexPosterior(design, mean, cov, dtype="float64").moments(d)
    for other in (SimplexPosterior(design[order], mean[order], cov[order], dtype="float64").moments(d),
                  SimplexPosterior(design, mean @ A.T, A @ cov @ A.T, dtype="float64").moments(d @ A.T)):
        for a, b in zip(here, other): np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@quick
@given(seeds)
def test_moments_of_groups_are_numpys(seed):
    draw = np.random.default_rng(seed)
    group = np.repeat(np.arange(4), draw.integers(6, 20, 4))
    summary = draw.normal(size=(len(group), 2))
    for kind, by in (("unbiased", lambda n: n - 1), ("kit", lambda n: n - 4)):
        mean, cov = group_moments(summary, group, kind)
        for k in range(4):
            own = summary[group == k]
            np.testing.assert_allclose(mean[k], own.mean(0))
            np.testing.assert_allclose(cov[k], np.cov(own.T, bias=True) * len(own) / by(len(own)))
    hull = LinearEmulator(np.array([[0, 0], [1, 0], [0, 1.], [1, 1]]), mean, cov)(draw.random((20, 2)))[1]
    assert (np.linalg.eigvalsh(hull) > 0).all()   # between positive definite covariances


# maps

@settings(max_examples=4, deadline=None)
@given(seeds, st.sampled_from(["gaussian", "lognormal"]))
def test_maps_have_the_power_that_they_should(seed, field):
    sim, draw = KappaMaps(32, 8., field=field), np.random.default_rng(seed)
    theta = np.tile([.3, .8, 7.8, .01, 0.], (1500, 1))
    found = np.square(np.abs(np.fft.rfft2(sim.signal(theta, draw)))).mean(0) * (np.radians(8 / 60) / 32)**2
    ratio, ell = (found / np.maximum(sim.power(theta[:1])[0], 1e-30)).ravel()[1:], sim.ell.ravel()[1:]
    for low, high in ((0, 300), (300, 700), (700, 2000)):
        assert ratio[(low < ell) & (ell <= high)].mean() == pytest.approx(1, abs=.04)
    noise = sim.add_noise(np.zeros((200, 32, 32), "float32"), draw)
    assert noise.std() == pytest.approx(.4 / (2 * 30 * 8**2)**.5, rel=.01)


# bad input

def test_bad_input_is_named():
    true, mean, std = answers(0)
    with pytest.raises(ValueError, match="error bars"): score(true, mean, -std)
    with pytest.raises(ValueError, match="NaN"): score(true, np.full_like(mean, np.nan), std)
    with pytest.warns(UserWarning): assert score(true, mean, 0 * std, strict=False) == -1e6
    design, at, cov, d, _ = tabulated(0)
    for bad, said in [((design[:2], at[:2], cov[:2]), "2 cosmologies"), ((np.c_[design[:, 0], design[:, 0]], at, cov), "on a line"),
                      ((design, at, -cov), "covariance 0")]:
        with pytest.raises(ValueError, match=said): SimplexPosterior(*bad)
    posterior = SimplexPosterior(design, at, cov)
    with pytest.raises(ValueError, match="standard deviations"): posterior.moments(d + 100)
    assert np.isnan(SimplexPosterior(design, at, cov, outside="nan").moments(d + 100)[0]).all()
    with pytest.raises(ValueError): posterior.moments(d * np.nan)
    with pytest.raises(ValueError, match="mask"): KappaMaps(32, mask=np.ones((8, 8), bool))


# killed and resumed

TRAIN = """
import sys, numpy as np
from mlfixes.lensing.training import Config, fit, trial_of
config = Config(n_train=2, n_calibrate=6, n_test=50, net="simple", attention=False, dtype="float32", epochs=30, noise="fresh", augment=True,
                schedule="cosine", lr=1e-3)
trial = trial_of(config, 0)
fitted = fit(config, 0, trial.train, trial.calibrate, sys.argv[1] or None)
print(np.concatenate([p.detach().numpy().ravel() for p in fitted.net.parameters()]).tobytes().hex()[:4096], len(fitted.history))
"""


def train(folder):
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", TRAIN, str(folder)], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_killed_training_goes_on_to_the_same_bits(tmp_path):
    process, end = train(tmp_path), time.monotonic() + 120
    while not (tmp_path / "checkpoint.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "no checkpoint in two minutes"
        time.sleep(.01)
    process.kill(); process.communicate()
    out, err = train(tmp_path).communicate(timeout=300)
    assert out, err
    assert out == train("").communicate(timeout=300)[0]
