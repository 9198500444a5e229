"""What defaults reach on Fashion-MNIST in a given time: our image builders beside those of keras.applications and KerasHub.

    python benchmarks/learning.py --data DATA/fashion_mnist.npz [--minutes 20] [--systems NAME ...] [--seeds 0]

Ours is `recipes.fit(model, data, epochs=E)` on what the builder returns; a peer is `model.fit(x, y, epochs=E)` with what
its library sets by itself: KerasHub's classifiers compile themselves, keras.applications leaves `compile("adam", ...)` to
the user. E is the largest number of epochs that a few timed steps say fits into the minutes, at least 1. A network whose
smallest image is 32 pixels gets the images with a border of zeros. Nobody sees the test images before the end.

    python benchmarks/learning.py --data FILE --choose 2 --systems recipes.vit --settings learning_rate=2e-3 drop_path=0.0

is how settings are chosen: so many epochs on 50,000 of the training images, and the accuracy on the other 10,000, printed.

Needs keras-hub for its rows. Rows already in benchmarks/results/learning.csv are not run again.
"""

import argparse
import ast
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from budget import PROBE, Steps
from rows import RESULTS, append, done, facts, read

import recipes

PATH = RESULTS / "learning.csv"
HELD_OUT = -10_000  # where the images begin that settings are chosen by


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--choose", type=int, metavar="EPOCHS", help="see above; the test images are not touched")
    parser.add_argument("--settings", nargs="*", default=[], metavar="NAME=VALUE", help="of our builders, with --choose")
    arguments = parser.parse_args()
    with np.load(arguments.data, allow_pickle=False) as file:
        x, y, x_test, y_test = (file[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    train, test = (x[..., None], y.astype("int32")), (x_test[..., None], y_test.astype("int32"))
    for system in arguments.systems if arguments.choose else []:
        settings = {name: ast.literal_eval(value) for name, value in (pair.split("=") for pair in arguments.settings)}
        found = choose(system.removeprefix("recipes."), settings, *train, arguments.choose)
        print(f"{system}, {settings}: {found:.4f} after {arguments.choose} epochs", flush=True)
    for seed in [] if arguments.choose else arguments.seeds:
        for system in arguments.systems:
            key = {"data": arguments.data.name, "minutes": f"{arguments.minutes:g}", "cores": len(os.sched_getaffinity(0))}
            key |= {"system": system, "seed": seed}
            if not done(PATH, key):
                append(PATH, {**key, **measure(system, seed, train, test, 60 * arguments.minutes), **facts()})
    for row in read(PATH):
        print(
            f"{row['system']:36s} seed {row['seed']}: {float(row['accuracy']):.4f}, {row['epochs']} epochs in "
            f"{float(row['seconds']):.0f} s of {row['cores']} cores, {int(row['parameters']):,} parameters"
        )


# ---------------------------------------------------------------------------------------------------- the systems


def ours(family, **arguments):
    """One of our builders with its defaults."""

    def build():
        return getattr(recipes, family)((28, 28, 1), 10, **arguments)

    return build, lambda model, x, y, **fit: recipes.fit(model, (x, y), **fit), None


def application(name):
    """A network of keras.applications from random weights; batches of 32, as `fit` has them."""

    def build():
        model = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=10)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def prepare(x):
        return np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0))).repeat(3, axis=-1)

    return build, plain_fit, prepare


def hub_vit():
    """KerasHub's ViT in the size of our compact one, compiled by itself, with its own scaling of the pixels."""
    import keras_hub

    backbone = keras_hub.models.ViTBackbone(
        image_shape=(28, 28, 3), patch_size=4, num_layers=6, num_heads=4, hidden_dim=128, mlp_dim=256
    )
    return keras_hub.models.ViTImageClassifier(backbone, num_classes=10, preprocessor=None)


def hub_resnet():
    """KerasHub's ResNet-18, compiled by itself."""
    import keras_hub

    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(28, 28, 3),
    )
    return keras_hub.models.ResNetImageClassifier(backbone, num_classes=10, preprocessor=None)


def plain_fit(model, x, y, **fit):
    return model.fit(x, y, **fit)


def scaled(x):
    return x.repeat(3, axis=-1).astype("float32") / 127.5 - 1


SYSTEMS = {
    "recipes.resnet": lambda: ours("resnet"),
    "recipes.vit": lambda: ours("vit"),
    "recipes.efficientnet": lambda: ours("efficientnet"),
    "keras_hub ResNet-18": lambda: (hub_resnet, plain_fit, scaled),
    "keras_hub ViT 128x6": lambda: (hub_vit, plain_fit, scaled),
    "keras.applications EfficientNetV2B0": lambda: application("EfficientNetV2B0"),
}


def measure(system, seed, train, test, seconds):
    build, fit, prepare = SYSTEMS[system]()
    (x, y), (x_test, y_test) = train, test
    if prepare is not None:
        x, x_test = prepare(x), prepare(x_test)
    keras.utils.set_random_seed(seed)
    size = 32 if fit is plain_fit else build().recipe["training"]["batch_size"]
    clock = Steps()
    fit(build(), x[: PROBE * size], y[: PROBE * size], epochs=1, batch_size=size, verbose=0, callbacks=[clock])
    step = float(np.median(np.diff(clock.times)[1:]))
    epochs = max(1, int(seconds / (step * len(y) / size)))
    print(f"{system}: {1000 * step:.0f} ms a step of {size}, so {epochs} epochs", flush=True)
    keras.utils.set_random_seed(seed)
    model, start, cpu = build(), time.perf_counter(), time.process_time()
    fit(model, x, y, epochs=epochs, batch_size=size, verbose=2)
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
    accuracy = float(np.mean(np.argmax(model.predict(x_test, verbose=0), axis=-1) == y_test))
    return {
        "accuracy": f"{accuracy:.4f}",
        "epochs": epochs,
        "seconds": round(elapsed),
        "cpu_seconds": round(cpu),
        "parameters": model.count_params(),
    }


def choose(family, settings, x, y, epochs):
    """Return the accuracy on the last 10,000 images of one of our builders with some settings, trained on the others."""
    keras.utils.set_random_seed(0)
    model = getattr(recipes, family)((28, 28, 1), 10, **settings)
    recipes.fit(model, (x[:HELD_OUT], y[:HELD_OUT]), epochs=epochs, verbose=0)
    found = model.predict(x[HELD_OUT:], batch_size=256, verbose=0)
    return float(np.mean(np.argmax(found, axis=-1) == y[HELD_OUT:]))


if __name__ == "__main__":
    main()
