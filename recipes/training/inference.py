"""`recipes.predict` and `recipes.evaluate`: probabilities and the usual measures from a model that puts out logits."""

import dataclasses

import keras
import numpy as np

from recipes.data.splitting import LazyRows
from recipes.training.checks import check_arrays
from recipes.training.recipe import get_recipe

NO_PROBABILITIES = {
    "contrastive": "embeddings of pairs, not probabilities: use model.predict(x), or the towers alone, "
    'recipes.features(model, "image_embedding").predict(images).',
    "embed": "embeddings, not probabilities: use model.predict(x).",
    "language_model": "the logits of every token, which model.predict(ids) returns. recipes.generate(model, ids, ...) "
    "writes what comes next, recipes.evaluate(model, ids) says how well it guesses.",
}


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What `recipes.predict` returns.

    Attributes:
        values: `(examples, classes)` probabilities, or `(examples, targets)` for a regression.
        labels: `(examples,)` ids of the likeliest class; `(examples, labels)` of 0 and 1 for `"multilabel"`; `None`
            for a regression.
        class_names: Names of the classes, or `None` if the model knows none.
    """

    values: np.ndarray
    labels: np.ndarray | None
    class_names: list | None

    @property
    def names(self):
        """Name of the likeliest class of each example, or of each of its tokens; the names of all its labels for
        `"multilabel"`. The id as a string where the model knows no names."""
        names = self.class_names or [str(i) for i in range(self.values.shape[-1])]
        if self.labels.ndim == self.values.ndim:
            return [[name for name, given in zip(names, row, strict=True) if given] for row in self.labels]
        return np.array(names, dtype=object)[self.labels].tolist()

    def top(self, k=5):
        """Return for each example its `k` likeliest `(class name or id, probability)`, the likeliest first."""
        order = np.argsort(-self.values, axis=-1, kind="stable")[:, :k]
        names = self.class_names or range(self.values.shape[-1])
        return [[(names[i], float(row[i])) for i in best] for row, best in zip(self.values, order, strict=True)]


def predict(model, x, *, batch_size=256, verbose=0):
    """Predict probabilities and class names, or targets.

    Args:
        model: Model of a builder (`model.recipe` tells its task); any other is taken for a classifier that puts out
            logits.
        x: Array, or dict of arrays by input name.
        batch_size: Examples a step.
        verbose: As in `keras.Model.predict`.

    Returns:
        `Predictions`.

    Raises:
        ValueError: If `x` does not fit the model or is not finite.

    Example:

    >>> model = recipes.mlp((4,), 3, adapt=np.random.normal(size=(9, 4)))
    >>> recipes.predict(model, np.zeros((2, 4))).values.shape
    (2, 3)
    """
    from recipes.data import Batches

    task = get_recipe(model).get("training", {}).get("task")
    if task in NO_PROBABILITIES:
        raise ValueError(f"model puts out {NO_PROBABILITIES[task]} Received: {model.name}, task={task!r}")
    x, _ = check_arrays(model, x, None, name="predict")
    if isinstance(x, LazyRows):
        x, batch_size = Batches(x, None, batch_size, shuffle=False), None
    outputs = model.predict(x, batch_size=batch_size, verbose=verbose).astype("float64")
    recipe = get_recipe(model)
    task, names = recipe.get("training", {}).get("task", "classify"), recipe.get("class_names")
    if task == "regress":
        return Predictions(outputs, None, None)
    if task == "multilabel":
        values = 1 / (1 + np.exp(-outputs))
        return Predictions(values, (values > 0.5).astype("int64"), names)
    values, stranger = outputs, "training" not in recipe
    if not stranger or outputs.min() < 0 or abs(outputs.sum(axis=-1) - 1).max() > 1e-2:  # logits, not probabilities
        shifted = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        values = shifted / shifted.sum(axis=-1, keepdims=True)
    return Predictions(values, values.argmax(axis=-1), names)


def evaluate(model, data, *, batch_size=256):
    """Measure `model` on data that it was not trained on.

    Args:
        model: Model of a builder.
        data: `(x, y)` arrays, or a `recipes.data.Data`, of which the test part is taken; of a language model the ids alone,
            `{"source", "target"}` of an encoder-decoder.
        batch_size: Examples a step.

    Returns:
        Dict of floats: `accuracy`, `balanced_accuracy`, `f1` (macro), `log_loss` and, with two classes, `roc_auc`;
        `mae`, `rmse` and `r2` for a regression, and for a forecaster with a `season` also `naive_mae`, that of
        `recipes.data.seasonal_naive`; `accuracy`, `f1` (macro) and `log_loss` (mean over labels) for `"multilabel"`;
        `loss`, `perplexity` and `accuracy`, over all tokens that count, for a language model, the first and the last for
        `"tokens"`.

    Raises:
        ValueError: If the data do not fit the model.

    Example:

    >>> model = recipes.mlp((4,), 3, adapt=np.random.normal(size=(9, 4)))
    >>> sorted(recipes.evaluate(model, (np.random.normal(size=(6, 4)), np.array([0, 1, 2, 0, 1, 2]))))
    ['accuracy', 'balanced_accuracy', 'f1', 'log_loss']
    """
    import sklearn.metrics as measures

    from recipes.data import Batches, Data, seasonal_naive

    data = data.test if isinstance(data, Data) else data
    data = (data.x, data.y) if isinstance(data, Batches) else data
    task = get_recipe(model).get("training", {}).get("task", "classify")
    if task in ("tokens", "language_model"):
        from recipes.training.perplexity import evaluate_tokens

        return evaluate_tokens(model, *check_arrays(model, *(data if isinstance(data, tuple) else (data, None))), batch_size)
    classes = model.output_shape[-1] if task == "classify" else None
    x, y = check_arrays(model, *data, classes=classes)
    predictions = predict(model, x, batch_size=batch_size)
    values, labels = predictions.values, predictions.labels
    if task == "regress":
        y, values = y.reshape(len(values), -1), values.reshape(len(values), -1)
        error = measures.mean_squared_error(y, values)
        result = {
            "mae": float(measures.mean_absolute_error(y, values)),
            "rmse": float(error**0.5),
            "r2": float(measures.r2_score(y, values)),
        }
        arguments = get_recipe(model).get("arguments", {})
        if arguments.get("season"):  # a forecast, which has to beat this
            naive = seasonal_naive(x, arguments["horizon"], arguments["season"], targets=arguments["targets"])
            result["naive_mae"] = float(measures.mean_absolute_error(y, naive.reshape(y.shape)))
        return result
    clipped = np.clip(values, keras.config.epsilon(), 1 - keras.config.epsilon())
    if task == "multilabel":
        log_loss = -np.mean(y * np.log(clipped) + (1 - y) * np.log(1 - clipped))
        accuracy = np.mean(labels == y)
        return {
            "accuracy": float(accuracy),
            "f1": float(measures.f1_score(y, labels, average="macro", zero_division=0)),
            "log_loss": float(log_loss),
        }
    ids = y.argmax(axis=-1) if y.ndim == 2 and y.shape[-1] == classes else y.reshape(-1).astype("int64")
    result = {
        "accuracy": float(measures.accuracy_score(ids, labels)),
        "balanced_accuracy": float(measures.balanced_accuracy_score(ids, labels)),
        "f1": float(measures.f1_score(ids, labels, average="macro", zero_division=0)),
        "log_loss": float(-np.mean(np.log(clipped[np.arange(len(ids)), ids]))),
    }
    if classes == 2 and len(np.unique(ids)) == 2:
        result["roc_auc"] = float(measures.roc_auc_score(ids, values[:, 1]))
    return result
