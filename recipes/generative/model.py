"""What all generative models share: the scale of the data, sampling, and being saved whole."""

import keras
import numpy as np
from keras import ops

from recipes.layers import Standardize
from recipes.sequence.compiled import compiled
from recipes.training.checks import check_arrays
from recipes.training.recipe import check_choice, check_count, check_images, make_optimizer

ROWS = 64  # rows a compiled program makes at once, unless it is told


class GenerativeModel(keras.Model):
    """Base of the models that learn what their data look like and make more of it.

    A family gives its networks to the constructor and keeps them as attributes, adds them to `get_config` with
    `keras.saving.serialize_keras_object`, and has two methods:

    - `batch_loss(x, labels, training)`: the scalar loss of a batch in the scale of the networks; it updates the metrics;
    - `generate_batch(noise, labels, seed, **settings)`: as many samples, in the same scale, as `noise` has rows.

    `call` returns the batch as it came while training, because what a loss needs (labels, noise, two networks) goes past
    it; in inference a family may return something useful. Images are 0..255 outside and -1..1 inside; vectors are
    standardised inside, by the layer `standardize`.

    Args:
        data_shape: `(height, width, channels)` of images, or `(features,)` of vectors.
        num_classes: Number of classes of a conditional model, or `None`.
        **kwargs: `name` and `dtype` of `keras.Model`.

    Attributes:
        noise_shape: Shape of what `noise` draws for a sample; a family sets it.
    """

    def __init__(self, data_shape, num_classes=None, **kwargs):
        super().__init__(**{"autocast": False, **kwargs})  # raw pixels and values keep their digits in bfloat16
        self.data_shape = tuple(data_shape)
        self.num_classes = num_classes
        self.noise_shape = self.data_shape
        if not self.images:
            self.standardize = Standardize(dtype="float32", name="standardize")
            self.standardize.build((None, *self.data_shape))
        self.built = True  # the networks are, so that a loaded file finds the variables of the optimizer

    @property
    def images(self):
        """Whether the data are images, not vectors."""
        return len(self.data_shape) == 3

    @property
    def input_shape(self):
        """Shape of a batch of data, `(None, ...)`."""
        return (None, *self.data_shape)

    @property
    def inputs(self):
        """What `recipes.fit` checks data against: a list of one symbolic tensor."""
        return [keras.KerasTensor(self.input_shape, "float32", name="image" if self.images else "vector")]

    # The scale of the networks

    def to_network(self, x):
        """Turn a batch of data into the scale of the networks: -1..1, or mean 0 and standard deviation 1."""
        x = ops.cast(x, "float32")
        return x / 127.5 - 1.0 if self.images else self.standardize(x)

    def to_data(self, x):
        """Turn what the networks make into data: float32, 0..255 for images."""
        x = ops.cast(x, "float32")
        return ops.clip((x + 1.0) * 127.5, 0.0, 255.0) if self.images else self.standardize(x, invert=True)

    # Training

    def call(self, inputs, training=None):
        return inputs

    def batch_loss(self, x, labels, training):
        """Return the mean loss of a batch.

        Args:
            x: Data in the scale of the networks, `(batch, *data_shape)`, float32.
            labels: Class ids `(batch,)`, int32, or `None` for a model without classes.
            training: Whether the step is one of training.

        Returns:
            Float32 scalar.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a method batch_loss")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if sample_weight is not None:
            raise ValueError("sample_weight and class_weight must be None: generative models learn all data alike.")
        loss = self.batch_loss(self.to_network(x), self.batch_labels(y), training)
        return loss / self.replicas

    @property
    def replicas(self):
        """Number of devices of a `tf.distribute` strategy that share a batch: their gradients are summed."""
        return self.distribute_strategy.num_replicas_in_sync if keras.backend.backend() == "tensorflow" else 1

    def batch_labels(self, y):
        """Return the labels of a batch as int32 `(batch,)`, or `None`; raise if the model and the data disagree."""
        if self.num_classes is None:
            if y is not None:
                raise ValueError(
                    "y must be None: the model was built without classes. Call fit(x), or build it with num_classes=."
                )
            return None
        if y is None:
            raise ValueError(f"y must hold class ids, 0..{self.num_classes - 1}: the model was built with num_classes.")
        if len(y.shape) > 1 and y.shape[-1] != 1:
            raise ValueError(f"y must be class ids of shape (batch,). Received: shape {tuple(y.shape)}")
        return ops.reshape(ops.cast(y, "int32"), (-1,))

    def make_optimizer(self, settings, **extra):
        """Return the optimizer that the training settings of the recipe describe; a family with two overrides this."""
        return make_optimizer(settings, **extra)

    def fit_callbacks(self):
        """Return the callbacks that `recipes.fit` adds to the user's; a family that needs some overrides this."""
        return []

    def make_train_function(self, force=False):
        self.check_adapted()
        return super().make_train_function(force)

    def make_test_function(self, force=False):
        self.check_adapted()
        return super().make_test_function(force)

    def make_predict_function(self, force=False):
        self.check_adapted()
        return super().make_predict_function(force)

    def check_adapted(self):
        """Raise `ValueError` if vectors are standardised by statistics that nobody has set."""
        if not self.images and not self.standardize.adapted:
            raise ValueError(
                "This model standardises its vectors, and the statistics are not set. Pass the training data to the "
                "builder, adapt=x, or train with recipes.fit, which adapts."
            )

    def check_data(self, x, y=None, *, name="data"):
        """Raise `ValueError` unless arrays `x` and labels `y` fit the model; return them as numpy arrays.

        Args:
            x: Array `(examples, *data_shape)`.
            y: Class ids `(examples,)`, or `None`.
            name: What to call the pair in messages.

        Returns:
            `(x, y)`; `y` is `None` for a model without classes.
        """
        if (y is None) != (self.num_classes is None):
            wants = "(x, labels), because it" if y is None else "x alone, unless it"
            raise ValueError(f"{name} must be {wants} was built with num_classes. Received: num_classes={self.num_classes}")
        x, y = check_arrays(self, x, y, name=name, classes=self.num_classes)
        if y is not None and y.ndim > 1 and y.shape[-1] != 1:
            raise ValueError(f"{name} y must be class ids of shape (examples,). Received: shape {y.shape}")
        return self.check_pixels(x, name), y

    def check_pixels(self, x, name="data"):
        """Return `x`; raise `ValueError` if these images are not raw."""
        pixels = self.images and isinstance(x, np.ndarray)  # images in files are not read before they are needed
        if pixels and x.dtype.kind == "f" and 0 <= x.min() and x.max() <= 1 and x.max() > 0:
            raise ValueError(f"{name} x must be raw images, 0..255. Received: values in 0..1. Multiply them by 255.")
        if pixels and (x.min() < 0 or x.max() > 255):
            raise ValueError(
                f"{name} x must be raw images, 0..255. Received: values in {x.min()}..{x.max()}. Undo the scaling, such as "
                "with (x + 1) * 127.5."
            )
        return x

    def as_pair(self, data, bundled=False):
        """Return arrays as `(x, labels)`, with `None` where there are none; anything else as it is.

        Args:
            data: What `recipes.fit` was given.
            bundled: Whether it comes from a `recipes.data.Data`, whose labels a model without classes leaves alone.
        """
        if isinstance(data, (np.ndarray, list)):
            return data, None
        if isinstance(data, tuple) and (len(data) == 1 or (bundled and self.num_classes is None)):
            return data[0], None
        return data

    # Sampling

    def sample(self, n, *, labels=None, seed=None, batch_size=ROWS):
        """Make new data.

        Args:
            n: Number of samples.
            labels: Of a conditional model: a class id, or one for each sample; `None` takes the classes in turn.
            seed: Integer that fixes the samples, each one whatever `n` is; `None` for others each time.
            batch_size: Samples that are made at once.

        Returns:
            Float32 array `(n, *data_shape)`: images 0..255, or vectors in the units of the data.

        Raises:
            ValueError: If an argument is out of its range, or the statistics of vectors are not set.
        """
        return self.draw(n, labels, seed, batch_size)

    def generate_batch(self, noise, labels, seed, **settings):
        """Return samples in the scale of the networks.

        Args:
            noise: Float32 `(batch, *noise_shape)`.
            labels: Class ids `(batch,)`, int32, or `None` for a model without classes.
            seed: `BatchSeed` for noise drawn on the way: `keras.random.normal(shape, seed=seed)`.
            **settings: What a family's `sample` gave to `draw`: plain numbers and strings, fixed in the program.

        Returns:
            Float tensor `(batch, *data_shape)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a method generate_batch")

    def noise(self, generator):
        """Return the noise of one sample, float32 `noise_shape`, from a `numpy.random.Generator`: standard normal."""
        return generator.standard_normal(self.noise_shape, "float32")

    def draw(self, n, labels=None, seed=None, batch_size=ROWS, **settings):
        """Sample as `sample` says; `settings` go to `generate_batch`. The noise is drawn on the host, row by row."""
        check_count("n", n)
        check_count("batch_size", batch_size)
        self.check_adapted()
        if seed is None:
            seed = int(np.random.randint(2**31))  # follows keras.utils.set_random_seed
        check_count("seed", seed, minimum=0)
        labels = self.sample_labels(labels, n)
        rows = min(n, batch_size)

        def run(noise, labels, state):
            labels = None if self.num_classes is None else labels
            return self.to_data(self.generate_batch(noise, labels, BatchSeed(state), **settings))

        program = compiled(self, ("sample", rows, *sorted(settings.items())), run)
        parts = []
        for start in range(0, n, rows):
            noise = np.stack([self.noise(np.random.default_rng([seed, row])) for row in range(start, start + rows)])
            given = labels[np.arange(start, start + rows) % n]  # the last batch is as large as the others: one program
            state = np.random.SeedSequence([seed, start]).generate_state(2) >> 1
            parts.append(ops.convert_to_numpy(program(noise, given, state.astype("int32"))))
        return np.concatenate(parts)[:n]

    def sample_labels(self, labels, n):
        """Return the class ids `(n,)` that `sample` was asked for; zeros for a model without classes."""
        if self.num_classes is None:
            if labels is not None:
                raise ValueError(f"labels must be None: the model was built without num_classes. Received: {labels!r}")
            return np.zeros(n, "int32")
        labels = np.arange(n) % self.num_classes if labels is None else np.asarray(labels)
        if labels.dtype.kind not in "iu" or labels.shape not in ((), (n,)):
            raise ValueError(f"labels must be a class id or {n} of them, integers. Received: {labels!r}")
        if labels.size and (labels.min() < 0 or labels.max() >= self.num_classes):
            raise ValueError(f"labels must be in 0..{self.num_classes - 1}. Received: {labels!r}")
        return np.broadcast_to(labels, (n,)).astype("int32")

    def run(self, name, function, *arrays, batch_size=ROWS):
        """Apply `function` to arrays in batches, compiled once for each size; for `encode`, `decode` and the like.

        Args:
            name: What tells the function from others of this model.
            function: From tensors `(batch, ...)` to a tensor or a tree of them `(batch, ...)`.
            *arrays: Arrays of equal length.
            batch_size: Rows at once.

        Returns:
            The results as numpy arrays, `(length, ...)`.
        """
        length = len(arrays[0])
        rows = min(length, batch_size)
        program = compiled(self, (name, rows), function)
        parts = []
        for start in range(0, length, rows):
            index = np.arange(start, start + rows) % length
            result = program(*[array[index] for array in arrays])
            parts.append(keras.tree.map_structure(ops.convert_to_numpy, result))
        return keras.tree.map_structure(lambda *leaves: np.concatenate(leaves)[:length], *parts)

    # Saving

    def get_config(self):
        return {**super().get_config(), "data_shape": list(self.data_shape), "num_classes": self.num_classes}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        nested = {k: v for k, v in config.items() if isinstance(v, dict) and "class_name" in v}
        objects = {k: keras.saving.deserialize_keras_object(v, custom_objects) for k, v in nested.items()}
        return cls(**{**config, **objects})


class BatchSeed(keras.random.SeedGenerator):
    """Seed of `keras.random` functions in a compiled program: made of a tensor, not of a variable.

    Each call of `next` gives another seed. In a loop of the backend, where the body is traced once, take `seed.at(step)`.

    Args:
        state: Int32 tensor `(2,)` of numbers >= 0.
    """

    def __init__(self, state):  # without the variable that Keras' generator counts in
        self.start, self.calls = state, 0

    def next(self, ordered=True):
        self.calls += 1
        # a key for each call: no multiple of the first number for the second to meet
        return ops.cast(ops.bitwise_and(self.start + ops.convert_to_tensor([0, self.calls], "int32"), 2**31 - 1), "uint32")

    def at(self, step):
        """Return the seed of step `step`, an integer or an int32 scalar tensor below 2 ** 19, of a loop."""
        fold = ops.stack([ops.cast(step, "int32") * 4096, ops.zeros((), "int32")])
        return BatchSeed(ops.bitwise_and(self.start + fold, 2**31 - 1))


def label_vector(num_classes, width, *, unknown=False, stddev=1.0, name="label"):
    """Begin a condition on a class: an input of ids and the vector learned for each.

    Args:
        num_classes: Number of classes.
        width: Length of the vector.
        unknown: Whether one more id, `num_classes`, stands for "no class told" (classifier-free guidance).
        stddev: Standard deviation of the initial vectors: 1 where they join noise of that size, or go unheard.
        name: Name of the input, and prefix of the layer's.

    Returns:
        `(ids, vector)`: the symbolic input `(batch,)`, int32, and `(batch, width)`.
    """
    ids = keras.Input((), dtype="int32", name=name)
    normal = keras.initializers.RandomNormal(stddev=stddev)
    return ids, keras.layers.Embedding(num_classes + int(unknown), width, normal, name=f"{name}_embedding")(ids)


def check_arguments(input_shape, num_classes, variant, variants, minimum=8):
    """Raise `ValueError` unless the first arguments of a generative builder are what all of them take."""
    if len(input_shape) == 1:
        check_count("input_shape[0]", input_shape[0])
    else:
        check_images(input_shape, minimum=minimum)
    if num_classes is not None:
        check_count("num_classes", num_classes, minimum=2)
    check_choice("variant", variant, variants)


def adapt_vectors(model, adapt):
    """Set the statistics of a model of vectors from `adapt`, an array or `(x, labels)`; `None` leaves them unset."""
    if adapt is None:
        return
    if model.images:
        raise ValueError(f"adapt must be None for images: their scale is known, 0..255. Received: {type(adapt).__name__}")
    model.standardize.adapt(adapt[0] if isinstance(adapt, tuple) else adapt)
