"""The package as a whole: what an import costs and gives, what the wheel holds, and that every example runs."""

import ast
import doctest
import importlib
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import types
import zipfile

import keras
import numpy as np
import pytest

import recipes

ROOT = pathlib.Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = {"recipes": ROOT / "recipes", "recipes.layers": ROOT / "layers", "recipes.callbacks": ROOT / "callbacks"}

# The files that may import a backend, inside a function, and which.
BACKEND_IMPORTS = {
    "recipes/data/pipeline.py": {"tensorflow"},
    "recipes/data/streams.py": {"tensorflow"},
    "callbacks/ema.py": {"tensorflow", "jax"},
    "layers/fused_batch_norm.py": {"tensorflow"},
    "recipes/training/fused.py": {"tensorflow"},
    "recipes/sequence/compiled.py": {"tensorflow", "jax"},
    "recipes/training/finite.py": {"tensorflow", "jax"},
    "recipes/training/precision.py": {"tensorflow", "jax"},
    "recipes/training/run.py": {"jax"},
    "recipes/generative/gradients.py": {"tensorflow", "jax", "torch"},
    "recipes/generative/phased.py": {"tensorflow", "jax", "torch"},
    "recipes/vision/gradients.py": {"jax"},
}


def modules():
    """Names of the package's modules, from the folders: in a checkout `recipes.__path__` also holds the root."""
    found = []
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found.append(".".join([package, *(part for part in parts if part != "__init__")]))
    return found


def run(code, cwd, *, path=ROOT, **env):
    """Run Python code in a process of its own with `path` to import from; return what it prints."""
    env = {**os.environ, "PYTHONPATH": str(path), "TF_CPP_MIN_LOG_LEVEL": "3", **env}
    command = [sys.executable, *([code] if isinstance(code, pathlib.Path) else ["-c", code])]
    result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


# Importing


def test_import_loads_no_framework(tmp_path):
    loaded = run("import sys, recipes; dir(recipes); print(*sys.modules)", tmp_path).split()
    frameworks = {"keras", "keras_tuner", "tensorflow", "jax", "torch", "numpy", "sklearn"}
    assert not frameworks & {name.partition(".")[0] for name in loaded}


def test_names_are_the_same_in_every_order_of_imports(tmp_path):
    """A module and a function of one name would make the second look-up another thing than the first."""
    look = "first = {n: getattr(recipes, n) for n in NAMES}\n"
    load = "for m in MODULES: importlib.import_module(m)\n"
    again = (
        "assert all(getattr(recipes, n) is first[n] for n in NAMES)\n"
        "assert all(callable(first[n]) for n in recipes._PUBLIC)\n"
        "assert all(isinstance(first[n], types.ModuleType) for n in recipes._PACKAGES)\n"
    )
    twice = look + look.replace("first", "second")
    for names, body in (
        ("recipes.__all__", twice + load + again + "from recipes import *\nmlp, tune, layers"),
        ("recipes.__all__[::-1]", load + twice + again),
    ):
        start = f"import importlib, types, recipes\nMODULES = {modules()}\nNAMES = {names}\n"
        run(start + body, tmp_path, KERAS_BACKEND="jax")


def test_every_public_name_is_there_and_explained():
    for name in recipes.__all__:
        value = getattr(recipes, name)
        assert value.__doc__, f"{name} has no docstring"
        assert name in dir(recipes)
    with pytest.raises(AttributeError, match="no_such_name"):
        recipes.no_such_name  # noqa: B018


def test_no_child_has_the_name_of_a_function():
    children = {path.stem for folder in (ROOT / "recipes", ROOT) for path in folder.iterdir()}
    assert not children & set(recipes._PUBLIC)


def test_the_folders_at_the_root_import_under_one_name_only(tmp_path):
    for name in ("layers", "callbacks"):
        with pytest.raises(AssertionError, match=f"import recipes.{name}, not {name}"):
            run(f"import {name}", ROOT)
    (tmp_path / "layers.py").write_text("mine = 1")
    (tmp_path / "callbacks.py").write_text("mine = 2")
    script = tmp_path / "script.py"
    script.write_text(
        "import layers, recipes, callbacks\nprint(layers.mine, callbacks.mine, recipes.layers.Standardize.__module__)"
    )
    assert run(script, tmp_path, KERAS_BACKEND="jax").split() == ["1", "2", "recipes.layers.standardize"]


def test_backends_are_imported_in_few_files():
    for folder in FOLDERS.values():
        for path in folder.rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                found = {name.partition(".")[0] for name in names} & {"tensorflow", "jax", "torch"}
                assert found <= BACKEND_IMPORTS.get(name, set()), f"{name}, line {node.lineno}"
                assert not (found and node in tree.body), f"{name}, line {node.lineno}: import it where it is used"


# What is installed


def test_the_list_of_packages_is_that_of_the_folders():
    packages = {name for name in modules() if importlib.util.find_spec(name).submodule_search_locations is not None}
    assert set(SETTINGS["tool"]["setuptools"]["packages"]) == packages
    assert SETTINGS["project"]["version"] == recipes.__version__


def test_wheel(tmp_path):
    """Built from the source distribution, without the network, and imported from elsewhere."""
    source = copy_of_the_repository(tmp_path / "source")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", source]
    subprocess.run(command, check=True, capture_output=True)
    (sdist,), (wheel,) = ((tmp_path / "dist").glob(pattern) for pattern in ("*.tar.gz", "*.whl"))
    assert sdist.name.startswith("keras_recipes-")
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
        archive.extractall(tmp_path / "installed")
    assert {name.partition("/")[0].partition("-")[0] for name in files} == {"recipes", "keras_recipes"}
    assert "recipes/py.typed" in files
    assert any(name.endswith("licenses/LICENSE") for name in files)
    sources = {name for name in files if name.endswith(".py")}
    expected = {
        f"{package.replace('.', '/')}/{path.relative_to(folder).as_posix()}"
        for package, folder in FOLDERS.items()
        for path in folder.rglob("*.py")
    }
    assert sources == expected
    code = (
        "import recipes\n"
        "print(len(recipes.__path__), recipes.layers.__file__, recipes.callbacks.__name__, recipes.mlp.__name__)"
    )
    printed = run(code, tmp_path, path=tmp_path / "installed", KERAS_BACKEND="jax").split()
    assert printed[0] == "1" and printed[2:] == ["recipes.callbacks", "mlp"]
    assert pathlib.Path(printed[1]).parent == tmp_path / "installed" / "recipes" / "layers"


def copy_of_the_repository(target):
    skip = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "runs")
    return shutil.copytree(ROOT, target, ignore=skip)


# What is written


@pytest.mark.parametrize("name", modules())
def test_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    result = doctest.testmod(
        module,
        extraglobs={"np": np, "keras": keras, "recipes": recipes, **_public_names(module)},
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
    )
    assert result.failed == 0


def _public_names(module):
    return {k: v for k, v in vars(module).items() if not k.startswith("_") and not isinstance(v, types.ModuleType)}


def readme_blocks():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pattern = re.compile(r"(<!-- not run: [^>]+-->\s*)?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for match in pattern.finditer(text):
        if not match[1]:
            yield pytest.param(match[2], id=f"line {text[: match.start()].count(chr(10)) + 1}")


@pytest.mark.parametrize("block", readme_blocks())
def test_readme(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "<README>", "exec"), {"__name__": "__main__"})


# The longest, whose families the blocks of the README or the tests of their files show too.
LONG_EXAMPLES = {
    *("clip", "convnext", "dalle", "diffusion", "explain", "lstm", "schedules", "training_recipes", "translate"),
    *("fine_tune", "gan", "gpt", "resnet", "tune", "vit"),
}
EXAMPLES = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.thorough] if path.stem in LONG_EXAMPLES else [])
    for path in sorted((ROOT / "examples").glob("*.py"))
]


@pytest.mark.parametrize("path", EXAMPLES)
def test_examples(path, tmp_path, monkeypatch, capsys):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path), *(["1"] if f"{path.name} [epochs]" in text else [])])
    monkeypatch.setenv("MPLBACKEND", "Agg")
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_no_file_names_a_machine_or_a_registry():
    private = re.compile(
        r"(?<![\w.])/(work|root|home|Users|opt|mnt)/\w|[A-Z]:\\\w|(pypi|pythonhosted)\.org|(extra-)?index-url"
    )
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path == pathlib.Path(__file__).resolve() or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found = private.search(text)
        assert not found, f"{name}: {found[0]}"
