"""What every test shares: a quiet backend that compiles fast, and no state carried from one test to the next."""

import gc
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of scikit-learn: a process runs on each core
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
if os.environ["KERAS_BACKEND"] == "jax":
    os.environ.setdefault(  # the networks of the tests are tiny: compiling them is what takes time
        "XLA_FLAGS",
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_multi_thread_eigen=false",
    )

import keras
import pytest

import recipes.tuning  # noqa: F401, with keras-tuner and what else tests import, to be there before the freeze

gc.set_threshold(20_000, 20, 50)

pytest.register_assert_rewrite("tests.harness")  # so that a failing check shows the values it compared


# Files, functions and single tests whose code leaves the backend alone, or that others cover on JAX in the main.
THOROUGH_ON_JAX = {
    *("test_alexnet", "test_bert", "test_clip", "test_convnext", "test_efficientnet", "test_explain"),
    *("test_image_folder", "test_lr_finder", "test_lstm", "test_resnet", "test_resolution"),
    *("test_training_recipes", "test_tuning", "test_vit"),
    *("test_applications_with_and_without_a_head", "test_captions_get_their_pictures"),
    *("test_fine_tunes_an_uncompiled_application", "test_regression_and_datasets"),
    *("test_recipe[efficientnet-check_learns]", "test_recipe[alexnet_2012-check_learns]"),
    *("test_generative[stylegan_vectors-check_learns]", "test_generative[stylegan_vectors-check_samples]"),
    *("test_chunks_change_nothing", "test_beams_find_a_likelier_text", "test_what_is_due_when"),
    *("test_recipe[bert_masked-check_learns]", "test_recipe[clip-check_learns]", "test_recipe[convnext-check_learns]"),
    "test_recipe[efficientnet-check_gpu]",
}


def pytest_configure(config):
    """Leave the graphs of tiny networks as they are, which saves a tenth of the time; `make test-all` rewrites them."""
    if keras.backend.backend() == "tensorflow" and "not thorough" in config.option.markexpr:
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    if os.environ["KERAS_BACKEND"] == "jax":
        for item in items:
            if {item.path.stem, item.originalname, item.name} & THOROUGH_ON_JAX:
                item.add_marker(pytest.mark.thorough)


@pytest.fixture(autouse=True, scope="module")
def little_to_collect():
    """The collector, which keras-tuner calls in every trial, need not look through libraries and old models each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh_keras():
    keras.utils.clear_session(free_memory=False)  # collecting garbage takes longer than most tests
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
