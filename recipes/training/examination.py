"""What `recipes.doctor` measures. Each test returns what it found, as arguments of `Finding`, and what it measured."""

import hashlib
import math

import keras
import numpy as np
from keras import ops

from recipes.callbacks import LRFinder
from recipes.data.batches import Batches
from recipes.data.splitting import LazyRows
from recipes.layers import Standardize
from recipes.training.check_targets import count_classes, loss_kind
from recipes.training.recipe import get_recipe

ROWS = 128  # looked at in a forward pass
DUPLICATES = 0.005  # share of the validation rows that may stand in the training data: chance, in tables of few values
DEAD = 0.5  # share of the units of a layer
FADED = 1e-8  # gradient of a layer in parts of the largest; layer scales of 1e-6 are meant to be
BURST = 1e3  # norm of all gradients, where nothing clips them
STEP = (1e-6, 0.3)  # first updates in parts of the weights, the median over layers; 1e-3 is usual
SCALING = (Standardize, keras.layers.Rescaling, keras.layers.Normalization, keras.layers.BatchNormalization)


def first_batches(data, n):
    """Return up to `n` batches `(x, y, sample_weight)` of numpy arrays."""
    if isinstance(data, Batches):
        found = [data.batch(data.initial_epoch, i) for i in range(min(n, len(data)))]
    elif isinstance(data, keras.utils.PyDataset):
        found = [data[i] for i in range(min(n, data.num_batches))]
    else:
        found = list(data.take(n))
    found = [batch if isinstance(batch, tuple) else (batch,) for batch in found]
    return [(*keras.tree.map_structure(np.asarray, batch), None, None)[:3] for batch in found]


def duplicates(train, held):
    """Rows that stand in both parts, and equal inputs with different labels."""
    rows, asked = _hashes(train), _hashes(held)
    found, measured = [], {}
    if rows and asked:
        known = set(rows)
        shared = sum(row in known for row in asked)
        measured["leaked"] = shared / len(asked)
        if shared > DUPLICATES * len(asked):
            found.append(
                (
                    "leakage",
                    "error" if shared > 0.1 * len(asked) else "warning",
                    f"{shared} of {len(asked)} validation rows stand in the training data too.",
                    "Validation then measures memory in part, and looks better than new data will.",
                    "Remove duplicates before the split, or split by what rows share: the person, the series, the day.",
                )
            )
    return found, measured


def _hashes(data):
    """Return a hash of the input of each row, or `[]` where the rows are not in memory."""
    if not isinstance(data, Batches):
        return []
    leaves = keras.tree.flatten(data.x)
    if any(isinstance(leaf, LazyRows) for leaf in leaves):
        return []
    leaves = [np.ascontiguousarray(leaf, "float32" if leaf.dtype.kind == "f" else None) for leaf in leaves]
    return [
        hashlib.blake2b(b"".join(leaf[i].astype("float64").tobytes() for leaf in leaves), digest_size=16).digest()
        for i in range(len(leaves[0]))
    ]


def input_range(model, batches):
    """Inputs far from mean 0 and standard deviation 1 that nothing in the model scales."""
    layers = model.layers[: 2 * len(model.inputs) + 4]
    if "builder" in get_recipe(model) or any(isinstance(layer, SCALING) for layer in layers):
        return [], {}
    largest = max(np.abs(np.asarray(leaf, "float32")).max() for leaf in keras.tree.flatten(batches[0][0]))
    ids = any(isinstance(layer, keras.layers.Embedding) for layer in layers)
    if ids or largest <= 20:
        return [], {"input": float(largest)}
    return [
        (
            "input_range",
            "warning",
            f"Inputs reach {largest:.4g}, and no layer of {model.name} scales them.",
            "Activations and gradients grow with the inputs: the first steps throw the weights away.",
            "Put keras.layers.Rescaling(1 / 127.5, -1) first for images, recipes.layers.Standardize for tables.",
        )
    ], {"input": float(largest)}


def loss_at_start(model, batches):
    """The loss before training against that of guessing: ln C with C classes."""
    guessing = _guessing(model)
    loss = getattr(model, "loss", None)
    loss = keras.losses.get(loss) if isinstance(loss, str) else loss
    if guessing is None or not callable(loss):
        return [], {}
    x, y, _ = batches[0]
    y = (x["target"] if isinstance(x, dict) else x) if y is None else y
    loss = float(np.mean(ops.convert_to_numpy(loss(ops.convert_to_tensor(y), model(_tensors(x), training=False)))))
    measured = {"loss": loss, "guessing": guessing}
    if loss <= 1.15 * guessing + 0.3:
        return [], measured
    return [
        (
            "loss_at_start",
            "warning",
            f"The loss starts at {loss:.3g}; guessing has {guessing:.3g}.",
            "The head is sure of what it does not know, and the first steps only undo that.",
            "Give the last layer small weights (keras.initializers.RandomNormal(stddev=0.01)), and look whether the inputs "
            "are scaled and the labels meant for this model.",
        )
    ], measured


def _guessing(model):
    training = get_recipe(model).get("training", {})
    if training.get("loss", "softmax") == "binary":
        return None
    if training.get("task") == "language_model":
        return math.log(model.output_shape[-1])
    if training.get("task") == "regress":
        return 1.0  # in units of the variance of the targets
    kind, classes = loss_kind(model), count_classes(model)
    return math.log(2) if kind == "binary" else math.log(classes) if classes and classes > 1 else None


def dead_units(model, batches):
    """Units after a nonlinearity that say the same for every example."""
    if not getattr(model, "inputs", None) or get_recipe(model).get("training", {}).get("task") == "generate":
        return [], {}
    layers = [layer for layer in model.layers if len(layer._inbound_nodes) == 1 and _nonlinear(layer)]
    layers = [layer for layer in layers if len(getattr(layer.output, "shape", ())) > 1]
    if not layers:
        return [], {}
    axes = [tuple(range(len(layer.output.shape) - 1)) for layer in layers]
    highs = [ops.max(layer.output, axis=axis) for layer, axis in zip(layers, axes, strict=True)]
    lows = [ops.min(layer.output, axis=axis) for layer, axis in zip(layers, axes, strict=True)]
    x = keras.tree.map_structure(lambda leaf: leaf[:ROWS], batches[0][0])
    values = keras.Model(model.inputs, [*highs, *lows])(_tensors(x), training=False)
    values = [ops.convert_to_numpy(value) for value in values]
    pairs = zip(layers, values[: len(layers)], values[len(layers) :], strict=True)
    dead = {layer.name: float(np.mean(high == low)) for layer, high, low in pairs}
    worst = {name: share for name, share in dead.items() if share > DEAD}
    if not worst:
        return [], {"dead": dead}
    name, share = next(iter(worst.items()))
    return [
        (
            "dead_units",
            "error" if share == 1 else "warning",
            f"{share:.0%} of the units of {name} say the same for every example"
            + (f", and so in {len(worst) - 1} other layers." if len(worst) > 1 else "."),
            "No gradient passes through them, so they never learn.",
            "Look at the scale of what the layer reads and at its bias; initialise with he_normal, or use gelu.",
        )
    ], {"dead": dead}


def _nonlinear(layer):
    if isinstance(layer, (keras.layers.ReLU, keras.layers.PReLU, keras.layers.LeakyReLU, keras.layers.ELU)):
        return True
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    return activation not in ("linear", "softmax") and not isinstance(layer, keras.layers.RNN)


class _Recorder(keras.optimizers.SGD):
    """Moves nothing and keeps the gradients."""

    def build(self, variables):
        super().build(variables)
        self.kept = [self.add_variable_from_reference(reference_variable=v, name="gradient") for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        self.assign(self.kept[self._get_variable_index(variable)], ops.cast(ops.convert_to_tensor(gradient), variable.dtype))


def gradients(model, batches):
    """The gradient of each matrix: none, not finite, faded on the way down, or so large that all would be clipped."""
    optimizer, loss = model.optimizer, getattr(model, "loss", None)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or hasattr(optimizer, "optimizers"):
        return [], {}
    weights = [np.array(w) for w in model.get_weights()]
    model.compile(optimizer=_Recorder(1.0, name="recorder"), loss=loss)
    value, kept = _record(model, batches[0])
    still = [i for i, gradient in enumerate(kept) if not gradient.any()]
    if still:  # maybe because of zeros that the first step moves, such as the scale at the end of a residual branch
        noise = np.random.default_rng(0)
        model.set_weights([w + 0.02 * (_rms(w) or 1.0) * noise.standard_normal(w.shape) for w in weights])
        again = _record(model, batches[0])[1]
        kept = [again[i] if i in still else gradient for i, gradient in enumerate(kept)]
    names = [v.path for v in model.trainable_variables]
    matrices = [v.shape and len(v.shape) > 1 for v in model.trainable_variables]
    model.compile(optimizer=optimizer, loss=loss)
    model.set_weights(weights)
    size = {name: _rms(g) for name, g, matrix in zip(names, kept, matrices, strict=True) if matrix}
    norm = math.sqrt(sum(float((g**2).sum()) for g in kept))
    measured = {"gradients": size, "gradient_norm": norm}
    if not math.isfinite(norm) or not math.isfinite(value):
        bad = [name for name, s in size.items() if not math.isfinite(s)] or names[-1:]
        return [
            (
                "gradients",
                "error",
                f"The gradient of {bad[-1]} is not finite.",
                "The first step would spoil the weights.",
                "Look at the scale of inputs and targets; train in float32.",
            )
        ], measured
    largest = max(size.values(), default=0.0)
    none = [name for name, s in size.items() if s == 0]
    faded = [name for name, s in size.items() if 0 < s < FADED * largest]
    found = []
    if none:
        found.append(
            (
                "no_gradient",
                "error" if len(none) == len(size) else "warning",
                f"The gradient of {none[0]} is exactly 0" + (f", and that of {len(none) - 1} others." if none[1:] else "."),
                "These weights never learn.",
                "Look for dead units, a stop_gradient, or a branch that reaches no output.",
            )
        )
    if faded:
        found.append(
            (
                "vanishing_gradients",
                "warning",
                f"The gradient of {faded[0]} is {size[faded[0]] / largest:.0e} of the largest.",
                "The layers below learn nothing while those above do.",
                "Add residual connections or normalisation, and activations that do not saturate (gelu, relu).",
            )
        )
    clipped = any(getattr(optimizer, name, None) for name in ("global_clipnorm", "clipnorm", "clipvalue"))
    own_loss = get_recipe(model).get("training", {}).get("task") == "generate"  # maybe a sum over all pixels
    if norm > BURST and not clipped and not own_loss:
        found.append(
            (
                "exploding_gradients",
                "warning",
                f"The norm of all gradients is {norm:.3g}.",
                "Steps are as wild as the batches they come from.",
                "Scale inputs and targets, clip with global_clipnorm=1.0, or add normalisation.",
            )
        )
    return found, measured


def _record(model, batch):
    """Return the loss and the gradient of every trainable weight on a batch."""
    loss = model.train_on_batch(*batch, return_dict=True)["loss"]
    return float(loss), [np.array(ops.convert_to_numpy(v), "float64") for v in model.optimizer.kept]


def updates(model, batches):
    """What the first three steps at the full rate change, in parts of the weights."""
    weights = [np.array(w) for w in model.get_weights()]
    matrices = [v for v in model.trainable_variables if len(v.shape) > 1]
    before = [np.array(ops.convert_to_numpy(v), "float64") for v in matrices]
    for i in range(3):
        model.train_on_batch(*batches[i % len(batches)])
    ratios = {
        v.path: _rms(ops.convert_to_numpy(v) - old) / (3 * _rms(old))
        for v, old in zip(matrices, before, strict=True)
        if old.any()
    }
    model.set_weights(weights)
    if not ratios:
        return [], {}
    median = float(np.median(list(ratios.values())))
    measured = {"updates": ratios, "update": median}
    if STEP[0] <= median <= STEP[1]:
        return [], measured
    low = median < STEP[0]
    return [
        (
            "learning_rate",
            "warning" if low else "error",
            f"A step changes the weights by {median:.1e} of their size, and about 1e-3 is usual.",
            "They stand still." if low else "Each step throws away what the weights were, the initialisation first.",
            f"Build or compile the model with a {'larger' if low else 'smaller'} learning_rate.",
        )
    ], measured


def rates(model, batches):
    """The rate where the loss falls fastest, and the one where it diverges."""
    optimizer = model.optimizer
    if hasattr(getattr(optimizer, "inner_optimizer", optimizer), "optimizers"):
        return [], {}
    if not isinstance(optimizer.learning_rate, keras.Variable):
        return [], {}
    rate = float(ops.convert_to_numpy(optimizer.learning_rate))
    test = LRFinder(steps=40).run(model, [batch if batch[1] is not None else batch[:1] for batch in batches])
    try:
        best = test.suggestion
    except ValueError:  # it fell at no rate
        best = None
    measured = {} if best is None else {"learning_rate": best}
    if len(test.rates) < 40 and rate > test.rates[-1]:
        return [
            (
                "learning_rate",
                "error",
                f"learning_rate is {rate:.2g}, and at {test.rates[-1]:.1e} the loss has diverged.",
                "The loss rises from the first steps.",
                f"Build or compile the model with learning_rate={best or test.rates[-1] / 100:.0e}.",
            )
        ], measured
    if best is not None and rate < best / 3000:
        return [
            (
                "learning_rate",
                "warning",
                f"learning_rate is {rate:.2g}, and the loss falls fastest at {best:.1e}.",
                "Training takes a thousand times the steps it needs.",
                f"Build or compile the model with learning_rate={best / 3:.0e}.",
            )
        ], measured
    return [], measured


def _rms(array):
    return float(np.sqrt(np.mean(np.square(array, dtype="float64"))))


def _tensors(x):
    return keras.tree.map_structure(ops.convert_to_tensor, x)
