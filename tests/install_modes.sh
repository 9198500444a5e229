#!/bin/sh
# Installs the package in every way there is and imports it from its root and from elsewhere. Two minutes, no network:
#
#     sh tests/install_modes.sh
#
# Each environment is new and sees the packages of the one in .venv (or of $PYTHON), but not its recipes.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export KERAS_BACKEND="${KERAS_BACKEND:-jax}" TF_CPP_MIN_LOG_LEVEL=3
mkdir "$work/else where"

cat > "$work/check.py" <<'PYTHON'
import sys

import recipes
import recipes.callbacks
from recipes.layers import Standardize

folder = sys.argv[1]  # where the package must come from
assert recipes.__file__.startswith(folder), (recipes.__file__, folder)
assert Standardize.__module__ == "recipes.layers.standardize"
assert recipes.mlp((4,), 3).get_layer("standardize").__class__ is Standardize
assert recipes.callbacks.WarmupCosine.__module__.startswith("recipes.callbacks.")
assert recipes.layers.__file__.startswith(folder), recipes.layers.__file__
if len(sys.argv) > 2:  # a user's own layers.py beside the script
    import layers

    assert layers.mine
PYTHON
cp "$work/check.py" "$work/else where/script.py"
echo "mine = True" > "$work/else where/layers.py"

check() { # where from, the folder to run in, python's arguments
    where=$1
    cd "$2"
    shift 2
    "$new" "$@" > "$work/log" 2>&1 || { echo "$mode, from $where: FAILED"; cat "$work/log"; exit 1; }
    echo "$mode, from $where: ok"
}

for mode in wheel sdist . "-e ." "-e . strict" none; do
    source="$work/source of $mode" # a copy: building leaves files behind
    mkdir "$source"
    (cd "$root" && tar cf - --exclude='./.*' --exclude=__pycache__ --exclude=build --exclude='*.egg-info' .) | tar xf - -C "$source"
    "$python" -m venv --without-pip "$work/env of $mode"
    new="$work/env of $mode/bin/python"
    site=$("$new" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "$packages" > "$site/packages.pth"
    install() {
        "$python" -m pip --python "$new" install --quiet --no-deps --no-build-isolation --ignore-installed "$@" > "$work/log" 2>&1 ||
            { echo "$mode: not installed"; cat "$work/log"; exit 1; }
    }
    build() { "$python" -m build --no-isolation --outdir "$work/dist" "$@" "$source" > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }; }
    from=$site/recipes
    case $mode in
    wheel) build --wheel; install "$work"/dist/*.whl ;;
    sdist) build --sdist; install "$work"/dist/*.tar.gz ;;
    .) install "$source" ;;
    "-e .") install -e "$source"; from=$source ;;
    "-e . strict") install -e "$source" --config-settings editable_mode=strict; from=$source ;;
    none) export PYTHONPATH="$source"; from=$source ;;
    esac
    check "the root" "$source" -c "$(cat "$work/check.py")" "$source" # the folder that Python starts in comes first
    check elsewhere "$work/else where" script.py "$from" mine
done
