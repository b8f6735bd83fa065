"""What every check does with inputs that are not what they should be, and that it leaves them as they were."""
import copy

import numpy as np
import pytest

import doctor_trial as trial
from mlfixes.doctor.findings import load_checks

CHECKS = load_checks()


def situation(code):
    "Healthy inputs of a check, in which it has something to say."
    drawn = (trial.HEALTHY[code](trial.generator(code, "healthy", 4000 + i)) for i in range(60))
    return next(given for given in drawn if CHECKS[code](**given).status != "not_applicable")


def broken(value):
    "Ways to spoil an array: what is wrong, and the array."
    if not isinstance(value, np.ndarray) or not value.size: return
    yield "no rows", value[:0]
    yield "a row short", value[:-1]
    yield "words", np.full(value.shape, "word")
    yield "one axis more", np.stack([value, value], -1)
    yield "a number", value.flat[0]
    if value.dtype.kind == "f":
        yield "NaN", np.where(np.arange(value.size).reshape(value.shape) % 2, value, np.nan)
        yield "infinite", np.where(np.arange(value.size).reshape(value.shape) % 2, value, np.inf)
    else: yield "negative", -2 - value.astype(np.int64)


@pytest.mark.parametrize("code", sorted(CHECKS))
def test_malformed_inputs_are_named(code):
    given, check = situation(code), CHECKS[code]
    for name, value in given.items():
        for wrong, bad in broken(value):
            try: finding = check(**given | {name: bad})
            except ValueError as error:
                assert any(other in str(error) for other in given), f"{name} with {wrong}: {error}"
            except Exception as error: pytest.fail(f"{name} with {wrong}: {type(error).__name__}: {error}")
            else: assert finding.code == code


@pytest.mark.parametrize("code", sorted(CHECKS))
def test_inputs_stay_as_they_were(code):
    given = {name: value for name, value in situation(code).items() if isinstance(value, np.ndarray)}
    before = copy.deepcopy(given)
    for value in given.values(): value.setflags(write=False)
    try: CHECKS[code](**given)
    except TypeError: return   # needs what is no array
    for name in given: np.testing.assert_array_equal(given[name], before[name])
