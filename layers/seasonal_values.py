"""What a series was at the same time of earlier seasons."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class SeasonalValues(keras.layers.Layer):
    """Gives for each of the steps to come what the series was a season before, two seasons before and so on.

    A horizon longer than a season repeats it.

    Args:
        season: Steps that a season has, such as 7 for days of a week.
        horizon: Steps to come.
        seasons: How many seasons to look back; the sequence must have `seasons * season` steps.
        columns: Number of columns to take, the first ones; `None` for all.

    Call arguments:
        x: Float tensor of shape `(batch, length, columns)`.

    Returns:
        Float tensor of shape `(batch, horizon, seasons * columns)`, the latest season first.

    Example:

    >>> x = np.arange(6.0).reshape(1, 6, 1)
    >>> keras.ops.convert_to_numpy(SeasonalValues(3, 4, seasons=2)(x)).tolist()
    [[[3.0, 0.0], [4.0, 1.0], [5.0, 2.0], [3.0, 0.0]]]
    """

    def __init__(self, season, horizon, seasons=1, columns=None, **kwargs):
        super().__init__(**kwargs)
        for name, value in (("season", season), ("horizon", horizon), ("seasons", seasons), ("columns", columns or 1)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1. Received: {name}={value}")
        self.season = season
        self.horizon = horizon
        self.seasons = seasons
        self.columns = columns

    def build(self, input_shape):
        if input_shape[1] < self.seasons * self.season:
            raise ValueError(
                f"x must have {self.seasons * self.season} steps, seasons={self.seasons} of season={self.season}. "
                f"Received: shape {tuple(input_shape)}"
            )

    def call(self, x):
        length, columns = x.shape[1], self.columns or x.shape[2]
        latest = [length - (back + 1) * self.season for back in range(self.seasons)]  # where each season begins
        places = [[begin + step % self.season for begin in latest] for step in range(self.horizon)]
        found = ops.take(x[..., :columns], ops.convert_to_tensor(places, "int32"), axis=1)
        return ops.reshape(found, (-1, self.horizon, self.seasons * columns))

    def compute_output_shape(self, input_shape):
        return input_shape[0], self.horizon, self.seasons * (self.columns or input_shape[2])

    def get_config(self):
        return {
            **super().get_config(),
            "season": self.season,
            "horizon": self.horizon,
            "seasons": self.seasons,
            "columns": self.columns,
        }
