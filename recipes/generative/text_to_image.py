"""The model of DALL-E: first it learns to write images as codes, then to write the codes that belong to a caption."""

import inspect

import keras
import numpy as np
from keras import ops

from recipes.generative.discrete_vae import likeliest, misfit, surplus, temperature
from recipes.generative.gradients import loss_and_gradients
from recipes.generative.model import GenerativeModel
from recipes.generative.picturing import generate_images, read_captions
from recipes.generative.resting import RestingAdamW
from recipes.training.checks import check_arrays, check_tokens
from recipes.training.recipe import check_count

OPEN = 2**30  # steps of the first stage before a fit has said how many there are


@keras.saving.register_keras_serializable("recipes")
class TextToImage(GenerativeModel):
    """Model of `recipes.dalle`, which says how it learns.

    Args:
        data_shape: `(height, width, channels)` of the images.
        encoder: Model from images to the logits of codes `(batch, rows, columns, codes)`.
        codebook: `GumbelCodebook`.
        decoder: Model from the vectors of codes to what the likelihood needs.
        transformer: Model from tokens to features `(batch, length, width)`. Tokens are text, ids below `vocabulary_size`;
            then an id of padding for each of the `max_length` places of a text; then the codes.
        text_head: Layer from features to the logits of the next token of the text.
        image_head: Layer from features to the logits of the next code.
        vocabulary_size: Number of token ids.
        max_length: Places of a text.
        padding_id: Id that fills texts up.
        settings: Dict of `likelihood`, `kl_weight`, `image_weight`, `text_dropout` and `first_stage`, as `recipes.dalle`
            takes them.
        **kwargs: `name` and `dtype` of `keras.Model`.
    """

    def __init__(
        self,
        data_shape,
        encoder,
        codebook,
        decoder,
        transformer,
        text_head,
        image_head,
        vocabulary_size,
        max_length,
        padding_id,
        settings,
        **kwargs,
    ):
        super().__init__(data_shape, **{k: v for k, v in kwargs.items() if k != "num_classes"})
        self.encoder, self.codebook, self.decoder = encoder, codebook, decoder
        self.transformer, self.text_head, self.image_head = transformer, text_head, image_head
        self.vocabulary_size, self.max_length, self.padding_id = vocabulary_size, max_length, padding_id
        self.settings = dict(settings)
        self.codes = encoder.output_shape[-1]
        self.grid = tuple(encoder.output_shape[1:3])
        self.length = self.grid[0] * self.grid[1]  # codes of an image
        self.seed = keras.random.SeedGenerator()
        counter = {"shape": (), "dtype": "int32", "trainable": False, "aggregation": "only_first_replica"}
        self.steps = self.add_weight(name="steps", initializer="zeros", **counter)
        self.first_steps = self.add_weight(
            name="first_steps", initializer=keras.initializers.Constant(OPEN), **counter
        )  # of the first stage
        names = ("reconstruction", "kl", "text_loss", "image_loss")
        self.means = [keras.metrics.Mean(name=name) for name in names]

    @property
    def inputs(self):
        """What `recipes.fit` checks data against."""
        return [
            keras.KerasTensor((None, None), "int32", name="text"),
            keras.KerasTensor(self.input_shape, "float32", name="image"),
        ]

    def make_optimizer(self, settings, **extra):
        """Return AdamW in which the weights of the stage that is not on rest."""
        if settings["optimizer"] != "adamw":
            return super().make_optimizer(settings, **extra)
        plain = {k: settings[k] for k in ("learning_rate", "weight_decay", "global_clipnorm", "beta_2")}
        return RestingAdamW(**plain, beta_1=settings["momentum"], warmup=20, **extra)

    # Data

    def as_pair(self, data, bundled=False):
        """Return `(captions, images)` as the dict that `fit` takes, without targets."""
        if isinstance(data, tuple) and len(data) == 2 and not isinstance(data[0], dict):
            data = {"text": data[0], "image": data[1]}
        return (data, None) if isinstance(data, dict) else data

    def check_data(self, x, y=None, *, name="data"):
        """Raise `ValueError` unless `x` is `{"text": ids, "image": images}`, equally many; return numpy arrays."""
        if y is not None or not isinstance(x, dict):
            raise ValueError(f'{name} must be (captions, images) or {{"text": ids, "image": images}}, without targets.')
        x, _ = check_arrays(self, x, None, name=name)
        counts = {key: len(x[key]) for key in ("text", "image")}
        if counts["text"] != counts["image"]:
            raise ValueError(
                f"{name} must be as many captions as images. Received: {counts['text']} captions, {counts['image']} images"
            )
        check_tokens(x["text"], self.vocabulary_size, f"{name} x['text']")
        image = x["image"]
        if image.dtype.kind == "f" and 0 <= image.min() and 0 < image.max() <= 1:
            raise ValueError(f"{name} x['image'] must be raw, 0..255. Received: values in 0..1. Multiply them by 255.")
        return x, None

    # Training

    def fit(self, *args, **kwargs):
        """Train both stages, as `keras.Model.fit` does: the first fit's steps are divided between them."""
        arguments = inspect.signature(keras.Model.fit).bind(self, *args, **kwargs).arguments
        extra = arguments.pop("kwargs", {})
        callbacks = arguments.get("callbacks")
        whole = isinstance(callbacks, keras.callbacks.CallbackList)  # of `recipes.fit` in a directory, with ours in it
        given = callbacks.callbacks if whole else keras.tree.flatten([] if callbacks is None else callbacks)
        if not any(isinstance(callback, PlanStages) for callback in given):
            if whole:
                raise ValueError(
                    "callbacks must be a list of callbacks. Received: a CallbackList, to which none can be added"
                )
            arguments["callbacks"] = [PlanStages(), *given]
        return super().fit(**{k: v for k, v in arguments.items() if k != "self"}, **extra)

    def fit_callbacks(self):
        """Return the callbacks that `recipes.fit` adds to the user's."""
        return [PlanStages()]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if not isinstance(x, dict) or set(x) != {"text", "image"} or y is not None or sample_weight is not None:
            raise ValueError(
                'data must be {"text": ids, "image": images} alone, without targets and weights; recipes.fit also takes '
                f"(captions, images). Received: x of {sorted(x) if isinstance(x, dict) else type(x).__name__}"
            )
        images, text = self.to_network(x["image"]), self.fill(x["text"])
        return self.batch_loss(images, text, training) / self.replicas

    def batch_loss(self, images, text, training):
        """Return the loss of the stage that is on; the other is not computed.

        A stage is a branch of the backend's condition, with its gradients and in a scope of its own, which hands out the
        states that it moved: those of seeds and of the batch normalisation.
        """
        steps, end = ops.convert_to_tensor(self.steps), ops.convert_to_tensor(self.first_steps)
        progress = ops.minimum(ops.cast(steps, "float32") / ops.cast(ops.maximum(end, 1), "float32"), 1.0)
        first = steps < end
        weights = [ops.convert_to_tensor(v) for v in self.trainable_variables]
        held = [ops.stop_gradient(weight) for weight in weights]
        states = [v for v in self.non_trainable_variables if v is not self.steps and v is not self.first_steps]
        before = [(v, ops.convert_to_tensor(v)) for v in states]

        def stage(loss, *arguments):
            def run(values):
                with keras.StatelessScope([*zip(self.trainable_variables, values, strict=True), *before]) as scope:
                    total, *parts = loss(*arguments, training)
                    return total, [*parts, *(scope.get_current_value(v) for v in states)]

            if training:
                return lambda: loss_and_gradients(run, held)
            return lambda: (*run(held), [])

        branches = stage(self.code_loss, images, progress), stage(self.token_loss, images, text)
        total, results, gradients = ops.cond(first, *branches)
        parts, after = results[:2], results[2:]
        for mean, value, on in zip(self.means, parts * 2, (first, first, ~first, ~first), strict=True):
            mean.update_state(value, sample_weight=ops.cast(on, "float32"))
        if not training:
            return total
        for variable, value in zip(states, after, strict=True):
            variable.assign(value)
        self.steps.assign_add(1)
        # nothing, which has these gradients
        return total + sum(
            ops.sum(gradient * (weight - value)) for gradient, weight, value in zip(gradients, weights, held, strict=True)
        )

    def code_loss(self, images, progress, training):
        """Return the loss of the discrete VAE, the misfit of its images and its divergence from uniform codes."""
        logits = self.encoder(images, training=training)
        vectors = self.codebook(logits, temperature(progress), training=training)
        reconstruction = misfit(images, self.decoder(vectors, training=training), self.settings["likelihood"])
        kl = surplus(logits)
        # both terms for a pixel's channel, as the misfit is; the weight rises in the first tenth of the stage
        weight = self.settings["kl_weight"] * ops.minimum(10.0 * progress, 1.0)
        share = self.length / float(np.prod(self.data_shape))
        return [reconstruction + weight * share * kl, reconstruction, kl]

    def token_loss(self, images, text, training):
        """Return the loss of the transformer, and its cross-entropies for a token of the text and for a code."""
        codes = ops.stop_gradient(self.write_codes(images))
        if training and self.settings["text_dropout"]:
            lot = keras.random.uniform((ops.shape(text)[0], 1), seed=self.seed)
            text = ops.where(lot < self.settings["text_dropout"], self.nothing(), text)
        features = self.read(text, codes, training)
        logits, targets = self.text_head(features[:, : self.max_length - 1]), text[:, 1:]
        counts = ops.cast(targets < self.vocabulary_size, "float32")  # padding is no target
        losses = ops.sparse_categorical_crossentropy(targets * ops.cast(counts, "int32"), logits, from_logits=True)
        text_loss = ops.sum(losses * counts) / ops.maximum(ops.sum(counts), 1.0)
        image_loss = ops.mean(self.code_entropy(features, codes))
        weight = self.settings["image_weight"]
        return [(text_loss + weight * image_loss) / (1 + weight), text_loss, image_loss]

    # Tokens

    def fill(self, text):
        """Turn ids `(batch, length)` into `max_length` tokens of the transformer: padding gets the id of its place."""
        text = ops.cast(text, "int32")
        room = self.max_length - text.shape[1]
        if room < 0:
            raise ValueError(
                f"text: sequence length {text.shape[1]} exceeds max_length {self.max_length}; truncate or rebuild"
            )
        text = ops.pad(text, ((0, 0), (0, room)), constant_values=self.padding_id)
        return ops.where(ops.equal(text, self.padding_id), self.nothing(), text)

    def nothing(self):
        """Return the tokens of a caption that says nothing, `(1, max_length)`."""
        return self.vocabulary_size + ops.arange(self.max_length, dtype="int32")[None]

    def write_codes(self, images):
        """Return the codes of images in -1..1, `(batch, rows * columns)`."""
        return ops.reshape(ops.cast(ops.argmax(self.encoder(images, training=False), axis=-1), "int32"), (-1, self.length))

    def paint(self, codes):
        """Return the images, in -1..1, of codes `(batch, rows * columns)`."""
        vectors = ops.reshape(self.codebook.look_up(codes), (-1, *self.grid, self.codebook.width))
        return likeliest(self.decoder(vectors), self.settings["likelihood"])

    def as_tokens(self, codes):
        """Return codes as ids of the transformer."""
        return codes + self.vocabulary_size + self.max_length

    def read(self, text, codes, training=False):
        """Return the features of a text and of all codes but the last, `(batch, max_length + rows * columns - 1, width)`."""
        return self.transformer(ops.concatenate([text, self.as_tokens(codes[:, :-1])], axis=1), training=training)

    def code_entropy(self, features, codes):
        """Return the cross-entropy of each code given those before, `(batch, rows * columns)`."""
        logits = self.image_head(features[:, self.max_length - 1 :])
        return ops.sparse_categorical_crossentropy(codes, logits, from_logits=True)

    # Use

    def encode(self, images):
        """Return the codes of raw images 0..255, an int32 array `(images, rows, columns)`."""
        codes = self.run("encode", lambda x: self.write_codes(self.to_network(x)), np.asarray(images, "float32"))
        return codes.reshape(-1, *self.grid)

    def decode(self, codes):
        """Return the images of codes `(images, rows, columns)`, float32 0..255."""
        codes = np.asarray(codes)
        check_tokens(codes, self.codes, "codes")
        return self.run("decode", lambda x: self.to_data(self.paint(x)), codes.reshape(-1, self.length).astype("int32"))

    def generate(self, ids, **settings):
        """Return an image for each caption: what `recipes.generate` calls, and says more about."""
        return generate_images(self, read_captions(self, ids), **settings)

    def sample(self, n, *, labels=None, seed=None, **settings):
        """Draw images.

        Args:
            n: Number of images.
            labels: Token ids of a caption, or of one for each image; `None` for images without a caption, which the model
                has learned if its `text_dropout` is above 0.
            seed: Integer that fixes the images, each one whatever `n` is; `None` for others each time.
            **settings: Of `recipes.generate`: `temperature`, `top_k`, `top_p`, `guidance`, `candidates`, `rank`.

        Returns:
            Float32 array `(n, *data_shape)`, 0..255.
        """
        check_count("n", n)
        seed = int(np.random.randint(2**31)) if seed is None else seed  # follows keras.utils.set_random_seed
        if labels is None:
            captions = np.full((n, self.max_length), self.padding_id, "int32")
        else:
            captions = read_captions(self, labels if np.ndim(labels[0]) else [labels])
        if len(captions) not in (1, n):
            raise ValueError(f"labels must be ids of one caption, or of {n}. Received: {len(captions)} captions")
        return generate_images(self, np.broadcast_to(captions, (n, self.max_length)), seed=seed, **settings)

    # Saving

    def get_config(self):
        parts = ("encoder", "codebook", "decoder", "transformer", "text_head", "image_head")
        plain = ("vocabulary_size", "max_length", "padding_id")
        return {
            **super().get_config(),
            **{part: keras.saving.serialize_keras_object(getattr(self, part)) for part in parts},
            **{name: getattr(self, name) for name in plain},
            "settings": dict(self.settings),
        }


class PlanStages(keras.callbacks.Callback):
    """Divides the steps of a model's first fit between its two stages."""

    def on_train_begin(self, logs=None):
        model = self.model  # on JAX this read fetches the state
        if not model.optimizer.built and model.replicas == 1:  # or TensorFlow traces the step twice
            model.optimizer.build(model.trainable_variables)
        if int(ops.convert_to_numpy(model.first_steps)) != OPEN:
            return
        epochs, steps = self.params.get("epochs"), self.params.get("steps")
        if not steps:
            raise ValueError(
                "steps_per_epoch must be given for data without a length: the steps are divided between the two stages. "
                f"Received: steps_per_epoch={steps}"
            )
        done = int(ops.convert_to_numpy(model.steps))
        model.first_steps.assign(done + max(1, round(model.settings["first_stage"] * epochs * steps)))
