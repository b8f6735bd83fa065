"""The doctor on arrays that no threshold was tuned on: `python tools/doctor_trial.py [--record FOLDER]`.

Every check has a healthy situation and a fault of its own here, drawn anew for each seed: sizes over some
decades, columns that are correlated, tails and ties, half precision, models fitted in closed form. They were
written from the question that a check asks, not from its code. Whole runs, simulated and on real tables, hand
`examine` all that a user would have; arms are those of the families' studies, on seeds that no study used.
healthy.csv: how often a check fails, or refuses its inputs, where nothing is wrong; `upper` is the end of the
95 % Clopper-Pearson interval. faults.csv: how often it finds its fault; a check that promises no more than a
warning is held to that. runs.csv: runs in which nothing is wrong and any check fails. arms.csv: what fails on
broken and corrected arms. looks.csv: every time that records were written; once thresholds have changed after a
look, `--first` starts at seeds that nobody has seen."""
import argparse, csv, datetime, os, statistics, subprocess, sys, time, zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")   # a worker a core

import numpy as np
from scipy.cluster.vq import kmeans2, vq
from scipy.signal import lfilter
from scipy.special import softmax

from doctor_real import REAL
from mlfixes.doctor.checkup import InputError, examine
from mlfixes.doctor.findings import Diagnosis, load_checks
from mlfixes.doctor.trial import bound

ROOT = Path(__file__).resolve().parent.parent
SPARE = 3       # situations drawn for one that a check applies to, at most
RUNS = 60       # healthy runs of each kind
ARM_SEED = 5000  # the first seed of arms


# ---- registry -------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Fault:
    "A way to break what a check looks at."
    make: Callable     # of a generator: the inputs
    what: str          # is wrong, a short phrase
    promised: str      # status at which the check has found it


HEALTHY: dict[str, Callable] = {}
FAULTS: dict[str, Fault] = {}
BUNDLES: dict[str, Callable] = dict(REAL)


def healthy(code: str):
    "Registers what draws a healthy situation for a check."
    return lambda make: HEALTHY.setdefault(code, make)


def faulty(code: str, what: str, promised: str = "fail"):
    "Registers what draws a situation that a check has to find."
    return lambda make: FAULTS.setdefault(code, Fault(make, what, promised)).make


def bundle(make):
    "Registers what draws a healthy run."
    return BUNDLES.setdefault(make.__name__, make)


def generator(name: str, kind: str, i: int) -> np.random.Generator:
    "The generator of situation `i` of a check or bundle."
    return np.random.default_rng([zlib.crc32(name.encode()), zlib.crc32(kind.encode()), i])


# ---- what all are made of -------------------------------------------------------------------------------

def whole(rng, low: int, high: int) -> int:
    "A number from `low` to `high`, every decade as likely."
    return min(high, int(np.exp(rng.uniform(np.log(low), np.log(high + 1)))))


def pick(rng, *options): return options[rng.integers(len(options))]


def noise(rng, *shape, kind: str = "") -> np.ndarray:
    "Numbers of mean 0 and variance 1, of a law that is drawn unless told."
    kind = kind or pick(rng, "normal", "t5", "laplace", "skewed", "uniform")
    if kind == "t5": return rng.standard_t(5, shape) / np.sqrt(5 / 3)
    if kind == "laplace": return rng.laplace(size=shape) / np.sqrt(2)
    if kind == "skewed": return rng.gamma(4, .5, shape) - 2
    if kind == "uniform": return rng.uniform(-np.sqrt(3), np.sqrt(3), shape)
    return rng.normal(size=shape)


def columns(rng, d: int, kind: str = "") -> Callable:
    "Draws rows whose columns are correlated, of mean 0 and variance 1."
    kind = kind or pick(rng, "normal", "t5", "laplace", "skewed", "uniform")
    rank, common = whole(rng, 1, max(1, d // 3)), rng.uniform(0, .7, d)
    mix = rng.normal(size=(rank, d))
    mix /= np.linalg.norm(mix, axis=0)
    return lambda n: (np.sqrt(common) * (rng.normal(size=(n, rank)) @ mix)
                      + np.sqrt(1 - common) * noise(rng, n, d, kind=kind))


def kept(rng, array, half: bool = True) -> np.ndarray:
    "The array in one of the precisions that people save."
    return array.astype(pick(rng, np.float64, np.float32, np.float32, *[np.float16] * half))


def shares(rng, C: int) -> np.ndarray:
    "Sizes of classes, from nearly equal to a few times apart."
    q = rng.dirichlet(np.full(C, pick(rng, 3., 10., 1e4))) + .2 / C
    return q / q.sum()


def members(rng, n: int, C: int, q=None) -> np.ndarray:
    "Classes of `n` rows; every class is there if rows suffice."
    drawn = rng.choice(C, n, p=shares(rng, C) if q is None else q)
    if n >= 3 * C: drawn[:C] = np.arange(C)
    return rng.permutation(drawn)


def lasting(rng, T: int, keep: float) -> np.ndarray:
    "Jitter of variance 1 of which the share `keep` lasts to the next step."
    return lfilter([np.sqrt(1 - keep ** 2)], [1, -keep], rng.normal(size=T))


def curve(rng, start: float, end: float, T: int, jitter: float = .02) -> np.ndarray:
    "A loss on its way from `start` to `end`: a plateau at first, then quick or slow or in steps."
    t = np.clip((np.arange(T) / T - rng.uniform(0, .15)) / .85, 0, None)
    fall = pick(rng, lambda: np.exp(-rng.uniform(5, 20) * t), lambda: 1 / (1 + rng.uniform(30, 100) * t),
                lambda: np.exp(-8 * t) * np.where(t > .5, .3, 1))()
    return end + (start - end) * fall + jitter * abs(start - end) * lasting(rng, T, rng.uniform(0, .8))


def units(rows): return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def lda(train, labels, C: int) -> Callable:
    "Scores by linear discriminants that were fitted to the rows."
    means = np.array([train[labels == c].mean(0) if (labels == c).any() else train.mean(0) for c in range(C)])
    residuals = train - means[labels]
    within = residuals.T @ residuals / max(1, len(train) - C) + .1 * np.eye(train.shape[1])
    weight = np.linalg.solve(within, means.T)
    prior = np.log((np.bincount(labels, minlength=C) + 1) / (len(labels) + C))
    return lambda rows: rows @ weight - .5 * (means.T * weight).sum(0) + prior


def classifier(rng, n: int = 0, C: int = 0, d: int = 0, most: int = 4000, apart: float = 0.) -> SimpleNamespace:
    "Rows of classes, linear discriminants and class means that were fitted to others, and what they say."
    C, d = C or whole(rng, 2, 120), d or whole(rng, 8, 96)
    n, q = n or whole(rng, 30, most), shares(rng, C)
    apart = (apart or rng.uniform(1.5, 3)) * np.sqrt(1 + 2 * np.log(C))
    centres, draw = rng.normal(size=(C, d)) * apart / np.sqrt(2 * d), columns(rng, d)
    train_labels, labels = members(rng, 15 * C + whole(rng, 50, 500), C, q), members(rng, n, C, q)
    train, rows = centres[train_labels] + draw(len(train_labels)), centres[labels] + draw(n)
    score, offset = lda(train, train_labels, C), train.mean(0)
    head = units(np.array([train[train_labels == c].mean(0) for c in range(C)]) - offset)
    return SimpleNamespace(n=n, C=C, d=d, labels=labels, train_labels=train_labels, x=rows, train_x=train,
                           logits=score(rows), embeddings=rows - offset, head=head,
                           scale=rng.uniform(1, 4) * np.log(20 * C), cosines=units(rows - offset) @ head.T)


def scores_of(rng, c) -> dict:
    "Logits of either head, or probabilities, in a precision."
    logits = pick(rng, c.logits, c.scale * c.cosines)
    if rng.random() < .3: return {"probs": kept(rng, softmax(logits, 1), half=False)}
    return {"logits": kept(rng, logits)}


def accuracies(logits, labels, *ks) -> dict[int, float]:
    "k -> top-k accuracy, as a log would have it."
    order = np.argsort(-np.asarray(logits, float), 1, kind="stable")
    return {k: round(float((order[:, :k] == labels[:, None]).any(1).mean()), 4) for k in ks}


# ---- classifiers ----------------------------------------------------------------------------------------

@healthy("CLS01")
def known_classes(rng):
    c = classifier(rng)
    return scores_of(rng, c) | {"labels": c.labels}

@faulty("CLS01", "one class takes most of the samples")
def one_class(rng):
    c = classifier(rng, n=whole(rng, 100, 2000), C=whole(rng, 3, 60))
    one = rng.integers(c.C)
    c.logits[:, one] += np.quantile(c.logits.max(1) - c.logits[:, one], rng.uniform(.75, 1))
    return {"logits": c.logits, "labels": c.labels}

@healthy("CLS02")
def guesses_or_knows(rng):
    c = classifier(rng, apart=pick(rng, .01, .5, 2.))
    logits = c.logits.astype(np.float32)
    told = {"reported": accuracies(logits, c.labels, 1, min(5, c.C))} if rng.random() < .5 else {}
    return {"logits": logits, "labels": c.labels} | told

@faulty("CLS02", "the margin is still on while accuracy is measured")
def scored_with_margin(rng):
    c = classifier(rng, n=whole(rng, 400, 3000), C=whole(rng, 2, 30))
    logits = c.scale * c.cosines
    logits[np.arange(c.n), c.labels] -= c.scale * rng.uniform(1, 1.5)
    return {"logits": logits, "labels": c.labels}

@healthy("CLS03")
def sure_of_something(rng): return scores_of(rng, classifier(rng))

@faulty("CLS03", "the same scores for every sample, up to rounding")
def only_a_bias(rng):
    C, n = whole(rng, 2, 200), whole(rng, 50, 3000)
    bias, rounding = rng.normal(size=C) * pick(rng, .01, 1., 5.), rng.uniform(0, 2e-8) * rng.normal(size=(n, C))
    return {"logits": kept(rng, bias + rounding), "labels": members(rng, n, C)}

@healthy("EMB01")
def spread_embeddings(rng):
    c = classifier(rng, d=whole(rng, 4, 128))
    emb = pick(rng, c.embeddings, units(c.embeddings), np.maximum(c.embeddings + rng.uniform(0, .5), 0) + 1e-6)
    told = pick(rng, {}, {"labels": c.labels}, {"labels": c.labels, "n_classes": c.C},
                {"other_embeddings": emb + .3 * rng.normal(size=emb.shape)})
    return {"embeddings": kept(rng, emb)} | told

@faulty("EMB01", "one direction in all embeddings, mean cosine .99 to .9995")
def one_direction(rng):
    c, rho = classifier(rng, n=whole(rng, 60, 3000)), 1 - 10 ** rng.uniform(-3.3, -2)
    common = units(rng.normal(size=(1, c.d)))
    emb = np.sqrt(rho) * common + np.sqrt(1 - rho) * units(c.embeddings)
    return {"embeddings": emb.astype(np.float32)} | ({"labels": c.labels} if rng.random() < .5 else {})

@healthy("HEAD01")
def wide_scale(rng):
    C = whole(rng, 2, 100_000)
    scale = rng.uniform(1.2, 4) * np.log(99 * C) * pick(rng, 1, 1, 2)
    config = {"n_classes": C, "scale": scale, "margin": 0.} | pick(rng, {}, {"temperature": 1.})
    if rng.random() < .4: config |= {"scale": 64., "margin": pick(rng, .2, .35, .5)}
    return {"config": pick(rng, dict, lambda kw: SimpleNamespace(**kw))(config)}

@faulty("HEAD01", "scale over temperature below .7 of ln C")
def narrow_scale(rng):
    C, temperature = whole(rng, 20, 100_000), pick(rng, 1., 2., 4.)
    return {"config": {"n_classes": C, "scale": rng.uniform(.2, .7) * np.log(C) * temperature, "margin": .1,
                       "temperature": temperature}}

def margined(c, m: float) -> np.ndarray:
    "Logits with the angle to the own class widened."
    cosines, own = c.cosines.copy(), (np.arange(c.n), c.labels)
    cosines[own] = np.cos(np.minimum(np.arccos(np.clip(cosines[own], -1, 1)) + m, np.pi))
    return (c.scale * cosines).astype(np.float32)

@healthy("HEAD02")
def clean_metric(rng):
    c = classifier(rng)
    logits, two = (c.scale * c.cosines).astype(np.float32), {"labels": c.labels}
    if rng.random() < .5: return two | {"logits": kept(rng, logits), "embeddings": c.embeddings, "head": c.head}
    return two | {"logits": logits, "margin_logits": margined(c, rng.uniform(.2, .6)),
                  "reported": accuracies(logits, c.labels, 1, min(5, c.C))}

@faulty("HEAD02", "accuracy is that of logits with a margin of .5")
def margin_metric(rng):
    c = classifier(rng, n=whole(rng, 150, 3000), C=whole(rng, 6, 120), apart=rng.uniform(.8, 1.8))
    two, wrong = {"labels": c.labels}, margined(c, .5)
    if rng.random() < .5: return two | {"logits": wrong, "embeddings": c.embeddings, "head": c.head}
    return two | {"logits": (c.scale * c.cosines).astype(np.float32), "margin_logits": wrong,
                  "reported": accuracies(wrong, c.labels, 1, 5)}

@healthy("HEAD03")
def precise_enough(rng):
    c = classifier(rng)
    return {"embeddings": c.embeddings.astype(np.float32), "head": c.head * rng.uniform(.2, 3),
            "dtype": pick(rng, "bfloat16", "float16")}

@faulty("HEAD03", "cosines within .001 of each other in bfloat16")
def lost_in_rounding(rng):
    c, rho = classifier(rng, n=whole(rng, 100, 2000), C=whole(rng, 10, 120)), 1 - 10 ** rng.uniform(-4, -3)
    common = units(rng.normal(size=(1, c.d)))
    emb, head = (np.sqrt(rho) * common + np.sqrt(1 - rho) * units(rows) for rows in (c.embeddings, c.head))
    return {"embeddings": emb.astype(np.float32), "head": head.astype(np.float32), "dtype": "bfloat16"}

def network(rng, normalised: bool = False):
    "A small network of torch and the head behind it."
    import torch
    torch.manual_seed(int(rng.integers(2 ** 31)))
    d, C = whole(rng, 4, 32), whole(rng, 2, 40)
    norm = [torch.nn.BatchNorm1d(d)] * normalised
    body = torch.nn.Sequential(torch.nn.Linear(8, d), *norm, torch.nn.ReLU(), torch.nn.Linear(d, d))
    return torch.nn.ModuleDict({"body": body, "head": torch.nn.Linear(d, C)})

def optimizer_of(rng, *groups):
    "One of torch's optimisers."
    import torch
    rate = 10 ** rng.uniform(-5, -1)
    return pick(rng, torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)(
        [{"params": list(group), "lr": rate * pick(rng, 1, .1)} for group in groups], lr=rate)

@healthy("HEAD04")
def all_move(rng):
    net = network(rng, bool(rng.integers(2)))
    body, head = net["body"].parameters(), net["head"].parameters()
    if rng.random() < .3: return {"model": net, "optimizer": [optimizer_of(rng, body), optimizer_of(rng, head)]}
    told = pick(rng, {"model": net}, {"head": net["head"]}, {"model": net, "head": net["head"]})
    return told | {"optimizer": pick(rng, optimizer_of(rng, net.parameters()), optimizer_of(rng, body, head))}

@faulty("HEAD04", "the head came after the optimiser, is frozen, or has a rate of 0")
def head_left_out(rng):
    net, way = network(rng), rng.integers(3)
    parts = [net["body"].parameters(), *[net["head"].parameters()] * int(way > 0)]
    optimizer = optimizer_of(rng, *parts)
    if way == 1: net["head"].requires_grad_(False)
    if way == 2: optimizer.param_groups[1]["lr"] = 0.
    return {"model": net, "head": net["head"], "optimizer": optimizer}

def cosine_loss(rng, C: int, d: int, scale: float, margin: float, own: float = 0.) -> float:
    "Mean loss of a batch whose cosines are those of chance, but for `own` at the true class."
    cosines = np.clip(rng.normal(size=(128, C)) / np.sqrt(d), -1, 1)
    cosines[:, 0] = np.cos(np.arccos(np.clip(cosines[:, 0] + own, -1, 1)) + margin)
    logits = scale * cosines
    return float((np.logaddexp.reduce(logits, 1) - logits[:, 0]).mean())

@healthy("HEAD05")
def learned_head(rng):
    c = classifier(rng, C=whole(rng, 5, 100))
    if rng.random() < .4: return {"head": c.head, "embeddings": c.embeddings, "labels": c.labels}
    before = c.head + .05 * rng.normal(size=c.head.shape)
    if rng.random() < .5: return {"head": c.head, "head_before": before}
    config = {"n_classes": c.C, "scale": pick(rng, 16., 32., 64.), "margin": pick(rng, 0., .3, .5)}
    first = cosine_loss(rng, c.C, 128, config["scale"], config["margin"])
    blind = np.logaddexp(0, np.log(c.C - 1) + config["scale"] * np.sin(config["margin"]))   # all cosines 0
    return {"losses": curve(rng, first, rng.uniform(.02, .4) * blind, whole(rng, 50, 800), .01), "config": config}

@faulty("HEAD05", "a head that is random still, or a loss that stays where it began")
def random_head(rng):
    c = classifier(rng, C=whole(rng, 5, 100))
    head = units(rng.normal(size=c.head.shape))
    if rng.random() < .5: return {"head": head, "embeddings": c.embeddings, "labels": c.labels}
    config = {"n_classes": c.C, "scale": pick(rng, 16., 32.), "margin": pick(rng, 0., .3)}
    return {"losses": [cosine_loss(rng, c.C, 128, **{k: config[k] for k in ("scale", "margin")})
                       for _ in range(whole(rng, 50, 200))], "config": config}

@healthy("DATA01")
def same_numbering(rng):
    c = classifier(rng)
    told = pick(rng, scores_of(rng, c), scores_of(rng, c) | {"train_labels": c.train_labels},
                {"n_classes": c.C, "train_labels": c.train_labels})
    return told | {"labels": pick(rng, c.labels, c.labels.astype(np.int32), c.labels.tolist())}

@faulty("DATA01", "labels shifted by one, renumbered, or of other identities")
def other_numbering(rng):
    c, way = classifier(rng, n=whole(rng, 150, 3000), C=whole(rng, 3, 80)), rng.integers(3)
    if way == 0: return {"logits": c.logits, "labels": (c.labels + 1) % c.C}
    if way == 1: return {"logits": c.logits, "labels": rng.permutation(c.C)[c.labels]}
    return {"labels": c.labels + c.C, "train_labels": c.train_labels, "n_classes": 2 * c.C}


# ---- clusterers -----------------------------------------------------------------------------------------

def clustering(rng, C: int = 0, n: int = 0, H: int = 0, right: float = 0., shared: bool = False, q=None):
    "Clusters of items, and those of heads that are right on a share of them and name clusters as they like."
    C, H = C or whole(rng, 2, 60), H or int(rng.integers(1, 7))
    n, right = n or whole(rng, 10 * C, max(3000, 25 * C)), right or rng.uniform(.5, .97)
    truth = members(rng, n, C, q)
    wrong = rng.random((H, n)) > right
    ids = np.where(wrong, rng.choice(truth, (H, n)), truth)
    if not shared: ids = np.array([rng.permutation(C)[row] for row in ids])
    return SimpleNamespace(C=C, n=n, H=H, truth=truth, ids=ids)

def soft(rng, ids, C: int) -> np.ndarray:
    "Probabilities whose largest is that of the cluster."
    logits = rng.normal(size=(*ids.shape, C)) * .7
    np.put_along_axis(logits, ids[..., None], logits.max(-1, keepdims=True) + rng.uniform(.5, 6), -1)
    return softmax(logits, -1).astype(np.float32)

def placed(rng, truth, C: int, apart: float = 0., least: int = 8) -> np.ndarray:
    "Embeddings of items in clusters, in `least` to 64 dimensions."
    d = whole(rng, least, 64)
    centres = rng.normal(size=(C, d)) * (apart or rng.uniform(2, 4)) * np.sqrt((1 + np.log(C)) / d)
    return (centres[truth] + columns(rng, d)(len(truth)) + rng.normal(size=d)).astype(np.float32)

def trained(rng, emb, c) -> np.ndarray:
    "What a head says that has seen a part of the items; wrong where clusters meet, as heads are."
    some = rng.random(c.n) < rng.uniform(.3, 1)
    some[np.unique(c.truth, return_index=True)[1]] = True
    return lda(emb[some], c.truth[some], c.C)(emb).argmax(1)

def as_given(rng, c) -> dict:
    "A clustering as probabilities or ids, of all heads or of one."
    ids = c.ids if c.H > 1 else c.ids[0]
    return {"cluster_probs": soft(rng, ids, c.C)} if rng.random() < .5 else {"clusters": ids, "n_clusters": c.C}

@healthy("CLU01")
def used_clusters(rng):
    c = clustering(rng)
    if rng.random() < .7: return as_given(rng, c)
    q = 1 / np.arange(1, c.C + 1) ** rng.uniform(.3, 1.2)     # sizes that the user expects, and nearly gets
    got = rng.dirichlet(300 * q / q.sum()) + .1 * q / q.sum()
    return {"clusters": members(rng, c.n, c.C, got / got.sum()), "n_clusters": c.C, "cluster_shares": q / q.sum()}

@faulty("CLU01", "a fifth to two fifths of the clusters hold all items but stragglers")
def collapsed_clusters(rng):
    c = clustering(rng, C=whole(rng, 8, 60))
    few = rng.choice(c.C, max(1, int(c.C * rng.uniform(.2, .4))), replace=False)
    return as_given(rng, SimpleNamespace(**vars(c) | {"ids": few[c.ids % len(few)]}))

def to_uniform(p):
    "A regulariser that a user may write: distance of the mean prediction from equal shares."
    return ((p.mean(0) - 1 / p.shape[1]) ** 2).sum()

def negentropy(p): return (p.mean(0) * p.mean(0).clamp_min(1e-12).log()).sum()

@healthy("CLU02")
def fair_regulariser(rng):
    C, T = whole(rng, 3, 200), whole(rng, 10, 300)
    asked = {"n_clusters": C, "regulariser_weight": pick(rng, .1, 1., 5.)}
    if rng.random() < .5: return asked | {"regulariser": pick(rng, "marginal", to_uniform, negentropy)}
    start, weight = pick(rng, 0., -.8, 1.) * np.log(C), rng.uniform(.1, 2)
    fall, rise = rng.uniform(.3, 1) * np.log(C), rng.uniform(.02, .3) * np.log(C)
    return {"loss_terms": {"objective": curve(rng, start, start - fall, T),
                           "balance": weight * curve(rng, rise - np.log(C), -np.log(C), T)}}

@faulty("CLU02", "the regulariser has the wrong sign, or moves thirty times as far as the objective")
def bad_regulariser(rng):
    C, T = whole(rng, 3, 200), whole(rng, 20, 300)
    wrong = pick(rng, lambda p: -negentropy(p), lambda p: -to_uniform(p))
    if rng.random() < .5: return {"regulariser": wrong, "n_clusters": C}
    move = rng.uniform(.02, .1) * np.log(C)
    return {"loss_terms": {"objective": curve(rng, 0., -move, T), "balance": 30 * curve(rng, 0., -move, T)}}

@healthy("CLU03")
def common_names(rng):
    shared = rng.random() < .6
    c = clustering(rng, H=int(rng.integers(2, 7)), shared=shared)
    return as_given(rng, c) | ({"answer": "raw vote"} if shared else {"answer": pick(rng, "aligned", "lowest loss")})

@faulty("CLU03", "heads agree, each with names of its own, and vote by name")
def own_names(rng):
    c = clustering(rng, C=whole(rng, 5, 60), H=int(rng.integers(2, 7)), right=rng.uniform(.75, .95))
    return as_given(rng, c) | {"answer": "raw vote"}

@healthy("CLU04")
def near_together(rng):
    c = clustering(rng, C=whole(rng, 2, 30))
    emb = placed(rng, c.truth, c.C)
    def means(): return kmeans2(emb, c.C, minit="++", rng=rng)[1]
    c.ids = np.array([pick(rng, means, lambda: rng.permutation(c.C)[trained(rng, emb, c)])() for _ in range(c.H)])
    return as_given(rng, c) | {"embeddings": emb}

@faulty("CLU04", "heads with random weights in 32 dimensions or more, or items in another order")
def learned_nothing(rng):
    c = clustering(rng, C=whole(rng, 3, 30), n=whole(rng, 200, 2000))
    another = rng.random() < .5
    emb = placed(rng, c.truth, c.C, least=8 if another else 32)
    if another: return {"embeddings": emb, "clusters": rng.permutation(c.truth), "n_clusters": c.C}
    ids = (units(emb - emb.mean(0)) @ rng.normal(size=(emb.shape[1], c.C))).argmax(1)
    return {"embeddings": emb, "clusters": ids, "n_clusters": c.C}

@healthy("CLU05")
def as_good_as_kmeans(rng):
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture
    c = clustering(rng, C=whole(rng, 7, 20), n=whole(rng, 80, 1200), H=1)
    emb, seed = placed(rng, c.truth, c.C, rng.uniform(1.2, 3)), int(rng.integers(1000))
    fits = (lambda: KMeans(c.C, n_init=10, random_state=seed).fit_predict(emb),
            lambda: GaussianMixture(c.C, covariance_type="spherical", n_init=3, random_state=seed).fit_predict(emb),
            lambda: np.where(rng.random(c.n) < .02, rng.permutation(c.truth), rng.permutation(c.C)[c.truth]))
    return {"embeddings": emb, "clusters": pick(rng, *fits)(), "n_clusters": c.C, "labels": c.truth}

@faulty("CLU05", "right on a fifth of items whose classes k-means finds")
def behind_kmeans(rng):
    c = clustering(rng, C=whole(rng, 8, 20), n=whole(rng, 200, 1500), H=1, right=rng.uniform(.1, .3))
    return {"embeddings": placed(rng, c.truth, c.C, 4.), "clusters": c.ids[0], "n_clusters": c.C, "labels": c.truth}

@healthy("LOSS01")
def falling_loss(rng):
    C, T = whole(rng, 2, 1000), whole(rng, 10, 600)
    if rng.random() < .7:
        labels = members(rng, 20 * C, C)
        told = pick(rng, {"n_classes": C}, {"train_labels": labels}, {"labels": labels})
        return {"losses": abs(curve(rng, np.log(C), rng.uniform(.02, .5) * np.log(C), T))} | told
    return {"losses": curve(rng, -.8 * np.log(C), -rng.uniform(.88, .99) * np.log(C), T), "n_clusters": C,
            "cluster_probs": soft(rng, members(rng, 500, C)[None], C)}

@faulty("LOSS01", "stuck at ln C, or at what the shares of the classes give")
def stuck_loss(rng):
    C, T = whole(rng, 2, 500), whole(rng, 20, 500)
    labels = members(rng, 200 * C, C)
    q = np.bincount(labels, minlength=C) / len(labels)
    at = pick(rng, np.log(C), -(q * np.log(q)).sum())
    told = {"n_classes": C, "train_labels": labels} if at < np.log(C) else {"n_classes": C}
    return {"losses": at * (1 + rng.uniform(5e-4, 5e-3) * lasting(rng, T, .3))} | told

@healthy("LOSS02")
def rate_that_counts(rng):
    T, top = whole(rng, 10, 500), 10 ** rng.uniform(-5, -1)
    t = np.arange(T)
    rates = top * pick(rng, np.ones(T), (1 + np.cos(np.pi * t / T)) / 2, np.minimum(1, (t + 1) / max(1, T // 10)),
                       .1 ** (t // (T // 3 + 1)))
    c = clustering(rng, H=1, n=whole(rng, 300, 2000))
    moved = np.array([np.where(rng.random(c.n) < right, c.ids[0], rng.permutation(c.ids[0]))
                      for right in np.linspace(rng.uniform(0, .7), .95, 6)])
    losses = {"losses": curve(rng, np.log(c.C), .3 * np.log(c.C), T)}
    return {"lr": rates} | pick(rng, {}, losses, {"cluster_history": moved, "n_clusters": c.C} | losses)

@faulty("LOSS02", "a rate of 0 in most epochs, clusters that stay where they were, or a loss that grows and grows")
def still(rng):
    T, c = whole(rng, 10, 300), clustering(rng, C=whole(rng, 2, 20), H=1, n=whole(rng, 800, 3000))
    way = rng.integers(3)
    if way == 0:
        rise = np.log(c.C) * rng.uniform(5, 500) ** np.linspace(0, 1, T)
        return {"losses": rise * (1 + .05 * rng.normal(size=T)), "loss_fn": "cross_entropy", "n_classes": c.C}
    if way == 1: return {"lr": np.where(np.arange(T) < T * rng.uniform(.6, 1), 0., 1e-3)}
    history = np.repeat(c.ids, 6, 0)
    some = rng.random(c.n) < .1 / c.C
    history[3:, some] = rng.integers(c.C, size=some.sum())
    return {"cluster_history": history, "n_clusters": c.C}

def by_batch(rng, law: Callable) -> dict:
    "Losses, or norms of gradients, at some sizes of a batch."
    sizes, spread = 2 ** rng.choice(np.arange(3, 11), int(rng.integers(2, 5)), replace=False), rng.uniform(.05, .3)
    return {int(B): law(B) * rng.lognormal(0, spread, int(rng.integers(4, 30))) for B in sizes}

@healthy("LOSS03")
def mean_loss(rng):
    signal = 10 ** rng.uniform(-3, 0)
    if rng.random() < .5:
        return {"batch_losses": by_batch(rng, pick(rng, lambda B: 2.3, lambda B: np.sqrt(signal + 1 / B)))}
    weights = rng.gamma(rng.uniform(1, 5), size=(whole(rng, 2, 50), whole(rng, 8, 512)))
    if rng.random() < .5: return {"pair_weights": weights / weights.mean()}
    return {"pair_weights": weights / weights.sum(1, keepdims=True), "reduction": "sum"}

@faulty("LOSS03", "weights that sum to 1 are averaged once more")
def twice_mean(rng):
    if rng.random() < .5: return {"batch_losses": by_batch(rng, lambda B: 2.3 / B)}
    weights = rng.gamma(2, size=(whole(rng, 2, 50), whole(rng, 8, 512)))
    return {"pair_weights": weights / weights.sum(1, keepdims=True), "reduction": "mean"}

@healthy("PAIR01")
def partners(rng):
    n, m = whole(rng, 50, 3000), whole(rng, 50, 5000)
    first = rng.integers(n, size=m)
    other = pick(rng, (first + rng.integers(1, n, size=m)) % n, rng.integers(n, size=m))
    a, b = (columns(rng, 8)(n) for _ in range(2))
    views = (a[first] + .2 * rng.normal(size=(m, 8)), a[first] + .2 * b[first])
    return pick(rng, {"pairs": np.stack([first, other], 1)}, {"views": views}, {"pairs": (first, other)})

@faulty("PAIR01", "four pairs of five, or all, are an item and itself")
def itself(rng):
    n, m = whole(rng, 50, 3000), whole(rng, 50, 5000)
    first, x = rng.integers(n, size=m), rng.normal(size=(n, 8)).astype(np.float32)
    other = np.where(rng.random(m) < rng.uniform(.8, 1), first, rng.integers(n, size=m))
    return pick(rng, {"pairs": np.stack([first, other], 1)}, {"views": (x[first], x[other])})


# ---- compressors and tables -----------------------------------------------------------------------------

def quantised(rng, n: int, S: int = 0) -> SimpleNamespace:
    "New rows, and the codes that books fitted to other rows give them, book after book on what is left."
    w, S, K = whole(rng, 1, 8), S or int(rng.integers(1, 4)), whole(rng, 4, 64)
    draw, centres = columns(rng, w), rng.normal(size=(whole(rng, 1, 12), w)) * rng.uniform(0, 2)
    train, rows = (draw(m) + centres[rng.integers(len(centres), size=m)] for m in (40 * K, n))
    books, codes, latents = [], [], []
    for _ in range(S):
        book = kmeans2(train, K, iter=15, minit="++", rng=rng)[0]
        code = vq(rows, book)[0]
        books.append(book); codes.append(code); latents.append(rows)
        train, rows = train - book[vq(train, book)[0]], rows - book[code]
    return SimpleNamespace(K=K, S=S, codes=np.stack(codes, 1), books=books, latents=latents)

@healthy("VQ01")
def live_codes(rng):
    q = quantised(rng, whole(rng, 30, 4000))
    if q.S == 1 and rng.random() < .5: return {"codes": q.codes[:, 0], "codebook_sizes": q.K}
    return {"codes": q.codes} | pick(rng, {"codebook_sizes": [q.K] * q.S}, {"codebook": q.books})

@faulty("VQ01", "one code in twenty to one in five is used")
def dead_codes(rng):
    K = whole(rng, 32, 1024)
    live = rng.choice(K, max(1, int(K * rng.uniform(.05, .2))), replace=False)
    codes = rng.choice(live, whole(rng, 5 * K, 20 * K), p=rng.dirichlet(np.ones(len(live))))
    return {"codes": codes, "codebook_sizes": K}

def used(rng, n: int, K: int, live: int) -> np.ndarray:
    "Codes of `n` rows, of so many that are in use."
    return rng.choice(K, live, replace=False)[members(rng, n, live)]

@healthy("VQ02")
def no_fewer_codes(rng):
    K, n = whole(rng, 16, 512), whole(rng, 500, 8000)
    live = int(K * rng.uniform(.3, .9))
    more, other = min(K, int(live * rng.uniform(1, 1.5))), pick(rng, K, K, 2 * K)
    return {"codes": used(rng, n, K, more)[:, None], "codebook_sizes": [K],
            "other_codes": used(rng, n, other, live)[:, None], "other_codebook_sizes": [other]}

@faulty("VQ02", "a book of a third of the size, two fifths of the live codes and a larger share")
def smaller_book(rng):
    K, n = whole(rng, 200, 1000), whole(rng, 4000, 10_000)
    live = int(.3 * K)
    return {"codes": used(rng, n, K // 3, int(.4 * live))[:, None], "codebook_sizes": [K // 3],
            "other_codes": used(rng, n, K, live)[:, None], "other_codebook_sizes": [K]}

@healthy("VQ03")
def codes_in_reach(rng):
    q = quantised(rng, whole(rng, 100, 4000))
    if q.S > 1: return {"codebook": q.books, "latents": q.latents}
    return {"codebook": q.books[0], "latents": q.latents[0]}

@faulty("VQ03", "three codes of four were divided by counts near 0")
def codes_far_out(rng):
    q = quantised(rng, whole(rng, 1000, 4000), S=1)
    book = q.books[0].copy()
    far = rng.permutation(len(book)) < .75 * len(book)
    book[far] = units(rng.normal(size=book[far].shape)) * (abs(q.latents[0]).max() + 1) * rng.uniform(10, 100)
    return {"codebook": book, "latents": q.latents[0]}

def table(rng, n: int, kind: str = "") -> SimpleNamespace:
    "A table in categories, in standard units and on scales decades apart, and what a few components leave of it."
    G = int(rng.integers(4, 12))
    sizes = rng.integers(2, 7, G)
    groups = np.repeat(np.arange(G), sizes)
    d, draw = len(groups), columns(rng, len(groups), kind)
    train, rows, scale = draw(max(200, 6 * d)), draw(n), 10 ** rng.uniform(-2, 3, G)[groups]
    basis = np.linalg.svd(train, full_matrices=False)[2][:max(2, int(d * rng.uniform(.4, .8)))]
    back = .1 * rows + .9 * (rows @ basis.T @ basis)           # every column keeps something
    where = {f"g{g}": np.flatnonzero(groups == g) for g in range(G)}
    return SimpleNamespace(d=d, groups=pick(rng, where, groups), where=where, scale=scale, train=train, rows=rows,
                           back=back, names=[f"c{j}" for j in range(d)], offset=scale * rng.normal(size=d))

@healthy("REC01")
def errors_in_proportion(rng):
    t = table(rng, whole(rng, 30, 3000))
    return {"x": t.offset + t.scale * t.rows, "x_hat": t.offset + t.scale * t.back, "groups": t.groups}

@faulty("REC01", "reconstructions in standard units beside raw columns")
def scale_free(rng):
    t = table(rng, whole(rng, 100, 3000))
    return {"x": 1000 * (t.offset + t.scale * t.rows), "x_hat": t.back, "groups": t.groups}

@healthy("REC02")
def scaled_columns(rng):
    d = whole(rng, 3, 60)
    x = columns(rng, d, pick(rng, "normal", "uniform", "laplace", "skewed"))(whole(rng, 100, 5000))
    if rng.random() < .4: x[:, :d // 3] = x[:, :d // 3] > rng.uniform(-.5, .5)     # yes or no
    if rng.random() < .4: x = x.round(1)
    return {pick(rng, "x", "x_scaled"): kept(rng, x / x.std(0) * rng.uniform(.8, 1.2, d))}

@faulty("REC02", "raw columns over six decades")
def raw_columns(rng):
    d = whole(rng, 6, 60)
    return {"x": columns(rng, d)(whole(rng, 200, 5000)) * 10 ** rng.permutation(np.linspace(-2, 4, d))}

@healthy("REC03")
def better_than_mean(rng):
    t = table(rng, whole(rng, 40, 4000))
    told = pick(rng, {}, {"groups": t.groups}, {"names": t.names})
    return {"x": kept(rng, t.rows, half=False), "x_hat": t.back.astype(np.float32)} | told

@faulty("REC03", "a category is reconstructed from other rows")
def other_rows(rng):
    t = table(rng, whole(rng, 200, 3000))
    which = t.where[pick(rng, *t.where)]
    t.back[:, which] = t.rows[rng.permutation(len(t.rows))][:, which]
    return {"x": t.rows, "x_hat": t.back, "groups": t.where}

@healthy("DATA03")
def same_names(rng):
    d, G = whole(rng, 8, 200), int(rng.integers(2, 10))
    groups = members(rng, d, G)
    other = np.where(rng.random(d) < .04, rng.integers(G, size=d), groups)
    def by_name(one): return {f"cluster_{g}": np.flatnonzero(one == g) for g in range(G) if (one == g).any()}
    return {"groups": by_name(groups), "other_groups": by_name(other)}

@faulty("DATA03", "clusters of columns were numbered anew")
def new_numbers(rng):
    d, G = whole(rng, 40, 200), int(rng.integers(4, 10))
    groups = members(rng, d, G)
    return {"groups": groups, "other_groups": (groups + rng.integers(1, G)) % G}

@healthy("DATA04")
def like_training(rng):
    d = whole(rng, 2, 60)
    draw, scale, offset = columns(rng, d), 10 ** rng.uniform(-2, 3, d), rng.normal(size=d) * 100
    train, x = (offset + scale * draw(whole(rng, 60, 4000)) for _ in range(2))
    if rng.random() < .4: train, x = (np.round(rows / scale, 1) for rows in (train, x))
    names = [f"c{j}" for j in range(d)]
    return pick(rng, {"x": x, "train_x": train}, {"x": x, "train_x": train, "names": names, "train_names": names},
                {"x": x, "train_mean": train.mean(0), "train_std": train.std(0)})

@faulty("DATA04", "scaled in training and raw now, or columns in another order")
def unlike_training(rng):
    d = whole(rng, 6, 60)
    draw, scale, offset = columns(rng, d), 10 ** rng.uniform(-2, 3, d), rng.normal(size=d) * 100
    train, x = draw(whole(rng, 200, 4000)), draw(whole(rng, 200, 4000))
    if rng.random() < .5: return {"x": offset + scale * x, "train_x": train}
    return {"x": (offset + scale * x)[:, np.roll(np.arange(d), 1)], "train_x": offset + scale * train}

@healthy("DATA05")
def honest_columns(rng):
    c = classifier(rng, C=whole(rng, 2, 20))
    x = pick(rng, c.x, c.x.round(0), np.c_[c.x, c.x[:, :1] > 0, rng.permutation(c.n)])
    if rng.random() < .5: return {"x": x, "labels": c.labels}
    y = x @ rng.normal(size=(x.shape[1], pick(rng, 1, 2))) + 10 ** rng.uniform(-2, .5) * rng.normal(size=(c.n, 1))
    return {"x": np.c_[x, y[:, 0] + .03 * y.std() * rng.normal(size=c.n)], "y": y}

@faulty("DATA05", "a column is the answer in other numbers or another unit")
def answer_inside(rng):
    c = classifier(rng, n=whole(rng, 100, 3000), C=whole(rng, 2, 20))
    y, place = c.x @ rng.normal(size=c.d), rng.integers(c.d)
    labels = rng.random() < .5
    c.x[:, place] = rng.permutation(c.C)[c.labels] * 2.5 if labels else pick(rng, 1.8 * y + 32, np.exp(y / y.std()))
    return {"x": c.x} | ({"labels": c.labels} if labels else {"y": y})

def settings(rng) -> dict:
    "Settings of a run."
    return {"epochs": whole(rng, 5, 300), "batch": 2 ** int(rng.integers(4, 11)), "data": pick(rng, "a", "b"),
            "n_classes": whole(rng, 2, 100), "lr": 10 ** rng.uniform(-4, -1), "margin": .3}

@healthy("CFG03")
def same_budget(rng):
    config = settings(rng)
    other = config | pick(rng, {"margin": .1}, {"lr": config["lr"] / 3}, {"neck": "center"}, {})
    return {"config": config, "other_config": pick(rng, dict, lambda kw: SimpleNamespace(**kw))(other)}

@faulty("CFG03", "5 epochs against 100, other data, or another number of classes")
def other_budget(rng):
    config = settings(rng) | {"epochs": 100}
    return {"config": config, "other_config": config | pick(
        rng, {"epochs": 5}, {"data": "other"}, {"n_classes": config["n_classes"] * 3})}


# ---- error bars -----------------------------------------------------------------------------------------

def bars(rng, m: int, p: int = 0, kind: str = "", factor: float = 1.) -> dict:
    "Truths, means and bars of rows that are hard or easy; errors `factor` times as large as bars claim."
    p = p or int(rng.integers(1, 5))
    std = 10 ** rng.uniform(-2, 2, p) * np.exp(rng.uniform(0, .8) * rng.normal(size=(m, p)))
    mean = rng.normal(size=p) * 10 + std.mean(0) * rng.uniform(1, 10) * rng.normal(size=(m, p))
    return {"y": mean + factor * std * columns(rng, p, kind)(m), "mean": mean, "std": std}

def bayes(rng, m: int) -> dict:
    "A linear regression with a normal prior, its noise known: what its posterior predicts of new rows."
    d, noise_sd = whole(rng, 1, 12), 10 ** rng.uniform(-1, 1)
    draw, weight = columns(rng, d), rng.normal(size=d)
    train, x = draw(30 * d + 20), draw(m)
    y, new = (rows @ weight + noise_sd * rng.normal(size=len(rows)) for rows in (train, x))
    cov = np.linalg.inv(train.T @ train / noise_sd ** 2 + np.eye(d))
    std = np.sqrt(noise_sd ** 2 + ((x @ cov) * x).sum(1))
    return {"y": new, "mean": x @ (cov @ train.T @ y) / noise_sd ** 2, "std": std}

@healthy("UNC01")
def right_bars(rng):
    m = whole(rng, 20, 5000)
    return bayes(rng, m) if rng.random() < .3 else bars(rng, m)

@faulty("UNC01", "bars half as long as errors, or twice")
def wrong_bars(rng): return bars(rng, whole(rng, 100, 3000), factor=pick(rng, .5, 2.))

@healthy("UNC02")
def right_intervals(rng):
    m = whole(rng, 30, 3000)
    if rng.random() < .5: return pick(rng, bayes(rng, m), bars(rng, m, kind="normal"))
    p, s, kind = int(rng.integers(1, 4)), whole(rng, 40, 300), pick(rng, "normal", "t5", "skewed", "uniform")
    centre, width = 3 * rng.normal(size=(m, 1, p)), np.exp(rng.normal(size=(m, 1, p)) / 2)
    draws = centre + width * noise(rng, m, s + 1, p, kind=kind)
    return {"y": draws[:, 0], "samples": kept(rng, draws[:, 1:], half=False)}

@faulty("UNC02", "posteriors half as wide as they should be")
def narrow_intervals(rng):
    m, p = whole(rng, 100, 2000), int(rng.integers(1, 4))
    if rng.random() < .5: return bars(rng, m, kind="normal", factor=2.)
    return {"y": 2 * rng.normal(size=(m, p)), "samples": rng.normal(size=(m, whole(rng, 40, 300), p))}

def chains(rng, m: int, keep: float, steps: int) -> np.ndarray:
    "Chains of steps that keep a share of the step before, [m, c, steps, d], of variance 1."
    shape = (m, int(rng.integers(2, 5)), steps + 200, int(rng.integers(1, 4)))
    return lfilter([np.sqrt(1 - keep ** 2)], [1, -keep], rng.normal(size=shape), axis=2)[:, :, 200:]

def metropolis(rng, m: int, steps: int) -> np.ndarray:
    "Chains of a random walk that is accepted or not, on a normal or a heavier posterior."
    d, c, heavy = int(rng.integers(1, 3)), int(rng.integers(2, 5)), rng.random() < .3
    def log_density(x): return -3.5 * np.log1p((x ** 2).sum(-1) / 5) if heavy else -.5 * (x ** 2).sum(-1)
    now, path = rng.normal(size=(m, c, d)), []
    for _ in range(steps):
        new = now + 2.2 / np.sqrt(d) * rng.normal(size=now.shape)
        yes = np.log(rng.random((m, c))) < log_density(new) - log_density(now)
        now = np.where(yes[..., None], new, now)
        path.append(now)
    return np.stack(path[100:], 2)

@healthy("UNC03")
def arrived_chains(rng):
    m, keep = whole(rng, 1, 12), rng.uniform(0, .9)
    if rng.random() < .4: found, told = metropolis(rng, m, whole(rng, 1500, 3000)), {}
    else:
        found = chains(rng, m, keep, int(rng.uniform(100, 250) * (1 + keep) / (1 - keep)))
        told = {"acceptance": rng.uniform(.22, .48, found.shape[:2])}
    if rng.random() < .4: told |= {"prior_box": np.array([[-7.], [7.]]).repeat(found.shape[-1], 1)}
    return told | {"chains": found if m > 1 else found[0]}

@faulty("UNC03", "chains in two places, hardly moving, or cut at the peak by the prior")
def bad_chains(rng):
    m, way = whole(rng, 1, 12), rng.integers(3)
    found = chains(rng, m, .999 if way == 1 else .5, 1500)
    if way == 0: found[:, 0] += rng.uniform(2, 4)
    if way == 2: found = abs(found)
    told = {"prior_box": np.array([[0.], [8.]]).repeat(found.shape[-1], 1)} if way == 2 else {}
    return told | {"chains": found, "acceptance": rng.uniform(.22, .48, found.shape[:2])}

@healthy("UNC04")
def even_bars(rng):
    m = whole(rng, 60, 5000)
    return bayes(rng, m) if rng.random() < .2 else bars(rng, m, factor=pick(rng, 1., 1., .8, 1.2))

@faulty("UNC04", "the shortest bars three times too short, the longest three times too long")
def uneven_bars(rng):
    given = bars(rng, m := whole(rng, 300, 3000), p=1, kind="normal")
    rank = given["std"].argsort(0).argsort(0) / (m - 1)
    return given | {"std": given["std"] * 3 ** (2 * rank - 1)}

@healthy("UNC05")
def numbers(rng):
    values = -.5 * rng.chisquare(4, size=(whole(rng, 1, 200), whole(rng, 2, 50)))
    return {"log_prob": np.where(rng.random(values.shape) < pick(rng, 0., .3, .9), -np.inf, values)}

@faulty("UNC05", "NaN in more than half of the places")
def not_numbers(rng):
    values = -.5 * rng.chisquare(4, size=whole(rng, 20, 2000))
    return {"log_prob": np.where(rng.random(values.shape) < rng.uniform(.65, .95), np.nan, values)}

@healthy("FIT01")
def still_well(rng):
    T, start = whole(rng, 30, 300), rng.uniform(1, 5)
    end, shape = rng.uniform(.3, .6) * start, (whole(rng, 4, 64), whole(rng, 4, 40))
    losses = {"losses": curve(rng, start, .9 * end, T, .01), "validation_losses": curve(rng, start, end, T)}
    maps = rng.normal(size=shape)
    fed = {f"{one}_epoch": maps + rng.uniform(.1, 1) * rng.normal(size=shape) for one in ("first", "second")}
    return pick(rng, losses, fed, losses | fed)

@faulty("FIT01", "the same noise every epoch, and validation loses most of what it had won")
def learned_by_heart(rng):
    T, maps = whole(rng, 40, 300), rng.normal(size=(whole(rng, 8, 64), 20))
    best, end = int(T * rng.uniform(.2, .5)), rng.uniform(.7, .95)
    validation = np.r_[np.linspace(1, .3, best), np.linspace(.3, .3 + .7 * end, T - best)]
    return {"losses": np.linspace(1, .01, T) ** 2, "validation_losses": validation + .01 * rng.normal(size=T),
            "first_epoch": maps, "second_epoch": maps[:, ::-1] if rng.random() < .5 else maps.copy()}

def rows_of(rng) -> Callable:
    "Draws rows of a table or images, as they come: measured, rounded, counted, or of a few classes."
    d = whole(rng, 2, 40)
    draw, mean = columns(rng, d), rng.uniform(.5, 5, d)
    blobs = rng.gamma(.5, size=(6, 9, 9)) * (rng.random((6, 9, 9)) < .5)
    return pick(rng, draw, lambda n: draw(n).round(1), lambda n: rng.poisson(mean, (n, d)), lambda n: draw(n) > 0,
                lambda n: (blobs[rng.integers(6, size=n)] * rng.gamma(4, .25, (n, 9, 9)) * 20).round())

@healthy("DATA02")
def kept_apart(rng):
    draw = rows_of(rng)
    return {"train_x": kept(rng, draw(whole(rng, 20, 2000)), half=False), "x": draw(whole(rng, 20, 1000)) * 1.}

@faulty("DATA02", "seven rows of ten, or more, were trained on")
def trained_on(rng):
    draw = columns(rng, whole(rng, 6, 40))
    train, x = draw(whole(rng, 100, 2000)), draw(whole(rng, 40, 400))
    some = rng.random(len(x)) < rng.uniform(.7, 1)
    x[some] = train[rng.integers(len(train), size=some.sum())]
    return {"train_x": train, "x": x.astype(pick(rng, np.float32, np.float64))}

@healthy("CFG01")
def same_treatment(rng):
    batch, rows = 2 ** int(rng.integers(2, 10)), whole(rng, 100, 100_000)
    config = {"batch": batch, "lr": 10 ** rng.uniform(-4, -1), "rows": rows + (rows % batch == 1),
              "epochs": whole(rng, 2, 200)}
    ratio = 2 ** int(rng.integers(0, 4))
    other = config | {"batch": batch * ratio, "lr": config["lr"] * ratio ** pick(rng, .5, 1.)}
    return pick(rng, {"config": config}, {"config": config, "other_config": other})

@faulty("CFG01", "a last batch of one row in a network that normalises by batch")
def last_batch(rng):
    batch = 2 ** int(rng.integers(2, 9))
    config = {"batch": batch, "lr": 1e-3, "rows": batch * whole(rng, 3, 300) + 1, "epochs": 10, "batch_norm": True}
    return {"config": config, "model": network(rng, normalised=True)}

@healthy("CFG02")
def single_precision(rng):
    import torch
    net = network(rng)
    return {"model": net} | pick(rng, {}, {"x": torch.zeros(4, 8)})

@faulty("CFG02", "all parameters in double precision", promised="warn")
def double_precision(rng): return {"model": network(rng).double()}


# ---- selections -----------------------------------------------------------------------------------------

def pool(rng, low: int = 200, high: int = 3000, C: int = 0, apart: float = 0.) -> SimpleNamespace:
    "A pool, what a model that was fitted to other rows says of it, and how hard its points are."
    c = classifier(rng, n=whole(rng, low, high), C=C or whole(rng, 2, 20), d=whole(rng, 4, 48), apart=apart)
    c.probs = softmax(c.logits, 1)
    c.k = max(12, int(c.n * rng.uniform(.05, .4)))
    c.hard = 1 - c.probs[np.arange(c.n), c.labels] + 1e-3 * rng.random(c.n)
    return c

def drawn(rng, c, k: int = 0) -> np.ndarray:
    "A random subset."
    return rng.choice(c.n, k or c.k, replace=False)

def stratified(rng, labels, k: int) -> np.ndarray:
    "A random subset with the shares of the pool."
    order = np.lexsort((rng.random(len(labels)), labels))
    return order[np.unique(np.linspace(0, len(labels) - 1, k).round().astype(int))]

def spread(rng, rows, k: int) -> np.ndarray:
    "A subset drawn point by point, far ones likelier (the start of k-means++)."
    chosen = [int(rng.integers(len(rows)))]
    nearest = np.full(len(rows), np.inf)
    for _ in range(k - 1):
        nearest = np.minimum(nearest, ((rows - rows[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(rng.choice(len(rows), p=nearest / nearest.sum())))
    return np.array(chosen)

@healthy("SEL01")
def fresh_reference(rng):
    c, T = pool(rng), whole(rng, 2, 30)
    draw = pick(rng, lambda: drawn(rng, c), lambda: stratified(rng, c.labels, c.k))
    return {"random_subsets": np.array([draw() for _ in range(T)]), "pool_labels": c.labels}

@faulty("SEL01", "one random subset for ten epochs and more")
def fixed_reference(rng):
    c, T = pool(rng), whole(rng, 10, 60)
    once = {"random_subsets": drawn(rng, c), "epochs": T}
    return {"pool_labels": c.labels} | pick(rng, once, {"random_subsets": np.repeat(drawn(rng, c)[None], T, 0)})

@healthy("SEL02")
def covering(rng):
    c = pool(rng)
    subset = pick(rng, lambda: drawn(rng, c), lambda: stratified(rng, c.labels, c.k),
                  lambda: spread(rng, c.x, min(c.k, 200)))()
    return {"subset": subset, "pool": kept(rng, c.x, half=False), "pool_labels": c.labels}

@faulty("SEL02", "points of a quarter of the classes, where classes are well apart")
def crowded(rng):
    c = pool(rng, low=400, C=whole(rng, 4, 20), apart=rng.uniform(3, 5))
    some = rng.permutation(np.flatnonzero(c.labels < c.C // 4))
    return {"subset": some[:c.n // 10], "pool": c.x, "pool_labels": c.labels}

@healthy("SEL03")
def shares_kept(rng):
    c = pool(rng)
    subset = pick(rng, drawn(rng, c), stratified(rng, c.labels, c.k))
    if rng.random() < .7: return {"subset": subset, "pool_labels": c.labels}
    each = max(2, np.bincount(c.labels)[np.bincount(c.labels) > 0].min() // 2)
    equal = [rng.choice(np.flatnonzero(c.labels == k), each, replace=False) for k in np.unique(c.labels)]
    return {"subset": np.concatenate(equal), "pool_labels": c.labels, "class_balance": "equal"}

@faulty("SEL03", "nearly all points of one half of the classes")
def some_classes(rng):
    c = pool(rng, low=600)
    weight = np.where(c.labels >= (c.C + 1) // 2, .03, 1.)
    return {"subset": rng.choice(c.n, c.n // 10, replace=False, p=weight / weight.sum()), "pool_labels": c.labels}

def harder(rng, c) -> np.ndarray:
    "A subset drawn at random, hard points likelier."
    return rng.choice(c.n, c.k, replace=False, p=(c.hard + .2) / (c.hard + .2).sum())

def preferring(rng, score, k: int, T: int, mix: float = .2) -> np.ndarray:
    "Subsets of the highest, a part of them at random, [T, k]."
    best = np.argsort(-score)
    def once():
        some = int(mix * k)
        return np.r_[best[:k - some], rng.choice(best[k - some:], some, replace=False)]
    return np.array([once() for _ in range(T)])

@healthy("SEL04")
def informed(rng):
    c = pool(rng)
    history = preferring(rng, c.hard, c.k, whole(rng, 2, 15), rng.uniform(0, .5))
    return {"subset": history, "pool_labels": c.labels} | pick(
        rng, {}, {"importance": c.hard}, {"pool": c.x}, {"pool_probs": c.probs})

@faulty("SEL04", "random subsets that are told to be by importance", promised="warn")
def random_all_along(rng):
    c = pool(rng)
    history = np.array([drawn(rng, c) for _ in range(whole(rng, 2, 15))])
    return {"subset": history, "pool_labels": c.labels, "importance": c.hard}

def mislabelled(rng, share: float) -> SimpleNamespace:
    "A pool some of whose labels are wrong."
    c = pool(rng)
    c.clean = rng.random(c.n) > share
    c.labels = np.where(c.clean, c.labels, (c.labels + rng.integers(1, c.C, c.n)) % c.C)
    c.hard = 1 - c.probs[np.arange(c.n), c.labels]
    return c

@healthy("SEL05")
def mostly_right(rng):
    c = mislabelled(rng, rng.uniform(.02, .3))
    subset = pick(rng, drawn(rng, c), np.argsort(c.hard)[:c.k], stratified(rng, c.labels, c.k))
    return {"subset": subset, "pool_labels": c.labels} | pick(rng, {"clean": c.clean}, {"pool_probs": c.probs})

@faulty("SEL05", "the hardest points, where one to three labels of ten are wrong")
def hunting_errors(rng):
    c = mislabelled(rng, rng.uniform(.1, .3))
    return {"subset": np.argsort(-c.hard)[:max(c.k // 2, 30)], "pool_labels": c.labels, "clean": c.clean}

@healthy("SEL06")
def fair_gradient(rng):
    c = pool(rng)
    given = {"pool_probs": c.probs, "pool_labels": c.labels} | pick(rng, {}, {"pool": c.x})
    if rng.random() < .6: return given | {"subset": pick(rng, drawn(rng, c), stratified(rng, c.labels, c.k))}
    weight = .3 + c.hard
    subset = rng.choice(c.n, c.k, replace=False, p=weight / weight.sum())
    return given | {"subset": subset, "subset_weights": 1 / weight[subset]}

@faulty("SEL06", "the hardest points of one class, early in training")
def one_sided(rng):
    c = pool(rng, low=400)
    one = np.flatnonzero(c.labels == rng.integers(c.C))
    return {"subset": one[np.argsort(-c.hard[one])][:max(15, len(one) // 3)], "pool_labels": c.labels,
            "pool_probs": softmax(rng.uniform(.02, .1) * c.logits, 1), "pool": c.x}

@healthy("SEL07")
def even_weights(rng):
    k = whole(rng, 10, 3000)
    return {"subset_weights": pick(rng, np.ones(k), rng.gamma(rng.uniform(3, 20), size=k), 1 + rng.poisson(4, k),
                                   rng.uniform(.5, 2, k))}

@faulty("SEL07", "a few points carry most of the weight")
def heavy_few(rng): return {"subset_weights": rng.lognormal(0, rng.uniform(1.8, 3), whole(rng, 60, 3000))}

@healthy("SEL08")
def renewed(rng):
    c, T = pool(rng), whole(rng, 4, 30)
    history = pick(rng, lambda: [drawn(rng, c) for _ in range(T)], lambda: preferring(rng, c.hard, c.k, T, .9),
                   lambda: [harder(rng, c) for _ in range(T)])()
    if rng.random() < .5: return {"subset": np.array(history), "pool_labels": c.labels}
    return {"picked": np.bincount(np.ravel(history), minlength=c.n), "subset_size": c.k, "pool_labels": c.labels}

@faulty("SEL08", "chosen once and kept, or every time the same but for a twentieth")
def stale(rng):
    c, T = pool(rng), whole(rng, 20, 80)
    once = {"subset": drawn(rng, c, c.n // 10), "epochs": T}
    return {"pool_labels": c.labels} | pick(rng, once, {"subset": preferring(rng, c.hard, c.n // 10, T, .05)})

@healthy("SEL09")
def no_worse(rng):
    sd, level = rng.uniform(.002, .03), rng.uniform(.5, .95)
    ahead = pick(rng, 0., 0., 1., 3.) * sd
    kind = pick(rng, "normal", "skewed", "uniform")
    subset, random = (level + sd * noise(rng, whole(rng, 5, 40), kind=kind) for _ in range(2))
    return {"subset_scores": np.round(subset + ahead, 4), "random_scores": np.round(random, 4)}

@faulty("SEL09", "worse than random by three to six deviations")
def behind_random(rng):
    sd = rng.uniform(.002, .03)
    return {"subset_scores": .8 - rng.uniform(3, 6) * sd + sd * rng.normal(size=whole(rng, 5, 20)),
            "random_scores": .8 + sd * rng.normal(size=whole(rng, 10, 40))}

@healthy("NUM01")
def finite(rng): return classifier_run(rng)

@faulty("NUM01", "a few NaN or infinities in one array")
def not_finite(rng):
    logits = rng.normal(size=(whole(rng, 20, 2000), 10)).astype(np.float32)
    given = {"logits": logits, "losses": np.linspace(2, 1, 50)}
    name = pick(rng, *given)
    given[name].reshape(-1)[rng.integers(given[name].size, size=3)] = pick(rng, np.nan, np.inf)
    return given


# ---- whole runs -----------------------------------------------------------------------------------------

def training_log(rng, C: int) -> dict:
    "What a log keeps of a training that went well."
    T, top = whole(rng, 30, 400), 10 ** rng.uniform(-4, -1)
    end = rng.uniform(.1, .4) * np.log(C)
    return {"lr": top * (1 + np.cos(np.pi * np.arange(T) / T)) / 2,
            "losses": abs(curve(rng, np.log(C), .9 * end, T, .01)),
            "validation_losses": abs(curve(rng, np.log(C), end, T))}

@bundle
def classifier_run(rng):
    "A classifier by cosines: all that its training leaves."
    c = classifier(rng, n=whole(rng, 60, 3000), C=whole(rng, 5, 100))
    logits = (c.scale * c.cosines).astype(np.float32)
    config = {"n_classes": c.C, "scale": c.scale * 1.5, "margin": 0., "batch": 64, "lr": .01, "epochs": 20,
              "rows": len(c.train_labels) + (len(c.train_labels) % 64 == 1)}
    return training_log(rng, c.C) | dict(
        logits=logits, labels=c.labels, train_labels=c.train_labels, embeddings=c.embeddings.astype(np.float32),
        head=c.head.astype(np.float32), head_before=units(rng.normal(size=c.head.shape)), n_classes=c.C,
        reported=accuracies(logits, c.labels, 1, 5), dtype=pick(rng, "float32", "bfloat16"), config=config,
        other_config=config | {"margin": .3}, x=c.x, train_x=c.train_x)

@bundle
def clusterer_run(rng):
    "A clusterer with heads that share names: embeddings, pairs, history and known classes."
    c = clustering(rng, C=whole(rng, 3, 20), n=whole(rng, 300, 2000))
    emb, T = placed(rng, c.truth, c.C), whole(rng, 25, 200)
    c.ids = np.array([trained(rng, emb, c) for _ in range(c.H)])
    first = rng.integers(c.n, size=500)
    top = np.log(c.C)
    history = np.array([np.where(rng.random(c.n) < right, c.ids[0], rng.permutation(c.ids[0]))
                        for right in np.linspace(.3, .97, 8)])
    return dict(embeddings=emb, cluster_probs=soft(rng, c.ids, c.C), n_clusters=c.C, labels=c.truth, loss_fn="temi",
                losses=curve(rng, -.8 * top, -.93 * top, T), lr=1e-3 * np.minimum(1, np.arange(1, T + 1) / 5),
                cluster_history=history, pairs=np.stack([first, (first + rng.integers(1, c.n, 500)) % c.n], 1),
                loss_terms={"objective": curve(rng, -.8 * top, -.93 * top, T),
                            "marginal": .5 * curve(rng, -.95 * top, -top, T)}, regulariser="marginal",
                regulariser_weight=.5, pair_weights=rng.dirichlet(np.ones(64)) * 64, answer="raw vote")

@bundle
def compressor_run(rng):
    "A table, what it is trained on, what it is fed and what comes back; codes and books."
    n = whole(rng, 200, 3000)
    t, q = table(rng, n, pick(rng, "normal", "uniform", "laplace")), quantised(rng, n)
    raw, train = (t.offset + t.scale * rows for rows in (t.rows, t.train))
    config = settings(rng)
    return training_log(rng, 10) | dict(
        x=raw, x_hat=t.offset + t.scale * t.back, x_scaled=(raw - train.mean(0)) / train.std(0), train_x=train,
        names=t.names, train_names=t.names, groups=t.where, other_groups=t.where, codes=q.codes,
        codebook_sizes=[q.K] * q.S, codebook=q.books, latents=q.latents, config=config,
        other_config=config | {"lr": 1e-3})

@bundle
def regression_run(rng):
    "A regression with error bars and draws of its posteriors."
    m, p, d = whole(rng, 60, 2000), int(rng.integers(1, 4)), whole(rng, 3, 30)
    given, draw = bars(rng, m, p, "normal"), columns(rng, d, "normal")
    samples = given["mean"][:, None] + given["std"][:, None] * rng.normal(size=(m, 100, p))
    return given | training_log(rng, 20) | dict(
        samples=samples, x=draw(m), train_x=draw(whole(rng, 100, 2000)), first_epoch=rng.normal(size=(16, 20)),
        second_epoch=rng.normal(size=(16, 20)), log_prob=-rng.chisquare(3, 200), model=network(rng),
        config={"batch": 32, "rows": 640, "lr": 1e-3, "epochs": 20})

@bundle
def selection_run(rng):
    "A selector that takes hard points and others, and random subsets to compare with."
    c, T = pool(rng, low=300), whole(rng, 5, 20)
    history, random = (np.array([draw(rng, c) for _ in range(T)]) for draw in (harder, drawn))
    scores = .8 + .01 * rng.normal(size=25)
    return dict(pool=c.x, pool_labels=c.labels, pool_probs=c.probs, importance=c.hard, subset=history,
                subset_weights=1 / (.2 + c.hard[history[-1]]), random_subsets=random,
                clean=np.ones(c.n, bool), subset_scores=scores[:10] + .01, random_scores=scores[10:])

@bundle
def log_run(rng):
    "Nothing but a log."
    C = whole(rng, 2, 1000)
    return training_log(rng, C) | {"n_classes": C, "train_labels": members(rng, 10 * C, C)}


# ---- arms of the families -------------------------------------------------------------------------------

@dataclass(frozen=True)
class Family:
    "What is diagnosed of a family."
    inputs: Callable   # of a config, a seed and whether the arm is the broken one
    broken: str        # name of the arm that the document left
    corrected: str
    expected: tuple    # codes, one of which has to fail on the broken arm
    seeds: int         # as many as take ten minutes of one core
    profile: str = "quick"   # of the study whose budget is kept to


def arcface_inputs(config, seed: int, broken: bool) -> dict:
    "The document read accuracy with the margin on."
    from mlfixes.arcface.training import arrays
    given = arrays(config, seed)
    return given | {"reported": accuracies(given["margin_logits" if broken else "logits"], given["labels"], 1, 5),
                    "dtype": "bfloat16"}


def temi_inputs(config, seed: int, broken: bool) -> dict:
    from mlfixes.temi.checks import _inputs
    from mlfixes.temi.task import arrays
    return _inputs(**arrays(config, seed))


def vqvae_inputs(config, seed: int, broken: bool) -> dict:
    "The document's diagnostic was fed raw columns."
    from mlfixes.vqvae.checks import _inputs
    return _inputs("arm", config, seed, by_document=broken)


def lensing_inputs(config, seed: int, broken: bool) -> dict:
    from mlfixes.lensing.checks import _inputs
    return _inputs(config, seed)


def coreset_inputs(config, seed: int, broken: bool) -> dict:
    "Subsets epoch by epoch, and what the model said when the last was chosen."
    from mlfixes.coreset.training import _Run
    state, history = _Run(config, seed), []
    for step in range(state.steps):
        if new := step % -(-state.size // config.batch) == 0: probs = state.predict(state.X)
        state.step(step)
        if new: history.append(state.last.copy())
    return {"subset": history, "pool": state.data.X, "pool_labels": state.data.y, "pool_probs": probs}


FAMILIES = {
    "arcface": Family(arcface_inputs, "baseline", "corrected", ("CLS01", "CLS02", "CLS03", "EMB01", "HEAD02"), 20),
    "temi": Family(temi_inputs, "baseline", "corrected",
                   ("CLU03", "CLU04", "LOSS03", "PAIR01"), 20),
    "vqvae": Family(vqvae_inputs, "baseline", "corrected",
                    ("DATA04", "REC01", "REC03", "VQ01", "VQ03"), 12),
    "lensing": Family(lensing_inputs, "baseline", "corrected", ("FIT01", "UNC01", "UNC02"), 8, "standard"),
    "coreset": Family(coreset_inputs, "baseline", "corrected", ("SEL02", "SEL03", "SEL08"), 24)}


@lru_cache
def configs(family: str) -> dict:
    "Arm -> config, at the size of the family's profile."
    from mlfixes.bench import find_task
    task = find_task(family)
    return task.configs(FAMILIES[family].profile, task.arms)


def diagnosed(family: str, arm: str, seed: int) -> Diagnosis:
    "What all checks of the family say of an arm."
    one = FAMILIES[family]
    given = {"seed": seed} | one.inputs(configs(family)[arm], seed, arm == one.broken)
    return Diagnosis(tuple(check(**given) for check in registered().values() if check.family == family))


# ---- the trial ------------------------------------------------------------------------------------------

registered = lru_cache(load_checks)


def judged(kind: str, code: str, i: int):
    "The finding of a check about situation `i`, and the seconds that it took."
    make = HEALTHY[code] if kind == "healthy" else FAULTS[code].make
    inputs, one = make(generator(code, kind, i)), registered()[code]
    start = time.perf_counter()
    try: status = one(**inputs, seed=i).status
    except ValueError as error:
        status = "refused"
        print(f"{kind} situation {i} of {code}: {error}", file=sys.stderr)
    except Exception as error:
        error.add_note(f"in {kind} situation {i} of {code}")
        raise
    return status, time.perf_counter() - start


def tried(kind: str, code: str, n: int, first: int = 0) -> tuple[Counter, list[float]]:
    "How often a check gave each status, over `n` situations to which it applies or `SPARE` times as many in all."
    statuses, seconds = Counter(), []
    for i in range(first, first + SPARE * n):
        status, took = judged(kind, code, i)
        statuses[status] += 1; seconds.append(took)
        if statuses.total() - statuses["not_applicable"] == n: break
    return statuses, seconds


def healthy_row(code: str, n: int, first: int) -> dict:
    "A line of healthy.csv."
    statuses, seconds = tried("healthy", code, n, first)
    n = statuses.total() - statuses["not_applicable"]
    return {"check": code, "n": n, "fails": statuses["fail"], "refused": statuses["refused"],
            "warns": statuses["warn"], "not_applicable": statuses["not_applicable"],
            "upper": f"{bound(statuses['fail'] + statuses['refused'], n)[1]:.5f}",
            "seconds": f"{statistics.median(seconds):.4f}"}


def fault_row(code: str, n: int, first: int) -> dict:
    "A line of faults.csv."
    statuses, fault = tried("faulty", code, n, first)[0], FAULTS[code]
    n = statuses.total() - statuses["not_applicable"]
    hits = statuses["fail"] + (statuses["warn"] if fault.promised == "warn" else 0)
    low, high = bound(hits, n)
    return {"check": code, "n": n, "promised": fault.promised, "detected": statuses["fail"],
            "warned": statuses["warn"], "not_applicable": statuses["not_applicable"], "low": f"{low:.4f}",
            "high": f"{high:.4f}", "fault": fault.what}


def said_in(name: str, i: int) -> set[tuple[str, str]]:
    "Status and code of what is bad in a healthy run; 'refused' where the doctor takes its inputs for malformed."
    refused = set()
    try: found = examine(**BUNDLES[name](generator(name, "run", i)), seed=i)
    except InputError as error:
        print(f"run {i} of {name}: {error}", file=sys.stderr)
        found, refused = error.diagnosis, {("fail", "refused")}
    return refused | {(one.status, one.code) for one in found if one.bad}


def run_row(name: str, n: int, first: int) -> dict:
    "A line of runs.csv."
    said, row = [said_in(name, i) for i in range(first, first + n)], {"bundle": name, "n": n}
    for status in ("fail", "warn"):
        found = [[code for kind, code in one if kind == status] for one in said]
        codes = Counter(code for one in found for code in one)
        row |= {f"any_{status}": sum(map(bool, found)),
                f"{status}s": " ".join(f"{code}:{count}" for code, count in sorted(codes.items()))}
    return row | {"upper": f"{bound(row['any_fail'], n)[1]:.5f}"}


def arm_row(family: str, arm: str, seed: int) -> dict:
    "A line of arms.csv."
    found = diagnosed(family, arm, seed)
    by_status = {status: " ".join(sorted({one.code for one in found if one.status == status}))
                 for status in ("fail", "warn")}
    return {"family": family, "arm": arm, "seed": seed, "failed": by_status["fail"], "warned": by_status["warn"]}


# ---- records --------------------------------------------------------------------------------------------

KEYS = {"healthy": ("check",), "faults": ("check",), "runs": ("bundle",), "arms": ("family", "arm", "seed")}


def rows_in(path: Path) -> list[dict]:
    "What a table holds; nothing where there is none."
    return list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []


def write(path: Path, rows: list[dict], keys: tuple):
    "Writes rows in place of those of the same keys, sorted."
    def key(row): return tuple(str(row[name]) for name in keys)
    merged = {key(row): row for row in [*rows_in(path), *rows]}
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(merged[one] for one in sorted(merged))


def commit() -> str:
    "The commit that ran; 'not committed' where the tree has changes."
    def git(*words): return subprocess.check_output(["git", "-C", ROOT, *words], text=True).strip()
    changed = git("status", "--porcelain", "--untracked-files=no")
    return "not committed" if changed else git("rev-parse", "--short=12", "HEAD")


def note(folder: Path, first: int, what: str):
    "Adds a line to the looks."
    path = folder / "looks.csv"
    row = {"date": datetime.date.today().isoformat(), "commit": commit(), "first": first, "what": what}
    rows = [*rows_in(path), row]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(row), lineterminator="\n")
        table.writeheader(); table.writerows(rows)


def jobs_of(args) -> list[tuple[str, Callable]]:
    "Table and what makes a row of it, of all that was asked for."
    codes = args.checks.split(",") if args.checks else [] if args.arms else sorted(HEALTHY)
    jobs = [(name, partial(make, code, n, args.first)) for code in codes for name, make, n in
            (("healthy", healthy_row, args.healthy), ("faults", fault_row, args.faulty)) if n]
    if not args.checks and not args.arms:
        jobs += [("runs", partial(run_row, name, args.runs, args.first)) for name in BUNDLES if args.runs]
    for family, one in FAMILIES.items() if args.arms else ():
        if args.families and family not in args.families.split(","): continue
        jobs += [("arms", partial(arm_row, family, arm, ARM_SEED + args.first + i))
                 for i in range(args.seeds or one.seeds) for arm in (one.broken, one.corrected)]
    return jobs


def options(words=None):
    "What the command line says."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checks", help="codes, with commas; all unless told")
    parser.add_argument("--healthy", type=int, default=1000, help="situations a check")
    parser.add_argument("--faulty", type=int, default=60, help="faults a check")
    parser.add_argument("--runs", type=int, default=RUNS, help="healthy runs of each kind")
    parser.add_argument("--arms", action="store_true", help="arms of the studies, and nothing else")
    parser.add_argument("--families", help="of the arms, with commas; all unless told")
    parser.add_argument("--seeds", type=int, help="of each arm; as many as take ten minutes unless told")
    parser.add_argument("--first", type=int, default=0, help="where seeds start")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--record", type=Path, help="folder for the tables")
    return parser.parse_args(words)


def said(args) -> str:
    "What a call was for."
    if args.arms: return f"arms of {args.families or 'all families'}"
    return f"{args.checks or 'all checks'}: {args.healthy} healthy, {args.faulty} faulty situations, {args.runs} runs"


def main():
    "Runs what was asked for, prints its rows and records them."
    args, found = options(), {}
    with ProcessPoolExecutor(args.jobs) as workers:
        waiting = [(name, workers.submit(job)) for name, job in jobs_of(args)]
        for name, one in waiting:
            if one.exception(): workers.shutdown(cancel_futures=True)
            found.setdefault(name, []).append(one.result())
            print(name, *one.result().values(), sep="  ", flush=True)
    if args.record is None: return
    args.record.mkdir(parents=True, exist_ok=True)
    for name, rows in found.items(): write(args.record / f"{name}.csv", rows, KEYS[name])
    note(args.record, args.first, said(args))


if __name__ == "__main__": main()
