"""Two processes, as on two hosts, must train to the weights of one: `recipes.fit` under `keras.distribution`.

    python benchmarks/two_processes.py [--epochs 3]

Runs a compact ViT, with batch normalisation in its stem, on the digits in one process with one device, then in two processes
that talk over a local port and have two virtual CPU devices each, by plain gradient steps (Adam divides a gradient by its
own size, and where that is zero but for rounding its steps differ). Then two processes train in a directory and are both
killed within an epoch; what the same two end with, started again, must be bit for bit what those without a pause ended with.
Takes a few minutes. Results: benchmarks/results/two_processes.csv.
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROCESSES = 2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--train", nargs=2, metavar=("FILE", "PROCESS"), help="what a process of its own runs")
    parser.add_argument("--port", type=int)
    parser.add_argument("--directory", help="of the checkpoints of such a process")
    arguments = parser.parse_args()
    if arguments.train:
        train_in(arguments.train[0], int(arguments.train[1]), arguments.port, arguments.epochs, arguments.directory)
        return
    os.environ["KERAS_BACKEND"] = "jax"
    import numpy as np
    from rows import RESULTS, append, facts

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "one.npz", Path(folder) / "two.npz"]
        wait([start(paths[0], 0, None, arguments.epochs)])
        port = free_port()
        wait([start(paths[1], number, port, arguments.epochs) for number in range(PROCESSES)])
        one, two = (dict(np.load(path)) for path in paths)
        killed_at, again = kill_and_go_on(Path(folder), arguments.epochs)
    assert one.keys() == two.keys()
    apart = max(float(np.abs(one[name] - two[name]).max()) for name in one if name.startswith("end"))
    moved = max(float(np.abs(one[name] - one[f"start{name[3:]}"]).max()) for name in one if name.startswith("end"))
    losses = float(np.abs(one["losses"] - two["losses"]).max())
    equal = all(two[name].tobytes() == again[name].tobytes() for name in two)
    row = {"processes": PROCESSES, "epochs": arguments.epochs, "moved": moved, "apart": apart, "losses_apart": losses}
    row |= {"killed_at": killed_at, "resumed_equal": "yes" if equal else "no"}
    print(append(RESULTS / "two_processes.csv", {**row, **facts()}))
    assert apart < 1e-6 and equal


def kill_and_go_on(folder, epochs):
    """Kill two processes that train in a directory within their second epoch; return where, and what they end with later."""
    import numpy as np

    path, directory, port = folder / "again.npz", folder / "run", free_port()
    running = [start(path, number, port, epochs, directory) for number in range(PROCESSES)]
    while True:
        time.sleep(0.01)
        with contextlib.suppress(OSError, ValueError):
            report = json.loads((directory / "report.json").read_text())
            if report.get("epoch") and report.get("batch"):
                break
        assert all(process.poll() is None for process in running)
    for process in running:
        process.kill()
        process.wait()
    port = free_port()
    wait([start(path, number, port, epochs, directory) for number in range(PROCESSES)])
    return f"epoch {report['epoch']} batch {report['batch']}", dict(np.load(path))


def start(path, number, port, epochs, directory=None):
    """Start a process; with a `port` it is one of several."""
    command = [sys.executable, __file__, "--epochs", str(epochs), "--train", str(path), str(number)]
    command += [] if directory is None else ["--directory", str(directory)]
    devices = 1 if port is None else 2
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    return subprocess.Popen([*command, *([] if port is None else ["--port", str(port)])], env=environment)


def wait(processes):
    codes = [process.wait() for process in processes]
    if any(codes):
        sys.exit(f"a process failed: exit codes {codes}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def train_in(path, number, port, epochs, directory):
    """Train, alone or as process `number` of several, and write the weights; of several the first writes."""
    import keras
    import numpy as np

    import recipes
    from recipes.training.recipe import recompile

    if port is not None:
        keras.distribution.initialize(f"127.0.0.1:{port}", PROCESSES, number)
        distribution = keras.distribution.DataParallel(
            devices=keras.distribution.list_devices("cpu"), auto_shard_dataset=False
        )
        assert distribution.num_model_replicas == 2 * PROCESSES
        keras.distribution.set_distribution(distribution)
    keras.utils.set_random_seed(0)
    data = recipes.data.load("digits")
    # of a last batch that four devices cannot share evenly they would leave some out
    train, validation = ((x[:n], y[:n]) for (x, y), n in ((data.train, 352), (data.validation, 64)))
    model = recompile(recipes.vit((8, 8, 1), 10, width=32, depth=2), optimizer="sgd", learning_rate=0.05)
    arrays = {f"start{i}": weight for i, weight in enumerate(model.get_weights())}
    more = {"validation": validation, "verbose": 2 if number == 0 else 0}
    if directory is not None:
        more |= {"directory": directory, "save_steps": 1}
    history = recipes.fit(model, train, epochs=epochs, batch_size=32, **more).history
    arrays |= {f"end{i}": weight for i, weight in enumerate(model.get_weights())}
    if number == 0:
        np.savez(path, losses=np.array([history["loss"], history["val_loss"]]), **arrays)


if __name__ == "__main__":
    main()
