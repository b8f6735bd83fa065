"""What every margin head must be, on made-up batches: exact, monotone, scale-free, repeatable."""
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.optimize import brentq
from scipy.special import logsumexp

from mlfixes.arcface.margins import (NECKS, AdaCos, AdaFace, ArcFace, CosFace, Neck, angular_margin,
                                     max_probability, min_loss, sample_classes, scale_bound, untrained_loss)

HEADS = [ArcFace, CosFace, AdaCos, AdaFace]
quick = settings(deadline=None, max_examples=40, derandomize=True)
seeds, classes = st.integers(0, 2**32 - 1), st.integers(2, 10**7)
scales = st.floats(.05, 100)
margins = st.floats(0, 3.1)


def batch(seed, n=None, C=None, dtype=torch.float64):
    "Embeddings [n, d], labels, C and d; classes may come twice or not at all."
    draw = np.random.default_rng(seed)
    n, C, d = n or draw.integers(2, 20), C or draw.integers(3, 40), draw.integers(2, 12)
    emb = draw.normal(size=(n, d)) * draw.uniform(.1, 10, (n, 1)) + draw.normal(size=d)
    return torch.tensor(emb, dtype=dtype), torch.tensor(draw.integers(C, size=n)), int(C), int(d)


def fitted(kind, d, C, emb, y, **options):
    "A head that is done with its statistics, in evaluation."
    head = kind(d, C, **options).to(emb.dtype)
    with torch.no_grad(): head(emb, y)
    return head.eval()


def psi(head, cosine, norm):
    "Penalised cosines as the papers write them, for autograd; ArcFace beyond pi as is usual for m < 2.3."
    m, theta = head.margin, torch.acos(cosine)
    if isinstance(head, CosFace): return cosine - m
    if isinstance(head, AdaFace):
        z = ((norm - head.norm_mean) * .333 / (head.norm_std + 1e-3 * head.norm_mean)).clamp(-1, 1)
        shift, drop = m * z, m + m * z
    else: shift, drop = torch.full_like(cosine, -m), 0
    beyond = (-shift > 0) & (theta - shift > math.pi)
    continued = cosine - shift.abs() * shift.abs().sin()
    return torch.where(beyond, continued, torch.cos((theta - shift).clamp_min(0))) - drop


def by_autograd(head, emb, y):
    "Logits and loss from normalised copies, a mask and cross-entropy."
    unit = torch.nn.functional.normalize
    cosine = unit(head.neck(emb)) @ unit(head.weight).T
    mask = torch.nn.functional.one_hot(y, head.n_classes).bool()
    penalised = psi(head, cosine.gather(1, y[:, None])[:, 0], emb.detach().norm(dim=1))[:, None]
    scale = head.scale / head.temperature
    loss = torch.nn.functional.cross_entropy(scale * torch.where(mask, penalised, cosine), y)
    return scale * cosine, loss


def close(ours, theirs, digits):
    assert abs(ours - theirs).max() <= 10.**-digits * max(1, abs(theirs).max()), abs(ours - theirs).max()


@quick
@given(seeds, st.sampled_from(HEADS), st.floats(.5, 64), st.floats(0, 1.5), st.sampled_from(NECKS))
def test_loss_and_gradients_are_those_of_autograd(seed, kind, scale, margin, neck):
    emb, y, C, d = batch(seed)
    head = fitted(kind, d, C, emb, y, scale=scale, margin=margin, neck=neck, temperature=1.7)
    emb = (emb * 1.1).requires_grad_()
    out, (logits, loss) = head(emb, y), by_autograd(head, emb, y)
    close(out.logits, logits.detach(), 10); close(head.logits(emb).detach(), logits.detach(), 10)
    close(out.loss.detach(), loss.detach(), 10)
    for ours, theirs in zip(*(torch.autograd.grad(x, [emb, head.weight]) for x in (out.loss, loss))):
        close(ours, theirs, 10)


@pytest.mark.parametrize("kind", HEADS[:3])   # AdaFace takes lengths for constants
@pytest.mark.parametrize("neck", ["none", "batchnorm"])
def test_gradients_are_finite_differences(kind, neck):
    emb, y, C, d = batch(5, n=6, C=7)
    head = fitted(kind, d, C, emb, y, scale=5., neck=neck)
    if neck == "batchnorm": head.neck.train()   # through the statistics of the batch
    weight = head.weight.detach().clone().requires_grad_()
    loss = lambda emb, weight: torch.func.functional_call(head, {"weight": weight}, (emb, y)).loss
    assert torch.autograd.gradcheck(loss, (emb.requires_grad_(), weight))


@quick
@given(seeds, st.sampled_from(HEADS), scales, st.integers(-6, 6))
def test_scale_and_temperature_trade_to_the_last_bit(seed, kind, scale, power):
    emb, y, C, d = batch(seed, dtype=torch.float32)
    results = []
    for factor in (1., 2.**power):
        head = kind(d, C, scale=scale * factor, temperature=factor)
        if kind is AdaCos: head.eval()   # in training it sets s/T itself
        out = head(emb.requires_grad_(), y)
        gradients = torch.autograd.grad(out.loss, [emb, head.weight])
        results.append([out.loss, out.logits, out.margin_logits, *gradients])
    for plain, traded in zip(*results): assert torch.equal(plain, traded)


@quick
@given(classes, scales, margins, st.integers(-20, 20))
def test_arithmetic_trades_too(C, scale, margin, power):
    for formula in (max_probability, min_loss, untrained_loss):
        assert formula(C, scale * 2.**power, margin, 2.**power) == formula(C, scale, margin)


@quick
@given(margins, seeds)
def test_the_target_never_rises_with_the_angle(margin, seed):
    angle = torch.from_numpy(np.sort(np.random.default_rng(seed).uniform(0, math.pi, 400)))
    value, slope = angular_margin(angle.cos(), margin)
    assert (value.diff() <= 1e-12).all() and (slope >= 0).all() and (value <= angle.cos() + 1e-12).all()
    inside = angle < math.pi - margin
    close(value[inside], torch.cos(angle[inside] + margin), 12)


@quick
@given(seeds, st.floats(-20, 20), st.sampled_from([ArcFace, CosFace, AdaCos]))
def test_lengths_do_not_matter(seed, power, kind):
    "Neither that of an embedding nor that of a class vector, each with a factor of its own."
    emb, y, C, d = batch(seed)
    head = fitted(kind, d, C, emb, y)
    before, loss = head(emb, y).logits, head(emb, y).loss.detach()
    factor = lambda n: torch.exp2(power * torch.linspace(.1, 1, n, dtype=torch.float64))[:, None]
    with torch.no_grad(): head.weight *= factor(C)
    after = head(emb * factor(len(emb)), y)
    close(after.logits, before, 9); close(after.loss.detach(), loss, 9)


@quick
@given(seeds, st.sampled_from(HEADS))
def test_margin_logits_differ_in_the_true_class_alone_and_give_the_loss(seed, kind):
    emb, y, C, d = batch(seed)
    out = fitted(kind, d, C, emb, y)(emb, y)
    mask = np.eye(C, dtype=bool)[y]
    clean, penalised = out.logits.numpy(), out.margin_logits.numpy()
    assert (clean == penalised)[~mask].all() and (penalised <= clean + 1e-9)[mask].all()
    close(out.loss.detach().numpy(), (logsumexp(penalised, axis=1) - penalised[mask]).mean(), 10)


@quick
@given(seeds, st.sampled_from([ArcFace, CosFace]))
def test_at_scale_zero_the_loss_is_uniform(seed, kind):
    emb, y, C, d = batch(seed)
    assert kind(d, C, scale=1e-9).double()(emb, y).loss.item() == pytest.approx(math.log(C), abs=1e-7)


@quick
@given(st.integers(2, 30), scales, st.floats(0, 1.5))
def test_the_simplex_reaches_the_bound_and_orthogonal_classes_the_untrained_loss(C, scale, margin):
    "On the vertices of a regular simplex, and on coordinate axes where no cosine is there."
    head, y = ArcFace(C, C, scale, margin).double(), torch.arange(C)
    vertices = torch.eye(C, dtype=torch.float64) - 1 / C
    assert head.init_class_means(vertices, y)(vertices, y).loss.item() == pytest.approx(
        min_loss(C, scale, margin), rel=1e-6)   # the angle is 0 up to the rounding of a cosine
    aside = torch.eye(C, 2 * C, dtype=torch.float64)
    head = ArcFace(2 * C, C, scale, margin).double().init_class_means(aside, y)
    assert head(aside.roll(C, 1), y).loss.item() == pytest.approx(untrained_loss(C, scale, margin), rel=1e-9)


@quick
@given(st.integers(2, 12), st.integers(2, 15), scales, st.floats(0, 1.5), seeds)
def test_no_head_is_better_than_the_bound(C, d, scale, margin, seed):
    draw = torch.Generator().manual_seed(seed)
    head = ArcFace(d, C, scale, margin, seed=seed).double()
    emb = head.weight.detach() + .1 * torch.randn(C, d, generator=draw, dtype=torch.float64)
    assert head(emb, torch.arange(C)).loss.item() >= min_loss(C, scale, margin) * (1 - 1e-9)


@quick
@given(classes, st.floats(.001, .999), st.floats(0, 1.5))
def test_the_bound_is_where_the_probability_is_reached(C, share, margin):
    prob = 1 / C + share * (1 - 1 / C)
    reach = lambda s: 1 / (1 + (C - 1) * math.exp(-s * (math.cos(margin) + 1 / (C - 1)))) - prob
    root = brentq(reach, 0, 1e4, xtol=1e-12)
    assert scale_bound(C, prob, margin) == pytest.approx(root, rel=1e-6, abs=1e-9)


@quick
@given(seeds, st.sampled_from([ArcFace, CosFace, AdaFace]), st.booleans())
def test_sampling_all_classes_is_not_sampling(seed, kind, unbiased):
    emb, y, C, d = batch(seed)
    full, part = (kind(d, C, **own).to(emb.dtype) for own in
                  ({}, dict(sample_rate=1 - 1e-9, unbiased=unbiased)))   # rounds up to all
    a, b = full(emb, y), part(emb, y)
    assert torch.equal(a.logits, b.logits) and torch.allclose(a.loss, b.loss, rtol=1e-12)
    a.loss.backward(); b.loss.backward()
    close(part.weight.grad, full.weight.grad, 10)


@quick
@given(seeds, st.floats(.01, 1), st.integers(0, 9))
def test_samples_hold_the_batch_and_repeat(seed, rate, step):
    _, y, C, _ = batch(seed)
    draws = [sample_classes(y, C, rate, np.random.default_rng([seed, step])) for _ in range(2)]
    (some, counts), own = draws[0], np.unique(y)
    assert torch.equal(some, draws[1][0]) and (np.diff(some) > 0).all() and np.isin(own, some).all()
    assert len(some) == min(C, max(math.ceil(rate * C), len(own) + 1)) and 0 <= some[0] and some[-1] < C
    assert counts.sum().item() == pytest.approx(C, rel=1e-5) and (counts[np.isin(some, own)] == 1).all()


@quick
@given(seeds, st.sampled_from(["center", "batchnorm"]), st.floats(-1e3, 1e3))
def test_a_common_shift_goes_in_the_neck(seed, kind, shift):
    emb, y, C, d = batch(seed, n=2 * 20)
    near, far = (Neck(d, kind).double() for _ in range(2))
    for mode in (True, False):
        close(far.train(mode)(emb + shift), near.train(mode)(emb), 8)


@pytest.mark.parametrize("kind, rate", [(kind, rate) for kind in HEADS for rate in (1., .3)
                                        if rate == 1 or kind is not AdaCos])   # which does not sample
def test_one_seed_one_training_to_the_last_bit(kind, rate):
    emb, y, C, d = batch(3, n=16, C=30, dtype=torch.float32)
    weights = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed); np.random.seed(global_seed)
        head = kind(d, C, sample_rate=rate, seed=4, neck="center", warmup=.5)
        walk = torch.optim.SGD([head.weight], .1)
        for step in range(6):
            head.progress = step / 6
            walk.zero_grad(); head(emb + step, y).loss.backward(); walk.step()
        weights.append(head.weight.detach())
    assert torch.equal(*weights)
