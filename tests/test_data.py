"""Real data that do not travel with the project; a skip names what is missing."""
import numpy as np
import pytest

from mlfixes.data import CIFAR10, LETTER, load


def test_letter_as_published():
    if not LETTER.local(): pytest.skip("needs letter/letter-recognition.data in the folder that MLFIXES_DATA names")
    data = load("letter")
    assert data.X.shape == (20_000, 16) and data.X.min() == 0 and data.X.max() == 15
    assert data.classes[data.y[0]] == "T" and data.X[0].tolist() == [2, 8, 3, 5, 1, 8, 13, 0, 6, 6, 10, 8, 0, 8, 0, 8]
    assert [int((data.y == c).sum()) for c in (0, 25)] == [789, 734]      # letters A and Z, as in UCI's description


def test_cifar10_as_published():
    "Classes, and the means and spreads of the channels; the images were encoded anew, so not to the bit."
    if not CIFAR10.local(): pytest.skip("needs cifar10/train.parquet in the folder that MLFIXES_DATA names")
    pytest.importorskip("pyarrow", reason="needs pyarrow to read cifar10/train.parquet")
    data = load("cifar10")
    assert data.X.shape == (50_000, 3, 32, 32) and data.X.dtype == np.uint8 and not data.X.flags.writeable
    assert np.bincount(data.y).tolist() == [5000] * 10
    assert np.allclose(data.X.mean((0, 2, 3)) / 255, [.4914, .4822, .4465], atol=.001)
    assert np.allclose(data.X.std((0, 2, 3)) / 255, [.2470, .2435, .2616], atol=.003)
    assert [data.classes[i] for i in data.y[:4]] == ["automobile", "automobile", "frog", "airplane"]
    assert load("cifar10").X is data.X
