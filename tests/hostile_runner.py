"""Opens the files of `tests/hostile_files.py` one by one and takes down what happens: `python -m tests.hostile_runner`.

It prints a line of JSON a file. Files are made first, then memory is limited and what the interpreter does is watched.
"""

import argparse
import gc
import json
import os
import re
import resource
import socket
import sys
import time
import warnings
from pathlib import Path

import keras
import numpy as np

import recipes
from tests import hostile_files as files

MEMORY = 100 << 20  # bytes more than at the start
WATCHED = ("os.", "subprocess", "socket", "exec", "compile", "import", "pickle", "marshal", "shutil", "ctypes", "urllib")
BY_RIGHT = ("os.listdir", "os.scandir", "os.fwalk", "os.walk")


class Watch:
    """Takes down what the interpreter does that opening a file must not: other files, processes, sockets, code."""

    def __init__(self):
        self.events, self.folder = [], None
        sys.addaudithook(self.see)

    def see(self, event, arguments):
        if self.folder is None:
            return
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if path == "/proc/meminfo" and not writes:  # Keras asks how much memory there is
                return
            if writes or not os.path.realpath(os.fspath(path)).startswith(self.folder):
                self.events.append(f"open {path}")
        elif event.startswith(WATCHED) and event not in BY_RIGHT:
            self.events.append(f"{event} {str(arguments)[:80]}")


def memory():
    """Return how much memory the process has, and the most it had since the last call, in bytes."""
    text = Path("/proc/self/status").read_text()
    now, peak = (int(re.search(rf"{field}:\s+(\d+) kB", text)[1]) << 10 for field in ("VmRSS", "VmHWM"))
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not allowed everywhere; the limit below still holds
        pass
    return now, peak


def limit_memory():
    """Let the process have `MEMORY` more than it has now."""
    text = Path("/proc/self/status").read_text()
    used = int(re.search(r"VmData:\s+(\d+) kB", text)[1]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def doors(row, good, model):
    """Return what one would open the file of a row with: functions of a path."""
    load = recipes.load_weights
    if row.door == "bert":
        return {"recipes.bert": lambda path, **_: recipes.bert(weights=path)}
    if row.door == "weights":
        return {"load_weights": lambda path, **arguments: load(model, path, **arguments) and None}
    whole = {"load_model": lambda path: recipes.load_model(path)}
    if row.door == "archive":
        if row.outcome == files.REFUSED:
            whole["load_weights"] = lambda path: load(model, path) and None
        else:
            whole = {}
        whole["load_model(trusted=True)"] = lambda path: recipes.load_model(path, trusted=True)
    return whole


def state(model):
    return [array.tobytes() for array in model.get_weights()]


def reset(model):
    model.set_weights([np.zeros_like(array) for array in model.get_weights()])
    return state(model)


def attempt(open_file, path, arguments, model, good, watch, folder):
    """Open a file; return what became of it."""
    before, wanted = reset(model), state(good.model)
    start_memory, _ = memory()
    watch.events, watch.folder = [], os.path.realpath(folder)
    start, error, result = time.process_time(), None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = open_file(path, **arguments)
        except recipes.UnsafeFileError as caught_error:
            error = caught_error
        except BaseException as caught_error:
            error = caught_error
    seconds, watch.folder = time.process_time() - start, None
    _, peak = memory()
    report = {"seconds": round(seconds, 4), "megabytes": round(max(0, peak - start_memory) / 1e6, 1)}
    caught = [warning for warning in caught if not issubclass(warning.category, DeprecationWarning)]  # numpy's and JAX's
    report |= {"events": watch.events, "says": "; ".join(str(w.message) for w in caught)}
    if error is None:
        same = state(result if isinstance(result, keras.Model) else model) == wanted
        report["outcome"] = (files.WARNS if caught else files.LOADS) if same else "loads other weights"
    else:
        report["says"] = f"{error}"
        whole = isinstance(error, recipes.UnsafeFileError) and error.path and error.rule and error.remedy
        report["outcome"] = files.REFUSED if whole else f"raises {type(error).__name__}"
        if state(model) != before:
            report["outcome"] = "changes the model"
    return report


def run(folder, numbers=None, limited=True):
    """Make and open all files; yield `(row, path, wanted outcome, door, report)`."""
    folder = Path(folder)
    good = files.Good(folder)
    rows = [row for row in files.ROWS if numbers is None or row.number in numbers]
    made = []
    for row in rows:
        place = folder / str(row.number)
        place.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of two members of one name
            made += [(row, place, *found) for found in files.make(row, place, good)]
    model = recipes.mlp((4,), 3, hidden=(4, 4))
    for honest in (good.folder, good.archive):  # whatever is imported late is there before anything is watched
        recipes.load_model(honest, trusted=True)
        recipes.load_weights(model, honest)
    recipes.load_weights(model, good.h5)
    recipes.bert(weights=files.FIXTURES / "bert_classify")
    for path in ("vit_timm_token.safetensors", "alexnet_torchvision.pth", "no.file"):
        try:
            recipes.load_weights(model, files.FIXTURES / path)
        except recipes.UnsafeFileError:
            pass
    os.chdir(folder)
    gc.collect()
    gc.freeze()
    watch = Watch()
    if limited:
        limit_memory()
    for row, place, path, outcome, arguments in made:
        for door, open_file in doors(row, good, model).items():
            inside = [] if row.number != 79 else [p.name for p in place.iterdir()]
            report = attempt(open_file, path, arguments, model, good, watch, place)
            if (folder / "canary").exists() or inside and inside != [p.name for p in place.iterdir()]:
                report["events"].append("a file was written")
            yield row, path, outcome, door, report
    row = files.Row(0, "control", None, "weights", "another rule")
    for name, open_file in misbehave(model, folder).items():
        yield row, Path(name), files.REFUSED, "control", attempt(open_file, Path(name), {}, model, good, watch, folder)


def misbehave(model, folder):
    """Return functions that do, one each, what no file may bring about."""

    def burn(path, **_):
        stop = time.process_time() + 1
        while time.process_time() < stop:
            pass
        raise recipes.UnsafeFileError(path, "x", "x", "x")

    def spoil(path, **_):
        model.weights[0].assign(np.ones(4))
        raise recipes.UnsafeFileError(path, "x", "x", "x")

    def then_refuse(deed):
        def open_file(path, **_):
            deed()
            raise recipes.UnsafeFileError(path, "x", "x", "x")

        return open_file

    return {
        "burns a second": burn,
        "changes the model": spoil,
        "takes memory": then_refuse(lambda: np.ones(MEMORY // 8 + (1 << 20))),
        "writes a file": then_refuse(lambda: Path(folder, "evil").write_text("x")),
        "reads a file": then_refuse(lambda: Path(os.__file__).read_bytes()),
        "starts a process": then_refuse(lambda: os.system("true")),
        "opens a socket": then_refuse(lambda: socket.socket().close()),
        "runs code": then_refuse(lambda: exec("1")),
        "raises another error": lambda path, **_: {}[path],
        "says nothing": then_refuse(lambda: None),
    }


def judge(row, outcome, report):
    """Return what is wrong with a report; `""` if nothing is."""
    allowed = (files.REFUSED, files.LOADS, files.WARNS) if outcome == files.SAME else (outcome,)
    problems = [] if report["outcome"] in allowed else [f"{report['outcome']}, wanted: {outcome}"]
    if report["outcome"] in (files.REFUSED, files.WARNS) and not re.search(f"{row.says}|it is not trusted", report["says"]):
        problems.append("it says something else")
    if report["seconds"] >= 1:
        problems.append("it takes too long")
    if report["megabytes"] >= 100:
        problems.append("it takes too much memory")
    if report["events"]:
        problems.append("it does something else")
    return ", ".join(problems)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("numbers", nargs="*", type=int)
    arguments = parser.parse_args()
    start = time.process_time()
    for row, path, outcome, door, report in run(arguments.folder, arguments.numbers or None):
        line = {"number": row.number, "title": row.title, "file": path.name, "door": door, **report}
        print(json.dumps({**line, "problem": judge(row, outcome, report)}), flush=True)
    print(json.dumps({"total": round(time.process_time() - start, 2)}))


if __name__ == "__main__":
    main()
