"""Healthy runs on real tables: what a competent user would hand to the doctor, with nothing wrong in it.

Tables come with scikit-learn; rows are drawn and split at random, models are fitted to some and judged on
others, in settings that a practitioner would take. A function of `REAL` makes inputs of `examine`."""
import copy, os, warnings
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")   # a worker a core

import numpy as np, pandas as pd, torch
from sklearn import (cluster, datasets, ensemble, exceptions, gaussian_process, linear_model, mixture,
                     naive_bayes, neighbors, neural_network, svm, tree)
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from mlfixes.coreset.selection import facility_location, k_center

CLASSES = ("digits", "wine", "breast_cancer", "iris")

def pick(rng, *options): return options[rng.integers(len(options))]
def power(rng, low: float, high: float) -> float: return float(np.exp(rng.uniform(*np.log([low, high]))))
def seed(rng) -> int: return int(rng.integers(2**31))

def table(rng, *names, least: int = 120) -> tuple[str, pd.DataFrame, pd.Series]:
    "One of the tables, its rows and answers in random order; half the time some are left out."
    name = pick(rng, *names)
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True, as_frame=True)
    rows = rng.permutation(len(x))[:pick(rng, None, int(power(rng, least, len(x) + 1)))]
    return name, x.iloc[rows], y.iloc[rows]

def halves(rng, x, y, share: float) -> list:
    "Rows to learn from and the `share` to judge by, and the answers of both; by class where these are few."
    by = y if y.dtype.kind == "i" and (len(y) < 40 * y.nunique() or rng.random() < .6) else None
    return train_test_split(x, y, test_size=share, stratify=by, random_state=seed(rng))

def scaled(rng, name: str, train, *others) -> list:
    "Pixels from 0 to 1, or columns in deviations of the training rows."
    if name == "digits" and rng.random() < .8: return [rows / 16 for rows in (train, *others)]
    scaler = StandardScaler().set_output(transform="pandas").fit(train)
    return [scaler.transform(rows) for rows in (train, *others)]

def fitted(model, *data):
    "The model after its fit; one that stops at its last iteration is taken as it is."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        return model.fit(*data)

def handed(rng, **given) -> dict:
    "Inputs in one precision and one kind of container; numbers, words and modules stay as they are."
    kind, precision = pick(rng, "numpy", "pandas", "torch"), pick(rng, np.float32, np.float64)
    def one(value):
        if isinstance(value, list) and isinstance(value[0], np.ndarray): return [one(v) for v in value]
        if not isinstance(value, np.ndarray | pd.DataFrame | pd.Series): return value
        if np.asarray(value).dtype.kind == "f": value = value.astype(precision)
        return value if kind == "pandas" else (np.array if kind == "numpy" else torch.tensor)(np.array(value))
    return {name: one(value) for name, value in given.items()}

def classifier_of(rng):
    "A model for a table with classes, in sensible settings."
    trees, near = int(rng.integers(30, 100)), int(rng.integers(3, 12))
    return pick(
        rng, linear_model.LogisticRegression(C=power(rng, .1, 10), max_iter=300),
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage=pick(rng, "auto", .1)),
        naive_bayes.GaussianNB(var_smoothing=power(rng, 1e-3, 1e-1)),
        svm.SVC(C=power(rng, 1, 10), kernel=pick(rng, "rbf", "linear")),
        ensemble.RandomForestClassifier(trees, min_samples_leaf=pick(rng, 1, 3), random_state=seed(rng)),
        neighbors.KNeighborsClassifier(near, weights=pick(rng, "uniform", "distance")))

def both(scores) -> np.ndarray:
    "A column for each class, [n, C], also where scores are of the second of two."
    scores = scores.reshape(len(scores), -1)
    return scores if scores.shape[1] > 1 else np.hstack([-scores, scores]) / 2

def judged(rng, name, x, y) -> dict:
    "What a classifier leaves that was fitted to some of the rows."
    train, test, y_train, y_test = halves(rng, x, y, rng.uniform(.2, .5))
    train, test = scaled(rng, name, train, test)
    model = fitted(classifier_of(rng), train, y_train)
    soft = hasattr(model, "predict_proba") and (not hasattr(model, "decision_function") or rng.random() < .4)
    said = {"probs": model.predict_proba(test)} if soft else {"logits": both(model.decision_function(test))}
    return handed(rng, **said, labels=y_test, train_labels=y_train, x=test, train_x=train,
                  reported={1: round(float(model.score(test, y_test)), 4)})

def classifier(rng):
    "Linear, Bayesian, by support vectors, by trees, by neighbours."
    return judged(rng, *table(rng, *CLASSES))

def weak_classifier(rng):
    "Two to four columns of the table, no more."
    name, x, y = table(rng, *CLASSES)
    some = x.columns[x.nunique() > 15]   # no pixels near the edges
    return judged(rng, name, x[rng.choice(some, int(rng.integers(2, min(5, len(some)))), replace=False)], y)

def rare_class(rng):
    "Breast cancer with a tenth to three tenths of the malignant rows."
    x, y = datasets.load_breast_cancer(return_X_y=True, as_frame=True)
    kept = (y == 1) | (rng.random(len(y)) < rng.uniform(.1, .3))
    return judged(rng, "breast_cancer", x[kept], y[kept])

def perceptron(rng):
    "A small network of scikit-learn: losses, last hidden layer, weights of the classes."
    name, x, y = table(rng, *CLASSES)
    train, test, y_train, y_test = halves(rng, x, y, rng.uniform(.2, .5))
    train, test = scaled(rng, name, train, test)
    model = neural_network.MLPClassifier(
        pick(rng, (32,), (64,), (32, 32)), alpha=power(rng, 1e-5, 1e-1), batch_size=pick(rng, 32, 64),
        learning_rate_init=power(rng, 2e-3, 1e-2), max_iter=int(rng.integers(40, 80)), random_state=seed(rng))
    hidden, model = test.values, fitted(model, train.values, y_train)
    *layers, (weight, bias) = zip(model.coefs_, model.intercepts_)
    for w, b in layers: hidden = np.maximum(0, hidden @ w + b)
    head = {"head": weight.T} if len(bias) > 1 else {}   # one row stands for two classes
    return handed(rng, logits=both(hidden @ weight + bias),
                  labels=y_test, train_labels=y_train, x=test, train_x=train, embeddings=hidden, **head,
                  losses=np.array(model.loss_curve_), config=model.get_params(), lr=model.learning_rate_init)

def trained(net, loss_of, data, config) -> dict:
    "What training leaves that stops when validation no longer gains, and takes the best weights back."
    x, x_held, y, y_held = data
    size, losses, held, lr = config["batch_size"], [], [], []
    optimizer = torch.optim.AdamW(net.parameters(), config["lr"], weight_decay=config["weight_decay"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["epochs"])
    while len(lr) < config["epochs"] and len(lr) - np.argmin(held or [0]) <= config["patience"]:
        lr, steps = [*lr, schedule.get_last_lr()[0]], []
        for rows in torch.randperm(len(x))[:len(x) // size * size].split(size):
            optimizer.zero_grad()
            loss = loss_of(net.train(), x[rows], y[rows])
            loss.backward()
            optimizer.step()
            steps.append(loss.item())
        schedule.step()
        losses.append(float(np.mean(steps)))
        with torch.no_grad(): held.append(loss_of(net.eval(), x_held, y_held).item())
        if held[-1] == min(held): best = copy.deepcopy(net.state_dict())
    net.load_state_dict(best)
    return {"losses": losses, "validation_losses": held, "lr": lr, "optimizer": optimizer, "model": net}

def network(rng):
    "A torch network on digits, its head linear or by cosines with a margin: all that is left in memory."
    name, x, y = table(rng, "digits", least=500)
    x, x_test, y, y_test = halves(rng, x, y, rng.uniform(.2, .4))
    x, x_test = (rows.astype(np.float32) for rows in scaled(rng, name, x, x_test))
    data = [torch.tensor(np.array(part)) for part in halves(rng, x, y, .2)]
    scale, margin = pick(rng, (0., 0.), (10., 0.), (10., .1), (16., .2))   # 0: linear
    config = dict(batch_size=pick(rng, 32, 64), lr=power(rng, 1e-3, 5e-3), epochs=int(rng.integers(12, 28)),
                  weight_decay=pick(rng, 1e-4, 1e-2), patience=int(rng.integers(4, 9)), drop_last=True,
                  seed=seed(rng)) | (dict(scale=scale, margin=margin) if scale else {})
    def scores(net, x):
        return scale * F.normalize(net[0](x)) @ F.normalize(net[1].weight).T if scale else net(x)
    def loss_of(net, x, y): return F.cross_entropy(scores(net, x) - scale * margin * F.one_hot(y, 10), y)
    with torch.random.fork_rng():
        torch.manual_seed(config["seed"])
        body = nn.Linear(64, 64), *[nn.BatchNorm1d(64)] * (rng.random() < .4), nn.ReLU(), nn.Linear(64, 32)
        net = nn.Sequential(nn.Sequential(*body), nn.Linear(32, 10, bias=not scale))
        before, log = net[1].weight.detach().clone().numpy(), trained(net, loss_of, data, config)
    rows = torch.tensor(x_test.values)
    with torch.no_grad(): logits, embeddings = scores(net, rows).numpy(), net[0](rows).numpy()
    return log | handed(rng, logits=logits, embeddings=embeddings, labels=y_test, x=x_test, head=net[1],
                        train_labels=data[2].numpy(), train_x=data[0].numpy(), head_before=before,
                        config=config)

def clusterer(rng):
    "As many clusters as classes, or one more: ids, or soft assignments of a mixture."
    name, x, y = table(rng, *CLASSES)
    x = scaled(rng, name, x)[0].to_numpy()
    if x.shape[1] > 10: x = PCA(int(rng.integers(5, 13)), random_state=seed(rng)).fit_transform(x)
    C, kind = int(y.nunique() + rng.integers(2)), pick(rng, "k-means", "ward", "mixture", "mixture")
    if kind == "mixture":
        model = fitted(mixture.GaussianMixture(C, covariance_type=pick(rng, "tied", "diag"), reg_covar=1e-3,
                                               n_init=3, random_state=seed(rng)), x)
        given = {"cluster_probs": model.predict_proba(x), "losses": -np.array(model.lower_bounds_)}
    elif kind == "ward": given = {"clusters": cluster.AgglomerativeClustering(C).fit_predict(x)}
    else: given = {"clusters": cluster.KMeans(C, n_init=10, random_state=seed(rng)).fit_predict(x)}
    if rng.random() < .5: given["labels"] = y
    near = neighbors.NearestNeighbors(n_neighbors=10).fit(x)   # none is its own
    if rng.random() < .5: given["neighbors"] = near.kneighbors(return_distance=False)
    return handed(rng, embeddings=x, n_clusters=C, **given)

def compressor(rng):
    "Principal components of standardised columns, and what comes back of rows held out; raw units or scaled."
    name, x, y = table(rng, *CLASSES, "diabetes")
    train, test = halves(rng, x, y, rng.uniform(.2, .5))[:2]
    scaler = StandardScaler().set_output(transform="pandas").fit(train)
    inner, outer = scaler.transform(train), scaler.transform(test)
    model = PCA(rng.uniform(.7, .97), svd_solver="full").fit(inner)
    back, names = model.inverse_transform(model.transform(outer)), {"names": list(x), "train_names": list(x)}
    if rng.random() < .6: return handed(rng, x=outer, train_x=inner, x_hat=back, **names)
    return handed(rng, x=test, train_x=train, x_hat=scaler.inverse_transform(back), x_scaled=outer,
                  train_mean=scaler.mean_, train_std=scaler.scale_, **names)

def quantiser(rng):
    "A product quantiser: k-means in every block of columns, codes of rows held out."
    name, x, y = table(rng, *CLASSES, "diabetes")
    train, test = (rows.to_numpy() for rows in scaled(rng, name, *halves(rng, x, y, rng.uniform(.3, .5))[:2]))
    width = rng.uniform(4, 8) if name == "digits" else rng.uniform(2, 4)
    K, columns = int(min(pick(rng, 8, 16, 32), len(train) // 8)), np.arange(x.shape[1])
    blocks = np.array_split(columns, max(2, round(len(columns) / width)))
    models = [cluster.KMeans(K, n_init=2, random_state=seed(rng)).fit(train[:, block]) for block in blocks]
    latents, books = [test[:, block] for block in blocks], [model.cluster_centers_ for model in models]
    codes = np.stack([model.predict(rows) for model, rows in zip(models, latents)], 1)
    back = np.concatenate([book[ids] for book, ids in zip(books, codes.T)], 1)
    return handed(rng, codes=codes, codebook=books, latents=latents, codebook_sizes=[K] * len(blocks),
                  x=test, x_hat=back, train_x=train)

def answers(rng) -> tuple:
    "Rows to learn from, to set bars by and to judge by, standardised, and what is to be predicted of them."
    name, x, y = table(rng, "diabetes", "diabetes", "wine", "iris", least=149)
    if name != "diabetes": x, y = x.iloc[:, 1:], x.iloc[:, 0]   # alcohol, length of sepals
    x, test, y, y_test = halves(rng, x, y.astype(float), rng.uniform(.25, .4))
    x, held, y, y_held = halves(rng, x, y, rng.uniform(.4, .5))
    return *scaled(rng, name, x, held, test), *(np.array(a)[:, None] for a in (y, y_held, y_test))

def regression(rng):
    "A line, a Gaussian process, or draws by bagged trees or lines; bars as errors of rows held out say."
    x, x_held, x_test, y, y_held, y_test = answers(rng)
    kernel = gaussian_process.kernels.RBF(3., (.5, 50)) + gaussian_process.kernels.WhiteKernel(.5, (.01, 2))
    base = pick(rng, tree.DecisionTreeRegressor(min_samples_leaf=10, max_features=.5), linear_model.Ridge(1.))
    bagged = ensemble.BaggingRegressor(base, int(rng.integers(50, 120)), random_state=seed(rng))
    process = gaussian_process.GaussianProcessRegressor(kernel, normalize_y=True)
    model = fitted(pick(rng, linear_model.BayesianRidge(), process, bagged, bagged), x.values, y[:, 0])
    draws = [np.stack([one.predict(rows.values) for one in model.estimators_], 1) if model is bagged else
             np.stack(model.predict(rows.values, return_std=True), 1) for rows in (x_held, x_test)]
    if model is bagged:
        errors = y_held - draws[0].mean(1, keepdims=True)
        rest = np.sqrt(max(0, np.mean(errors ** 2) - draws[0].var(1).mean()))   # what trees do not differ by
        draws = [d + rest * rng.normal(size=d.shape) for d in draws]
    (held, bars), (mean, std) = ((d.mean(1), d.std(1, ddof=1)) if model is bagged else d.T for d in draws)
    factor = np.sqrt(np.mean(((y_held[:, 0] - held) / bars) ** 2))
    mean, given = mean[:, None], {"mean": mean[:, None], "std": factor * std[:, None]}
    wide = (mean + factor * (draws[1] - mean))[..., None]
    if model is bagged: given = pick(rng, {}, given) | {"samples": wide}
    return handed(rng, y=y_test, x=x_test, train_x=x, **given)

def selection(rng):
    "A twentieth to a quarter of the digits: at random by class, near means of clusters, or spread out."
    x, y = (part.to_numpy() for part in table(rng, "digits")[1:])
    x, k, T, given = x / 16, max(30, int(rng.uniform(.05, .25) * len(x))), int(rng.integers(3, 9)), {}
    def drawn():
        return train_test_split(np.arange(len(x)), train_size=k, stratify=y, random_state=seed(rng))[0]
    kind = pick(rng, "random", "renewed", "kmeans", "k_center", "facility_location")
    if kind == "random": subset = drawn()
    elif kind == "renewed": subset, given["epochs"] = np.stack([drawn() for _ in range(T)]), T
    elif kind == "kmeans":
        far = cluster.KMeans(k, n_init=1, max_iter=30, random_state=seed(rng)).fit_transform(x)
        subset = np.unique(far.argmin(0))   # points next to the centres
    elif kind == "k_center": subset = k_center(x, k, seed=seed(rng), y=y).order
    else:
        chosen = facility_location(x, k, y=pick(rng, None, y))
        subset, given = chosen.order, {"subset_weights": chosen.weights}
    if rng.random() < .5: given["random_subsets"] = np.stack([drawn() for _ in range(T)])
    if rng.random() < .5: given["pool_probs"] = cross_val_predict(
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage=.1), x, y, cv=4, method="predict_proba")
    return handed(rng, pool=x, pool_labels=y, subset=subset, subset_size=subset.shape[-1], **given)

REAL: dict[str, Callable] = {make.__name__: make for make in (
    classifier, weak_classifier, rare_class, perceptron, network,
    clusterer, compressor, quantiser, regression, selection)}
