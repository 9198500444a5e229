"""What a fit computes in, and how many batches make one update."""

import contextlib
import pathlib

import keras

import recipes
from recipes.training.recipe import check_choice, get_recipe, make_metrics

# Families that bfloat16 made slower on a CPU with AVX512-BF16: many small depthwise convolutions.
_SLOWER_ON_CPU = ("efficientnet",)


@contextlib.contextmanager
def computing_in(model, precision):
    """Let the layers of `model` compute in `precision` for a while; weights, head and loss stay float32.

    The policies are those of a model that its builder makes under `precision`, so a layer that a family keeps in float32
    stays so. Afterwards the model computes as before.

    Args:
        model: Compiled model.
        precision: `None` for no change, `"float32"`, `"mixed_bfloat16"`, or `"auto"`: `"mixed_bfloat16"` where
            `pays(model)`.

    Raises:
        ValueError: If `precision` is another word, or `model` did not come from a builder.
    """
    check_choice("precision", precision, (None, "auto", "float32", "mixed_bfloat16"))
    if precision == "auto":
        precision = "mixed_bfloat16" if "builder" in get_recipe(model) and pays(model) else None
    if precision is None or model.dtype_policy.name == precision:
        yield
        return
    recipe = get_recipe(model)
    if "builder" not in recipe:
        raise ValueError(
            "precision must be None for a model that no builder of recipes made: call "
            f"keras.config.set_dtype_policy({precision!r}) before you build it. Received: precision={precision!r}"
        )
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        twin = getattr(recipes, recipe["builder"])(**recipe["arguments"])
    finally:
        keras.config.set_dtype_policy(policy)
    pairs = list(zip(model._flatten_layers(), twin._flatten_layers(), strict=True))
    before = [layer.dtype_policy for layer, _ in pairs]
    try:
        _set([(layer, other.dtype_policy) for layer, other in pairs], model)
        yield
    finally:
        _set([(layer, policy) for (layer, _), policy in zip(pairs, before, strict=True)], model)


def pays(model):
    """Return whether bfloat16 makes the training of `model` faster here.

    GPUs have it from Ampere (compute capability 8.0), CPUs as AVX512-BF16 or AMX. On a CPU with AVX512-BF16 TensorFlow
    trained transformers 1.4 to 2 times as fast with it, a ResNet-50 1.4 times, and EfficientNetV2 slower.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            details = (tf.config.experimental.get_device_details(gpu) for gpu in gpus)
            return all(d.get("compute_capability", (0,)) >= (8, 0) for d in details)
        return get_recipe(model).get("builder") not in _SLOWER_ON_CPU and _cpu_has_bfloat16()
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return device.platform == "tpu" or float(getattr(device, "compute_capability", 0) or 0) >= 8
    return False


def set_accumulation(model, batches):
    """Let the optimizer of `model` add up the gradients of `batches` batches for one update; it keeps its state."""
    old = model.optimizer
    if old is None or (getattr(old, "gradient_accumulation_steps", None) or 1) == batches:
        return
    if isinstance(old, (keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer)):
        raise ValueError(
            f"accumulate must be 1 with {type(old).__name__}: compile its inner optimizers with "
            f"gradient_accumulation_steps= yourself. Received: accumulate={batches}"
        )
    config = {**old.get_config(), "gradient_accumulation_steps": batches if batches > 1 else None}
    new = type(old).from_config(config)
    training = get_recipe(model).get("training")
    metrics = make_metrics(training) if training and training["task"] != "generate" else _metrics_of(model)
    model.compile(
        optimizer=new,
        loss=model.loss,
        metrics=metrics,
        run_eagerly=model.run_eagerly,
        steps_per_execution=model.steps_per_execution,
        jit_compile=model.jit_compile,
    )
    if not old.built:
        return
    new.build(model.trainable_variables)
    values = {v.path: v for v in old.variables}
    for variable in new.variables:
        if variable.path in values:
            variable.assign(keras.ops.copy(values[variable.path].value))
    factor = (getattr(old, "gradient_accumulation_steps", None) or 1), batches
    updates = int(keras.ops.convert_to_numpy(old._iterations)) // factor[0]
    new._iterations.assign(updates * factor[1])  # counts batches, and the optimizer corrects its averages by updates


def _metrics_of(model):
    compiled = getattr(model, "_compile_metrics", None)
    return compiled._user_metrics if compiled is not None else None


def _set(pairs, model):
    for layer, policy in pairs:
        layer.dtype_policy = policy
    model.train_function = model.test_function = model.predict_function = None  # traced with the policies of before


def _cpu_has_bfloat16():
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
