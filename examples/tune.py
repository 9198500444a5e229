"""Search the hyper-parameters of a multilayer perceptron on scikit-learn's breast cancer data.

    python examples/tune.py --trials 20

With --directory FOLDER a search that was stopped goes on where it was. Takes about 3 s a trial on 2 CPU cores.
"""

import argparse

import recipes

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--trials", type=int, default=2, help="cost of the search in full trainings")
parser.add_argument("--epochs", type=int, default=10, help="epochs of a full training")
parser.add_argument("--tuner", default="random", choices=["random", "hyperband", "bayesian"])
parser.add_argument("--directory", help="folder to keep the search in")
options = parser.parse_args()

data = recipes.data.load("breast_cancer")
found = recipes.tune(
    recipes.mlp,
    data,
    trials=options.trials,
    epochs=options.epochs,
    tuner=options.tuner,
    directory=options.directory,
    verbose=0,
)
for trial in found.tuner.oracle.get_best_trials(3):
    values = {k: v for k, v in trial.hyperparameters.values.items() if not k.startswith("tuner/")}
    print(f"validation accuracy {trial.score:.3f}", values)

# The best of many trials looks better on the validation data than it is: judge it on the test data.
print("best, on the test data:", {k: round(v, 3) for k, v in recipes.evaluate(found.model, data).items()})

# The same space serves any tuner of keras-tuner, for instance `keras_tuner.GridSearch(models, "val_loss")`.
models = recipes.hypermodel(recipes.mlp, data.info.input_shape, data.info.num_classes)
