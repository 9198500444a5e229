"""An optimizer for each of two networks that learn against each other, as one optimizer of a model."""

import keras

DISCRIMINATOR = "discriminator_"  # what the names of the discriminator's layers begin with


@keras.saving.register_keras_serializable("recipes")
class TwoOptimizers(keras.optimizers.MultiOptimizer):
    """Gives the variables of the layers named `discriminator_...` to one optimizer and all others to another.

    Both are saved with the model. Unlike Keras' `MultiOptimizer` this one has a learning rate, so that schedules work: it
    is the generator's, and setting it moves the discriminator's in proportion.

    Args:
        generator: `keras.optimizers.Optimizer` of the generator.
        discriminator: The same for the discriminator.
        name: Name of the optimizer.

    Example:

    >>> optimizer = TwoOptimizers(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(4e-3))
    >>> optimizer.learning_rate = 5e-4
    >>> round(float(optimizer.discriminator.learning_rate), 6)
    0.002
    """

    def __init__(self, generator, discriminator, name="two_optimizers"):
        pattern = f"(?:.*/)?{DISCRIMINATOR}.*"  # paths gain and lose a prefix when a model is reloaded
        super().__init__(keras.optimizers.OptimizerMap(generator, {pattern: discriminator}), name=name)
        self.generator, self.discriminator = generator, discriminator
        rates = [optimizer.get_config()["learning_rate"] for optimizer in (generator, discriminator)]
        plain = all(isinstance(rate, float) for rate in rates) and rates[0] > 0
        self._ratio = rates[1] / rates[0] if plain else None

    @property
    def learning_rate(self):
        return self.generator.learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        if self._ratio is None:
            raise ValueError("learning_rate cannot be set: an optimizer's is a schedule, or the generator's is 0.")
        self.generator.learning_rate = value
        self.discriminator.learning_rate = value * self._ratio

    def count(self):
        """Count a step in which the optimizers were called one by one."""
        self._iterations.assign_add(1)

    def get_config(self):
        optimizers = {"generator": self.generator, "discriminator": self.discriminator}
        return {**{k: keras.saving.serialize_keras_object(v) for k, v in optimizers.items()}, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        optimizers = {
            k: keras.saving.deserialize_keras_object(config[k], custom_objects) for k in ("generator", "discriminator")
        }
        return cls(**{**config, **optimizers})
