"""What every test shares: a quiet backend, and no state carried from one test to the next."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest

pytest.register_assert_rewrite("tests.harness")  # so that a failing check shows the values it compared


@pytest.fixture(autouse=True)
def fresh_keras():
    keras.utils.clear_session(free_memory=False)  # collecting garbage takes longer than most tests
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
