"""What the losses must be, on made-up predictions: exact, symmetric, finite, alike for one head or many."""
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.special import logsumexp
from scipy.stats import entropy

from mlfixes.temi.losses import (LOSSES, attraction, balanced_value, clamped_temi_loss, landmarks,
                                 marginal_negentropy, merged_clusters, regulariser_share, repels_from,
                                 replacement_bound, replacement_loss, sample_entropy, scan_loss, temi_loss)

quick = settings(deadline=None, max_examples=40, derandomize=True)
seeds, names = st.integers(0, 2**32 - 1), st.sampled_from(list(LOSSES))
betas = st.floats(.501, 1)
spreads = st.floats(.01, 68)   # of the logarithms: at most, probabilities go down to 1e-30


def pairs(seed, spread, heads=()):
    "Log-probabilities [*heads, B, C] of two views, and the logarithm of their mean [*heads, C]."
    draw = np.random.default_rng(seed)
    shape = 2, *heads, draw.integers(1, 9), draw.integers(2, 20)
    logs = torch.tensor(draw.uniform(-spread, 0, shape)).log_softmax(-1)
    return *logs, torch.logsumexp(torch.cat([*logs], -2), -2) - math.log(2 * shape[-2])


def close(ours, theirs, digits):
    ours, theirs = (torch.as_tensor(x, dtype=torch.float64) for x in (ours, theirs))
    assert ours.shape == theirs.shape
    error = (ours - theirs).abs().max()
    assert error <= 10.**-digits * max(1, theirs.abs().max()), error


@quick
@given(seeds, spreads, betas)
def test_temi_is_the_published_formula_in_value_and_gradient(seed, spread, beta):
    log_p1, log_p2, log_pk = (x.requires_grad_() for x in pairs(seed, spread))
    p1, p2, pk = (x.exp() for x in (log_p1, log_p2, log_pk))
    theirs = -((p1 * p2)**beta / pk).sum(-1).log()
    ours = temi_loss(log_p1, log_p2, log_pk, beta)
    close(ours, theirs, 12)
    a, b, k = (x.detach().numpy() for x in (log_p1, log_p2, log_pk))
    close(ours.detach(), -logsumexp(beta * (a + b), b=np.exp(-k), axis=-1), 12)
    for x, y in zip(*(torch.autograd.grad(loss.sum(), [log_p1, log_p2, log_pk]) for loss in (ours, theirs))):
        close(x, y, 9)


@quick
@given(seeds, spreads, betas)
def test_single_precision_is_exact_but_for_the_rounding_of_its_input(seed, spread, beta):
    whole = temi_loss(*(single := [x.float() for x in pairs(seed, spread)]), beta)
    exact = temi_loss(*(x.double() for x in single), beta)
    ulp = 2.**-23 * max(8, -2 * min(x.min().item() for x in single))   # of the sum of two logarithms
    assert ((whole - exact).abs() <= 1e-6 * exact.abs().clamp_min(1) + ulp).all()
    if spread < 12: assert ((whole - exact).abs() <= 1e-6 * exact.abs().clamp_min(1)).all()


@quick
@given(seeds, st.floats(40, 68), betas)
def test_temi_is_finite_at_1e_30_and_loses_no_gradient(seed, spread, beta):
    log_p1, log_p2, log_pk = pairs(seed, spread)
    log_p1[..., 0] = log_p2[..., 0] = math.log(1e-30)
    logits = log_p1.float().requires_grad_()
    loss = temi_loss(logits, log_p2.float(), log_pk.float(), beta)
    slope = torch.autograd.grad(loss.sum(), logits)[0]
    score = beta * (log_p1 + log_p2) - log_pk
    assert loss.isfinite().all() and slope.isfinite().all()
    close(slope.double(), -beta * score.softmax(-1), 4)
    assert ((slope != 0) | (score.log_softmax(-1) < -80)).all()   # below, single precision has no number


@quick
@given(seeds, spreads, names, betas)
def test_symmetric_in_the_two_views(seed, spread, name, beta):
    log_p1, log_p2, log_pk = pairs(seed, spread)
    close(LOSSES[name](log_p1, log_p2, log_pk, beta), LOSSES[name](log_p2, log_p1, log_pk, beta), 12)


@quick
@given(seeds, spreads, names, betas)
def test_names_of_clusters_do_not_matter(seed, spread, name, beta):
    logs = pairs(seed, spread)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(logs[-1].shape[-1]))
    renamed = [x[..., order] for x in logs]
    close(LOSSES[name](*renamed, beta), LOSSES[name](*logs, beta), 10)
    close(scan_loss(*renamed[:2]), scan_loss(*logs[:2]), 10)
    for term in (sample_entropy, marginal_negentropy): close(term(renamed[0].exp()), term(logs[0].exp()), 10)


@quick
@given(seeds, spreads, names, betas, st.sampled_from([(3,), (2, 3), (1,)]))
def test_heads_in_front_are_a_loop(seed, spread, name, beta, heads):
    log_p1, log_p2, log_pk = pairs(seed, spread, heads)
    flat = [x.reshape(-1, *x.shape[len(heads):]) for x in (log_p1, log_p2, log_pk)]
    def loop(loss, *tensors):
        values = torch.stack([loss(*head) for head in zip(*tensors)])
        return values.reshape(*heads, *values.shape[1:])
    loss = lambda a, b, k: LOSSES[name](a, b, k, beta)
    close(loss(log_p1, log_p2, log_pk), loop(loss, *flat), 12)
    close(loss(log_p1, log_p2, log_pk.unsqueeze(-2)), loop(loss, *flat), 12)
    close(scan_loss(log_p1, log_p2), loop(scan_loss, *flat[:2]), 12)
    for term in (sample_entropy, marginal_negentropy):
        close(term(log_p1.exp()), loop(term, flat[0].exp()), 12)


@quick
@given(seeds, st.floats(.01, 5), betas)
def test_the_clamped_text_is_the_published_loss_where_no_clamp_acts(seed, spread, beta):
    logs = pairs(seed, spread)
    close(clamped_temi_loss(*(x.exp() for x in logs), beta), temi_loss(*logs, beta), 10)


@quick
@given(seeds, spreads, st.floats(.01, 1))
def test_documents_formula_and_code_are_one_and_bounded(seed, spread, beta):
    p1, p2, pk = (x.exp() for x in pairs(seed, spread))
    value = replacement_loss(p1, p2, pk, beta)
    ratio = (p1 * p2).clamp_min(1e-8) / pk.clamp_min(1e-8)
    pk = pk.clamp_min(1e-8)
    close(value, -((ratio * pk)**beta / pk**(beta - 1) * ratio.clamp_min(1e-8).log()).sum(-1), 9)
    assert (value <= replacement_bound(beta) * pk.sum() + 1e-9).all()
    assert torch.equal(value, replacement_loss(p1, p2, pk, beta, floor=-100., ceiling=math.inf))


@quick
@given(seeds, spreads, betas)
def test_nothing_beats_perfect_predictions(seed, spread, beta):
    log_p1, log_p2, log_pk = pairs(seed, spread)
    both = torch.cat([log_p1, log_p2]), torch.cat([log_p2, log_p1])
    assert temi_loss(*both, log_pk, beta).mean() >= -math.log(log_pk.shape[-1]) - 1e-12


@quick
@given(seeds, spreads, st.floats(0, 10))
def test_scan_is_its_formula(seed, spread, weight):
    log_p1, log_p2, _ = pairs(seed, spread)
    p1, p2, mean = log_p1.exp(), log_p2.exp(), log_p1.exp().mean(-2)
    theirs = -(p1 * p2).sum(-1).log().mean() + weight * (mean * mean.log()).sum()
    close(scan_loss(log_p1, log_p2, weight), theirs, 10)


@quick
@given(seeds, spreads)
def test_regularisers_are_entropies_but_for_their_guard(seed, spread):
    p = pairs(seed, spread)[0].exp()
    guard = 1e-8 * p.shape[-1] * 20
    assert sample_entropy(p).item() == pytest.approx(entropy(p.numpy(), axis=-1).mean(), abs=guard)
    assert marginal_negentropy(p).item() == pytest.approx(-entropy(p.numpy().mean(0)), abs=guard)


@quick
@given(st.integers(2, 60), betas)
def test_landmarks_are_their_closed_forms(C, beta):
    table, ln = landmarks(C, beta), math.log(C)
    assert list(table.columns) == ["uniform", "collapsed", "perfect"]
    close([*table.loc["temi"]], [-(2 - 2 * beta) * ln, 0, -ln], 9)
    dead = 1e-8**(beta - 1)
    assert table.loc["clamped", "collapsed"] == pytest.approx(-math.log(1 + (C - 1) * dead))
    assert table.loc["replacement", "uniform"] == pytest.approx(C**-beta * ln)
    clamps = C**2 * 1e-8**beta * 20
    assert table.loc["replacement", "perfect"] == pytest.approx(-balanced_value(C, beta), abs=clamps)
    close([*table.loc["scan"]], [-4 * ln, 0, -5 * ln], 9)


@pytest.mark.parametrize("beta", [.4, .5, .6, .7])
def test_the_replacement_is_best_with_few_clusters(beta):
    def value(used, C=50):
        p = torch.eye(C, dtype=torch.float64)[:used]
        return replacement_loss(p, p, p.mean(0), beta).mean().item()
    assert abs(min(range(2, 51), key=value) - merged_clusters(beta)) < 1


@pytest.mark.parametrize("beta", [.55, .6, .7, .9])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_replacement_turns_and_the_published_loss_does_not(beta, seed):
    below, above = math.floor(repels_from(beta)), math.ceil(repels_from(beta))
    assert attraction("replacement", below, beta, seed) > 0 > attraction("replacement", above, beta, seed)
    for C in (below, above, 200):
        assert attraction("temi", C, beta, seed) == pytest.approx(beta / math.hypot(beta, 1 - beta), abs=1e-3)
    assert attraction("temi", 40, beta, seed) == attraction("temi", 40, beta, seed)


@quick
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=9), st.floats(.01, 100), st.floats(1.5, 10))
def test_share_of_a_regulariser(values, weight, factor):
    if np.ptp(values) < 1e-3: return
    share = regulariser_share(values, values, weight)
    assert share == pytest.approx(weight / (1 + weight))
    assert regulariser_share(np.multiply(values, factor), values, weight * factor) == pytest.approx(share)
    assert regulariser_share(np.add(values, 3), values, -weight) == pytest.approx(share)


@pytest.mark.parametrize("name", LOSSES)
def test_a_nan_stays_in_its_pair(name):
    log_p1, log_p2, log_pk = pairs(3, 4., (2,))
    log_p1[1, 0, 1] = math.nan
    bad = LOSSES[name](log_p1, log_p2, log_pk).isnan()
    assert bad[1, 0] and bad.sum() == 1
