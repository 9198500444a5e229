"""Images a second and peak memory, training and predicting: ours beside keras.applications, KerasHub and timm.

    python benchmarks/throughput.py [--rounds 3] [--rows resnet50v1 ...] [--systems recipes ...] [--steps 5]

Each system runs in a process of its own, one after the other, round after round; a row's ratio is the median, over the
rounds, of ours to the fastest Keras peer of that round. All train with AdamW and cross-entropy on random images and
labels in float32, batches of 32; timm also in bfloat16 and with channels last. Run it in an environment that has
keras-hub, torch and timm beside recipes, on an idle machine. Results: benchmarks/results/throughput.csv, a line a process.
"""

import argparse
import csv
import datetime
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "throughput.csv"
FIELDS = ["row", "system", "round", "train", "predict", "peak_mb", "parameters", "date", "made_with"]
BATCH = 32
ROWS = {  # side of the images, then the systems; ours first
    "resnet50v1": (64, ["recipes", "keras.applications"]),
    "resnet50": (64, ["recipes", "keras_hub", "timm", "timm bf16", "timm channels_last"]),
    "efficientnetv2b0": (96, ["recipes", "keras.applications", "timm", "timm bf16", "timm channels_last"]),
    "vit_tiny": (64, ["recipes", "keras_hub", "timm", "timm bf16"]),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="timed steps a process; the median counts")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--systems", nargs="+", choices=sorted({s for _, systems in ROWS.values() for s in systems}))
    parser.add_argument("--one", nargs=2, metavar=("ROW", "SYSTEM"), help="what a process of its own runs")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one, arguments.steps)))
        return
    done = {(row["row"], row["system"], row["round"]) for row in read()}
    for number in range(arguments.rounds):
        for row in arguments.rows:
            for system in ROWS[row][1]:
                if arguments.systems and system not in arguments.systems:
                    continue
                if (row, system, str(number)) not in done:
                    append({"row": row, "system": system, "round": number, **run(row, system, arguments.steps)})
    show(read())


def run(row, system, steps):
    command = [sys.executable, __file__, "--one", row, system, "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode:
        sys.exit(f"{row}, {system}:\n{done.stderr[-3000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"{row:18s} {system:20s} train {result['train']:8.1f}/s  predict {result['predict']:8.1f}/s", flush=True)
    return {**result, "date": datetime.date.today().isoformat()}


def measure(row, system, steps):
    side = ROWS[row][0]
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (BATCH, side, side, 3)).astype("float32"), random.integers(0, 1000, BATCH)
    train, predict, parameters, versions = (torch_steps if system.startswith("timm") else keras_steps)(row, system, x, y)
    rates = {"train": BATCH / median_time(train, steps), "predict": BATCH / median_time(predict, steps)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {**{k: round(v, 2) for k, v in rates.items()}, "peak_mb": peak, "parameters": parameters, "made_with": versions}


def median_time(step, steps):
    for _ in range(2):
        step()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def keras_steps(row, system, x, y):
    import keras

    model = {"recipes": our_model, "keras.applications": application, "keras_hub": hub_model}[system](row, x.shape[1:])
    y = y.astype("int32")
    if system != "recipes":
        model.compile("adamw", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    versions = f"keras {keras.__version__} on {keras.backend.backend()}"
    parameters = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    return lambda: model.train_on_batch(x, y), lambda: model.predict_on_batch(x), parameters, versions


def our_model(row, shape):
    import recipes

    if row.startswith("resnet"):
        variant = row.removeprefix("resnet")
        model = recipes.resnet(shape, 1000, variant=variant, stem="imagenet")
    elif row == "vit_tiny":
        model = recipes.vit(shape, 1000, variant="tiny", drop_path=0.0)
    else:
        model = recipes.efficientnet(shape, 1000, variant="v2b0", stem="imagenet", drop_path=0.0)
    model.compile(model.optimizer, model.loss)  # without the metric, as the peers
    return model


def application(row, shape):
    import keras

    name = {"resnet50v1": "ResNet50", "efficientnetv2b0": "EfficientNetV2B0"}[row]
    return getattr(keras.applications, name)(weights=None, input_shape=shape, classifier_activation=None)


def hub_model(row, shape):
    import keras_hub

    if row == "vit_tiny":
        backbone = keras_hub.models.ViTBackbone(
            image_shape=shape, patch_size=16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768
        )
        return keras_hub.models.ViTImageClassifier(backbone, num_classes=1000, preprocessor=None)
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=shape,
    )
    return keras_hub.models.ResNetImageClassifier(backbone, num_classes=1000, preprocessor=None)


def torch_steps(row, system, x, y):
    import contextlib

    import timm
    import torch

    if row == "vit_tiny":
        model = timm.create_model("vit_tiny_patch16_224", img_size=x.shape[1])
    else:
        model = timm.create_model({"resnet50": "resnet50", "efficientnetv2b0": "tf_efficientnetv2_b0"}[row])
    images, labels = torch.from_numpy(x.transpose(0, 3, 1, 2) / 255), torch.from_numpy(y)
    if "channels_last" in system:
        model, images = (value.to(memory_format=torch.channels_last) for value in (model, images))
    half = "bf16" in system

    def precision():
        return torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext()

    optimizer = torch.optim.AdamW(model.parameters())

    def train():
        model.train()
        optimizer.zero_grad()
        with precision():
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()

    def predict():
        model.eval()
        with precision(), torch.no_grad():
            model(images)

    versions = f"timm {timm.__version__}, torch {torch.__version__}"
    return train, predict, sum(p.numel() for p in model.parameters()), versions


def read():
    if not RESULTS.exists():
        return []
    with open(RESULTS, newline="") as file:
        return list(csv.DictReader(file))


def append(row):
    new = not RESULTS.exists()
    with open(RESULTS, "a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def show(rows):
    for name, (side, systems) in ROWS.items():
        rounds = sorted({row["round"] for row in rows if row["row"] == name})
        print(f"\n{name} @{side}: median of {len(rounds)} rounds, images a second; ours over each")
        for system in systems:
            line = f"  {system:20s}"
            for what in ("train", "predict"):
                pairs = [(value(rows, name, r, system, what), value(rows, name, r, "recipes", what)) for r in rounds]
                pairs = [(theirs, ours) for theirs, ours in pairs if theirs and ours]
                if pairs:
                    ratio = statistics.median(ours / theirs for theirs, ours in pairs)
                    line += f" {what} {statistics.median(t for t, _ in pairs):8.1f} (x {ratio:.2f})"
            peaks = [int(row["peak_mb"]) for row in rows if (row["row"], row["system"]) == (name, system)]
            print(line + (f"  peak {statistics.median(peaks):.0f} MB" if peaks else ""))


def value(rows, name, number, system, what):
    found = [r for r in rows if (r["row"], r["round"], r["system"]) == (name, number, system)]
    return float(found[0][what]) if found else None


if __name__ == "__main__":
    main()
