"""Weights by a name of the Hugging Face hub: what is asked for, what is refused, and what comes from the cache."""

import json
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import recipes
from recipes.vision import vit
from recipes.weights import UnsafeFileError, read_state_dict
from recipes.weights.reading import find_file, read_config

FIXTURES = Path(__file__).parent / "fixtures"
REVISION = "0123456789abcdef0123456789abcdef01234567"
NAME = f"someone/vit-micro.v1@{REVISION}"


class EntryNotFoundError(Exception):
    pass


class LocalEntryNotFoundError(EntryNotFoundError):
    pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that is a folder: `{name of a file: its contents}`. What was asked for is in `hub.calls`."""
    fake = types.ModuleType("huggingface_hub")
    fake.utils = types.ModuleType("huggingface_hub.utils")
    fake.utils.EntryNotFoundError, fake.utils.LocalEntryNotFoundError = EntryNotFoundError, LocalEntryNotFoundError
    fake.calls, fake.error, fake.folder, fake.known_to_be_missing = [], None, tmp_path / "snapshot", set()
    fake.folder.mkdir()

    def hf_hub_download(repository, file, *, revision):
        fake.calls.append((repository, file, revision))
        if fake.error is not None:
            raise fake.error
        if not (fake.folder / file).exists():
            raise EntryNotFoundError(f"404: no {file}")
        return str(fake.folder / file)

    fake.hf_hub_download = hf_hub_download
    fake.try_to_load_from_cache = lambda repository, file, revision: object() if file in fake.known_to_be_missing else None
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.setitem(sys.modules, "huggingface_hub.utils", fake.utils)
    return fake


def fill(folder):
    for file in ("config.json", "model.safetensors"):
        shutil.copy(FIXTURES / "vit_transformers" / file, folder / file)


def test_a_model_from_the_hub(hub, monkeypatch):
    """The epsilon of transformers is in config.json, so both files must come."""
    fill(hub.folder)
    sizes = {"width": 24, "depth": 2, "head_width": 8, "mlp_ratio": 2, "patch_size": 8}
    monkeypatch.setitem(vit.VARIANTS, "micro", {**vit.VARIANTS["base"], **sizes})
    model, stored = recipes.vit((32, 32, 3), 3, variant="micro", weights=NAME), np.load(FIXTURES / "vit_tiny.npz")
    np.testing.assert_allclose(model(stored["small"]), stored["transformers"], atol=2e-5)


def test_what_is_asked_for(hub):
    fill(hub.folder)
    assert find_file(NAME) == str(hub.folder / "model.safetensors")
    asked = [("someone/vit-micro.v1", file, REVISION) for file in ("config.json", "model.safetensors")]
    assert hub.calls == asked
    assert read_config(NAME) == json.loads((hub.folder / "config.json").read_text())
    assert list(read_state_dict(NAME)) == list(read_state_dict(hub.folder))


def test_the_older_layout_and_no_config(hub):
    shutil.copy(FIXTURES / "efficientnet_b_tiny.pth", hub.folder / "pytorch_model.bin")
    assert find_file(NAME) == str(hub.folder / "pytorch_model.bin")
    assert read_config(NAME) == {}


def test_a_split_file(hub):
    (hub.folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
    for name in ("1.safetensors", "2.safetensors"):
        (hub.folder / name).write_bytes(b"")
    assert find_file(NAME) == str(hub.folder / "model.safetensors.index.json")
    assert [file for _, file, _ in hub.calls][-2:] == ["1.safetensors", "2.safetensors"]
    (hub.folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../1.safetensors"}}')
    with pytest.raises(UnsafeFileError, match="not a .safetensors file beside it"):
        find_file(NAME)


def test_a_file_of_a_repository(hub):
    (hub.folder / "fp16").mkdir()
    fill(hub.folder / "fp16")
    assert find_file(f"{NAME}/fp16/model.safetensors") == str(hub.folder / "fp16" / "model.safetensors")
    assert [file for _, file, _ in hub.calls] == ["fp16/config.json", "fp16/model.safetensors"]
    with pytest.raises(ValueError, match="has no other.safetensors"):
        find_file(f"{NAME}/other.safetensors")


def test_a_repository_without_weights(hub):
    with pytest.raises(ValueError, match="has no model.safetensors nor .*index.json nor pytorch_model.bin.*Name"):
        find_file(NAME)


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("no connection"), OSError("401 Unauthorized")])
def test_a_hub_that_does_not_answer(hub, error):
    hub.error = error
    with pytest.raises(ValueError, match=f"config.json of .*could not be downloaded \\({error}\\).*Check the name"):
        find_file(NAME)


def test_a_file_that_the_cache_knows_to_be_missing(hub):
    fill(hub.folder)
    hub.known_to_be_missing.add("config.json")
    (hub.folder / "config.json").unlink()

    def offline(repository, file, *, revision):
        if file == "config.json":
            raise LocalEntryNotFoundError("no connection")
        return str(hub.folder / file)

    hub.hf_hub_download = offline
    assert find_file(NAME) == str(hub.folder / "model.safetensors")


@pytest.mark.parametrize(
    "name",
    [
        "someone/vit",
        "someone/vit@main",
        "someone/vit@0123abc",
        f"someone/vit@{REVISION.upper()}",
        f"someone/vit@{REVISION}/../../etc/passwd",
        f"someone/vit@{REVISION}/.hidden",
    ],
)
def test_a_name_needs_a_revision(hub, name):
    with pytest.raises(ValueError, match="owner/name@<the 40 hexadecimal digits.*Received: weights='someone/vit"):
        find_file(name)
    assert hub.calls == []


@pytest.mark.parametrize("name", ["absent.pth", "folder/absent.safetensors", "a/b/c", "../vit", "/someone/vit", "./x/vit"])
def test_paths_are_not_names(hub, name):
    assert find_file(name) == name
    assert hub.calls == []


def test_what_is_on_the_disk_comes_first(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("someone/vit").mkdir(parents=True)
    fill(Path("someone/vit"))
    assert find_file("someone/vit") == "someone/vit/model.safetensors"
    assert hub.calls == []


def test_the_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"needs the package huggingface_hub.*pip install keras-recipes\[weights\]"):
        find_file(NAME)


def test_the_real_package_reads_its_cache(tmp_path, monkeypatch):
    """The layout of the cache: snapshots of links to blobs. There is no network, so none is used."""
    constants = pytest.importorskip("huggingface_hub.constants")
    folder = tmp_path / "models--someone--vit-micro.v1"
    snapshot = folder / "snapshots" / REVISION
    for path in (folder / "blobs", snapshot, folder / "refs"):
        path.mkdir(parents=True)
    for file, blob in (("config.json", "a" * 40), ("model.safetensors", "b" * 64)):
        shutil.copy(FIXTURES / "vit_transformers" / file, folder / "blobs" / blob)
        (snapshot / file).symlink_to(Path("..", "..", "blobs", blob))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert Path(find_file(NAME)) == snapshot / "model.safetensors"
    assert read_config(NAME)["model_type"] == "vit"
    assert list(read_state_dict(NAME)) == list(read_state_dict(FIXTURES / "vit_transformers"))
    other = NAME.replace(REVISION, REVISION[::-1])
    with pytest.raises(ValueError, match="could not be downloaded.*Check the name"):
        find_file(other)


def test_files_of_sentence_transformers_come_too(hub):
    shutil.copytree(FIXTURES / "bert_sentences", hub.folder, dirs_exist_ok=True)
    model = recipes.bert(weights=NAME, task="embed")
    assert {"modules.json", "1_Pooling/config.json"} < {file for _, file, _ in hub.calls}
    assert model.recipe["arguments"]["normalize"] is True and model.output_shape == (None, 16)
