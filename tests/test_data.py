"""Real data that do not travel with the project; a skip names what is missing."""
import pytest

from mlfixes.data import LETTER, load


def test_letter_as_published():
    if not LETTER.local(): pytest.skip("needs letter/letter-recognition.data in the folder that MLFIXES_DATA names")
    data = load("letter")
    assert data.X.shape == (20_000, 16) and data.X.min() == 0 and data.X.max() == 15
    assert data.classes[data.y[0]] == "T" and data.X[0].tolist() == [2, 8, 3, 5, 1, 8, 13, 0, 6, 6, 10, 8, 0, 8, 0, 8]
    assert [int((data.y == c).sum()) for c in (0, 25)] == [789, 734]      # letters A and Z, as in UCI's description
