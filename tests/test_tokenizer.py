"""Tokenizers: what they make of texts, files in and out of place, and what they refuse."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import recipes
from recipes.data import Tokenizer

TEXTS = [
    "The cat sat on the mat.",
    "A dog, unaffable and old, sat near the cat!",
    "Dogs and cats: are they friends?",
    "Crème brûlée for 2 friends",
]
IDS = ("padding_id", "unknown_id", "start_id", "end_id", "mask_id")
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "un", "##aff", "##able", "!", "creme"]


@pytest.fixture(scope="module", params=["wordpiece", "bpe", "unigram", "character"])
def trained(request):
    size = {"wordpiece": 90, "bpe": 300, "unigram": 60}.get(request.param)
    return request.param, Tokenizer.train(TEXTS, request.param, vocabulary_size=size)


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, contents in files.items():
        contents = contents if isinstance(contents, str) else json.dumps(contents)
        (folder / name.replace("__", ".")).write_text(contents, encoding="utf-8")
    return folder


# Training


def test_ids_and_texts(trained):
    kind, tokenizer = trained
    assert [getattr(tokenizer, name) for name in IDS] == [0, 1, 2, 3, 4] == tokenizer.special_ids
    ids = tokenizer.encode(TEXTS)
    assert ids.dtype == "int32" and ids.shape[0] == 4 and ids.min() == 0 and ids.max() < tokenizer.vocabulary_size
    for row in ids:
        real = row[row != 0]
        assert real[0] == 2 and real[-1] == 3 and not (row[len(real) :]).any()
    back = tokenizer.decode(ids)
    if kind == "wordpiece":
        assert back[3] == "creme brulee for 2 friends"
    else:
        assert back == TEXTS
    assert tokenizer.decode(ids, special_tokens=True)[0].startswith(("[CLS]", "<s>"))
    assert tokenizer.decode(tokenizer.encode(["cat"], padding=None)) == ["cat"]


def test_lengths_and_pairs(trained):
    _, tokenizer = trained
    ids = tokenizer.encode(TEXTS, max_length=6)
    assert ids.shape == (4, 6) and (ids[:, 5] == 3).all()
    assert tokenizer.encode(["cat"], max_length=40, padding="max_length").shape == (1, 40)
    rows = tokenizer.encode(TEXTS, special_tokens=False, padding=None)
    assert isinstance(rows, list) and all(isinstance(i, int) for row in rows for i in row) and not {2, 3} & {*rows[0]}
    first, second = (tokenizer.encode([text], special_tokens=False)[0].tolist() for text in ("cat", "dog"))
    assert tokenizer.encode(["cat"], pairs=["dog"])[0].tolist() == [2, *first, 3, *second, 3]
    assert tokenizer.encode(["", "cat"])[0, :3].tolist()[:2] == [2, 3]


def test_saving(trained, tmp_path):
    _, tokenizer = trained
    tokenizer.max_length = 20
    try:
        tokenizer.save(tmp_path)
        loaded = Tokenizer.load(tmp_path)
    finally:
        tokenizer.max_length = None
    np.testing.assert_array_equal(loaded.encode(TEXTS), tokenizer.encode(TEXTS, max_length=20))
    assert loaded.max_length == 20 and loaded.special_ids == [0, 1, 2, 3, 4]
    assert [getattr(loaded, name) for name in (*IDS, "vocabulary_size")] == [
        getattr(tokenizer, name) for name in (*IDS, "vocabulary_size")
    ]


def test_bytes_give_every_text_back():
    tokenizer = Tokenizer.train(TEXTS, "bpe", vocabulary_size=270)
    strange = ["\tTabs,  two spaces\nand lines\r\n", "漢字 ☃ \U0001f600", "\x00"]
    assert tokenizer.decode(tokenizer.encode(strange)) == strange
    assert 1 not in tokenizer.encode(strange)


def test_characters():
    tokenizer = Tokenizer.train(["ab a\n"], "character")
    assert tokenizer.vocabulary_size == 5 + 4
    assert tokenizer.encode(["a\nz"], special_tokens=False).tolist() == [[5, tokenizer.encode(["\n"])[0, 1], 1]]
    assert Tokenizer.train(["aab"], "character", vocabulary_size=6).encode(["ab"])[0].tolist() == [2, 5, 1, 3]
    assert Tokenizer.train(["aA"], "character", lowercase=True).vocabulary_size == 6


def test_the_same_texts_give_the_same_ids():
    """In another process, too: the library's hash maps have another order there."""
    code = (
        "from recipes.data import Tokenizer\n"
        f"for kind in ('wordpiece', 'bpe', 'character'):\n"
        f"    print(Tokenizer.train({TEXTS!r}, kind, vocabulary_size=300).encode({TEXTS!r}).tolist())"
    )
    command, folder = [sys.executable, "-c", code], os.path.dirname(os.path.dirname(__file__))
    found = {subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(found) == 1


# Files


def test_vocab_txt(tmp_path):
    folder = write(tmp_path, vocab__txt="\n".join(VOCABULARY) + "\n")
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.vocabulary_size == len(VOCABULARY) and tokenizer.special_ids == [0, 1, 2, 3, 4]
    ids = tokenizer.encode(["The CAT Crème!", "unaffable dog"])
    assert ids.tolist() == [[2, 5, 6, 12, 11, 3], [2, 8, 9, 10, 1, 3]]
    assert tokenizer.decode(ids) == ["the cat creme!", "unaffable"]
    assert tokenizer.encode(["a [MASK] cat"])[0].tolist() == [2, 1, 4, 6, 3]
    # who says nothing of the case is told by the words
    cased = Tokenizer.load(write(tmp_path / "cased", vocab__txt="\n".join([*VOCABULARY, "Cat"])))
    assert cased.encode(["Cat cat CAT"])[0].tolist() == [2, 13, 6, 1, 3]
    said = write(tmp_path / "cased", tokenizer_config__json={"do_lower_case": True, "model_max_length": 4})
    assert Tokenizer.load(said).encode(["Cat cat CAT"])[0].tolist() == [2, 6, 6, 3]


def test_padding_and_truncation_in_the_file_do_not_count(tmp_path):
    tokenizer = Tokenizer.train(TEXTS, "character")
    tokenizer.pipeline.enable_padding(length=50, pad_id=3)
    tokenizer.pipeline.enable_truncation(5)
    (tmp_path / "tokenizer.json").write_text(tokenizer.pipeline.to_str(), encoding="utf-8")
    assert Tokenizer.load(tmp_path).encode(TEXTS[:1]).shape == (1, 25)
    write(tmp_path, sentence_bert_config__json={"max_seq_length": 7}, tokenizer_config__json={"model_max_length": 9})
    loaded = Tokenizer.load(tmp_path)
    assert loaded.max_length == 7 and loaded.padding_id == 0 and loaded.encode(TEXTS[:1]).shape == (1, 7)


def bytes_folder(folder, special):
    """`vocab.json` and `merges.txt` of a tokenizer of bytes with other special tokens."""
    pipeline = Tokenizer.train(TEXTS, "bpe", vocabulary_size=300).pipeline
    model = json.loads(pipeline.to_str())["model"]
    words = [word for word in model["vocab"] if not word.startswith("<")]
    vocabulary = {word: i for i, word in enumerate([*special, *words])}
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return write(folder, vocab__json=vocabulary, merges__txt="\n".join(["#version: 0.2", *merges, ""]))


def test_files_of_gpt2(tmp_path):
    folder = bytes_folder(tmp_path, ["<|endoftext|>"])
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.padding_id is None and tokenizer.mask_id is None
    assert tokenizer.start_id == tokenizer.end_id == 0 and tokenizer.special_ids == [0]
    rows = tokenizer.encode(TEXTS, padding=None)
    assert 0 not in rows[0] and tokenizer.decode(rows) == TEXTS
    assert tokenizer.encode(TEXTS[:1]).shape == (1, len(rows[0]))
    with pytest.raises(ValueError, match="no padding"):
        tokenizer.encode(TEXTS)
    padded = Tokenizer.load(folder, padding="<|endoftext|>")
    assert padded.padding_id == 0 and padded.encode(TEXTS).shape[0] == 4
    with pytest.raises(ValueError, match="padding must be a token"):
        Tokenizer.load(folder, padding="[PAD]")


def test_files_of_roberta(tmp_path):
    tokenizer = Tokenizer.load(bytes_folder(tmp_path, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]))
    assert [getattr(tokenizer, name) for name in IDS] == [1, 3, 0, 2, 4]
    (cat,) = tokenizer.encode(["cat"], special_tokens=False, padding=None)
    assert tokenizer.encode(["cat"], pairs=["cat"])[0].tolist() == [0, *cat, 2, 2, *cat, 2]


@pytest.mark.parametrize(
    "files, words",
    [
        ({}, "no tokenizer.json"),
        ({"tokenizer__json": "{}"}, "folder must hold"),
        ({"tokenizer__json": "[" * 100_000}, "folder must hold"),
        ({"vocab__txt": "a\nb"}, "folder must hold"),
        ({"vocab__json": {"a": 0}}, "not both"),
        ({"vocab__json": {"a": 0, "b</w>": 1}, "merges__txt": "a b</w>"}, "ends of words"),
        ({"tokenizer_config__json": "{"}, "not JSON"),
    ],
)
def test_files_out_of_place(tmp_path, files, words):
    with pytest.raises(ValueError, match=words):
        Tokenizer.load(write(tmp_path, **files))


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r'pip install "keras-recipes\[weights\]"'):
        Tokenizer.train(TEXTS)


# What is refused


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda t: t.encode("cat"), "list of strings"),
        (lambda t: t.encode([]), "0 texts"),
        (lambda t: t.encode(["cat", None]), r"texts\[1\]=None"),
        (lambda t: t.encode(["cat"], pairs=["a", "b"]), "pairs must be as many"),
        (lambda t: t.encode(["cat", ""], special_tokens=False), r"texts\[1\] is empty"),
        (lambda t: t.encode(["\ud800"]), "not valid Unicode"),
        (lambda t: t.encode(["cat"], max_length=2), "max_length must be an integer > 2"),
        (lambda t: t.encode(["cat"], max_length=2.5), "max_length"),
        (lambda t: t.encode(["cat"], padding="left"), "padding"),
        (lambda t: t.encode(["cat"], padding="max_length"), "max_length must be given"),
        (lambda t: t.encode(["a", "the cat sat"], max_length=6, truncate=False), r"texts\[1\] has \d+ ids"),
        (lambda t: t.decode([2, 5, 3]), "rows of integers"),
        (lambda t: t.decode([[0.5]]), "rows of integers"),
        (lambda t: t.decode([[-1]]), "Received: -1"),
        (lambda t: t.decode([[9999]]), "Received: 9999"),
        (lambda t: t.train("cat"), "list of strings"),
        (lambda t: t.train(["", " "]), "not empty"),
        (lambda t: t.train(["cat"], "words"), "kind must be"),
        (lambda t: t.train(["cat"], vocabulary_size=5), "vocabulary_size must be an integer >= 6"),
        (lambda t: t.train(["cat"], "bpe", vocabulary_size=99), "vocabulary_size must be at least 261"),
    ],
)
def test_refused(call, words):
    tokenizer = Tokenizer.train(TEXTS, "character")
    with pytest.raises(ValueError, match=words):
        call(tokenizer)


@pytest.mark.parametrize("texts", [np.array(["good", "bad"]), ["good", "bad"], np.array(["good", "bad"], object)])
def test_texts_for_a_model_are_sent_to_the_tokenizer(texts):
    model = recipes.bert(2, vocabulary_size=20, max_length=8, width=16, heads=2, depth=1)
    with pytest.raises(ValueError, match="Tokenizer"):
        recipes.fit(model, (texts, np.array([0, 1])), epochs=1, verbose=0)
