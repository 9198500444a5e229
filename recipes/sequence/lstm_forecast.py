"""LSTM forecaster: a window of one or more series to all the steps that follow, at once."""

import keras

from recipes.layers import SeasonalValues, Standardize
from recipes.sequence.lstm import check_series
from recipes.sequence.recurrent import CELLS, recurrent_stack
from recipes.training.recipe import adapt_model, builder, check_choice, check_count, check_fraction, compile_model, head

VARIANTS = {
    # for a few thousand windows; ours
    "small": {"units": 64, "depth": 1, "hidden": 64},
    # the layers of Salinas et al., 2020, https://arxiv.org/abs/1704.04110, table 3, electricity and traffic
    "deepar": {"units": 40, "depth": 3, "hidden": 40},
}


@builder
def lstm_forecast(
    input_shape,
    horizon,
    *,
    variant="small",
    targets=1,
    future=0,
    season=None,
    cell="lstm",
    units=None,
    depth=None,
    hidden=None,
    adapt=None,
    dropout=0.1,
    learning_rate=2e-3,
    weight_decay=0.01,
    name="lstm_forecast",
):
    """Build a recurrent network that forecasts several steps of one or more series from a window of the past.

    `recipes.data.windows` makes what it takes. An LSTM reads the window; from what it says, what is known of each step to
    come, and what the series were at the same time of earlier seasons, a small network that all steps share makes the
    forecast. With `season` it learns the difference to the value a season before, so that it begins as the seasonal naive
    forecast, which `recipes.evaluate` reports beside it as `"naive_mae"`. Inputs and targets are scaled inside the model,
    from `adapt` or from the training data when `recipes.fit` trains it; without either, `fit` raises.

    Args:
        input_shape: `(window, columns)`: the steps to look back, and the series to forecast, other series and covariates.
        horizon: Number of steps to forecast.
        variant: Row of `VARIANTS`: `"small"` or `"deepar"`.
        targets: Number of series to forecast: the first columns of the window.
        future: Number of covariates known of the steps to come. With it the inputs are the dict `{"past": (batch, window,
            columns), "future": (batch, horizon, future)}`.
        season: Steps of a season, at most the window: 7 for days that repeat weekly; 1 for the difference to the last value;
            `None` for none.
        cell: `"lstm"` or `"gru"`.
        units: Number of units of a layer; `None` as the variant says.
        depth: Number of layers; `None` as the variant says.
        hidden: Units of the network that makes the forecast of each step; `None` as the variant says.
        adapt: Training data `(x, y)` to take the statistics from.
        dropout: Fraction dropped after the LSTM and before the head, in `[0, 1)`.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay; spares biases.
        name: Name of the model.

    Returns:
        Compiled `keras.Model`: `(batch, window, columns)` to forecasts in original units, `(batch, horizon)`, with several
        targets `(batch, horizon, targets)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = lstm_forecast((28, 3), 7, season=7)
    >>> model.output_shape
    (None, 7)

    Reference:
        [Wen et al., 2017](https://arxiv.org/abs/1711.11053), section 3, with one forecast a step for its quantiles.
    """
    check_series(input_shape)
    check_count("horizon", horizon)
    check_choice("variant", variant, VARIANTS)
    check_count("targets", targets)
    check_count("future", future, minimum=0)
    check_choice("cell", cell, CELLS)
    check_fraction("dropout", dropout)
    given = {"units": units, "depth": depth, "hidden": hidden}
    units, depth, hidden = (VARIANTS[variant][key] if value is None else value for key, value in given.items())
    for key, value in (("units", units), ("depth", depth), ("hidden", hidden)):
        check_count(key, value)
    window, columns = input_shape
    if window is None:
        raise ValueError(f"input_shape must say the length of the window. Received: input_shape={input_shape}")
    if targets > columns:
        raise ValueError(f"targets must be at most the {columns} columns of input_shape. Received: targets={targets}")
    if season is not None:
        check_count("season", season)
        if season > window:
            raise ValueError(f"season must be at most the window, {window} steps. Received: season={season}")

    inputs = {"past": keras.Input(input_shape, name="past")}
    past = Standardize(dtype="float32", name="standardize")(inputs["past"])
    context = recurrent_stack(
        past, None, units=units, depth=depth, cell=cell, bidirectional=False, dropout=dropout, sequences=False
    )
    context = keras.layers.Dropout(dropout, name="context_dropout")(context)  # (batch, units)
    context = keras.layers.Dense(horizon * hidden, name="context")(context)
    parts = [keras.layers.Reshape((horizon, hidden), name="context_steps")(context)]
    if future:
        inputs["future"] = keras.Input((horizon, future), name="future")
        parts.append(Standardize(dtype="float32", name="standardize_future")(inputs["future"]))
    if season:
        parts.append(SeasonalValues(season, horizon, seasons=window // season, name="seasons")(past))
    x = keras.layers.Concatenate(name="steps")(parts) if len(parts) > 1 else parts[0]
    x = keras.layers.Dense(hidden, "gelu", name="step_hidden")(x)  # (batch, horizon, hidden)
    x = keras.layers.Dropout(dropout, name="features_dropout")(x)
    x = keras.layers.Identity(name="features")(x)
    y = head(x, targets, task=None)  # (batch, horizon, targets), in standard deviations
    scale = Standardize(invert=True, dtype="float32", name="target")
    if season:
        before = SeasonalValues(season, horizon, columns=targets, dtype="float32", name="season_before")(inputs["past"])
        y = keras.layers.Add(dtype="float32", name="change")([y, scale(before, invert=False)])
    y = scale(y)
    if targets == 1:
        y = keras.layers.Reshape((horizon,), dtype="float32", name="forecast")(y)
    model = keras.Model(inputs if future else inputs["past"], y, name=name)
    if adapt is not None:
        adapt_model(model, *(adapt if isinstance(adapt, tuple) else (adapt,)))
    return compile_model(
        model,
        "regress",
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        global_clipnorm=1.0,
        schedule="WarmupCosine",
        epochs=10,
        batch_size=128,
    )


def lstm_forecast_space(hp):
    """Return keyword arguments of `lstm_forecast` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "units": hp.Int("units", 16, 256, step=2, sampling="log"),
        "depth": hp.Int("depth", 1, 2),
        "hidden": hp.Int("hidden", 16, 256, step=2, sampling="log"),
        "dropout": hp.Float("dropout", 0.0, 0.5, step=0.1),
        "learning_rate": hp.Float("learning_rate", 5e-4, 1e-2, sampling="log"),
        "weight_decay": hp.Float("weight_decay", 1e-4, 1e-1, sampling="log"),
    }
