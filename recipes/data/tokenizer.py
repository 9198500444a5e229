"""Texts to token ids and back, with the `tokenizers` library: files of the Hugging Face hub, or trained on your own."""

import collections
import json
import os

import numpy as np

KINDS = ("wordpiece", "bpe", "unigram", "character")
BERT = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
OTHERS = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "mask_token": "<mask>",
    "cls_token": "<s>",
    "sep_token": "</s>",
}
GPT2 = {"unk_token": "<|endoftext|>", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
MAX_BYTES = 1 << 26  # of a file; the tokenizer.json with the largest vocabularies has 35 million
SIZE = 8000  # of a vocabulary of parts of words; BERT's has 30 thousand, but few have its texts
SAVED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class Tokenizer:
    """Turns texts into rows of token ids and back.

    Make one with `Tokenizer.load`, from the folder of a model, or `Tokenizer.train`, from texts. Models never see a
    text: `tokenizer.encode(texts)` is what `fit` and `predict` take.

    Attributes:
        vocabulary_size: Number of token ids, for the argument of that name.
        max_length: Most ids a text may have, where the files say it, or `None`.
        padding_id: Id that fills rows up on the right. This and the ids below are `None` where there is no such token.
        unknown_id: Id of what the vocabulary does not know.
        start_id, end_id: Ids that stand before and behind a text: `[CLS]` and `[SEP]` of BERT.
        mask_id: Id that hides another, for a masked language model.
        special_ids: Ids of all tokens that stand for no text, in a list.

    Example:

    >>> tokenizer = Tokenizer.train(["the cat sat", "the dog sat"], "character")
    >>> ids = tokenizer.encode(["the dog", "a"])
    >>> ids.shape, str(ids.dtype), ids[1].tolist()
    ((2, 9), 'int32', [2, 7, 3, 0, 0, 0, 0, 0, 0])
    >>> tokenizer.decode(ids)
    ['the dog', 'a']
    """

    def __init__(self, pipeline, tokens, max_length=None):
        """Wrap a `tokenizers.Tokenizer`; `tokens` says its special tokens by their names in `tokenizer_config.json`."""
        self.pipeline = pipeline
        self.tokens = {name: token for name, token in tokens.items() if pipeline.token_to_id(token) is not None}
        self.max_length = max_length
        self.padding_id = self._id("pad_token")
        self.unknown_id = self._id("unk_token")
        self.start_id = self._id("cls_token", "bos_token")
        self.end_id = self._id("sep_token", "eos_token")
        self.mask_id = self._id("mask_token")
        marked = [i for i, token in pipeline.get_added_tokens_decoder().items() if token.special]
        self.special_ids = sorted({*marked, *(pipeline.token_to_id(token) for token in self.tokens.values())})
        self.vocabulary_size = 1 + max(pipeline.get_vocab().values())

    def _id(self, *names):
        found = [self.pipeline.token_to_id(self.tokens[name]) for name in names if name in self.tokens]
        return found[0] if found else None

    @classmethod
    def load(cls, folder, *, padding=None):
        """Load the tokenizer of a folder in the layout of the Hugging Face hub.

        It has `tokenizer.json`; or `vocab.txt`, of BERT; or `vocab.json` and `merges.txt`, of GPT-2 and RoBERTa.
        `tokenizer_config.json` and `special_tokens_map.json` say which tokens are special. Without `do_lower_case` in
        the first, BERT's texts become lower case if no word of `vocab.txt` has an upper-case letter.

        Args:
            folder: The folder.
            padding: Token to fill rows up with, where the files name none, as those of GPT-2 do not; one of the vocabulary.

        Returns:
            `Tokenizer`. Padding and truncation that the files prescribe do not count, but for `max_length`.

        Raises:
            ValueError: If the folder has no such files, or they cannot be read.
            ImportError: If the package `tokenizers` is not installed.
        """
        library = _library()
        config, has = read_json(folder, "tokenizer_config.json"), lambda name: os.path.isfile(os.path.join(folder, name))
        named = {**config, **read_json(folder, "special_tokens_map.json")}
        tokens = {name: _content(named[name]) for name in OTHERS if _content(named.get(name))}
        try:
            if has("tokenizer.json"):
                pipeline = library.Tokenizer.from_str(_read(folder, "tokenizer.json"))
                pipeline.no_padding()
                pipeline.no_truncation()
                known = pipeline.get_vocab()
                usual = next((set_ for set_ in (BERT, OTHERS, GPT2) if set_["unk_token"] in known), {})
            elif has("vocab.txt"):
                usual = BERT
                pipeline = _wordpiece_of(library, _read(folder, "vocab.txt"), config, {**usual, **tokens})
            elif has("vocab.json") and has("merges.txt"):
                vocabulary, merges = json.loads(_read(folder, "vocab.json")), _read(folder, "merges.txt")
                usual = OTHERS if "<s>" in vocabulary else GPT2
                pipeline = _bytes_of(library, vocabulary, merges, config, {**usual, **tokens})
            else:
                raise ValueError("it has no tokenizer.json, no vocab.txt, and not both vocab.json and merges.txt")
        except Exception as error:  # the library raises Exception itself
            raise ValueError(f"folder must hold a tokenizer. Received: folder={str(folder)!r} ({error})") from error
        tokens = {**usual, **tokens}
        if padding is not None:
            if pipeline.token_to_id(padding) is None:
                raise ValueError(f"padding must be a token of the vocabulary. Received: padding={padding!r}")
            tokens["pad_token"] = padding
        return cls(pipeline, tokens, _max_length(folder, config))

    @classmethod
    def train(cls, texts, kind="wordpiece", *, vocabulary_size=None, lowercase=None):
        """Make a tokenizer from texts.

        In every kind the ids 0 to 4 are padding, unknown, start, end and mask. The same texts give the same ids, but for
        `"unigram"`, whose training is not repeatable: keep what you trained with `save`.

        Args:
            texts: Iterable of strings, at least one of them not empty.
            kind: `"wordpiece"`, for BERT: parts of words, without a space; `"bpe"`, for GPT: parts of words as bytes,
                which knows every text and gives it back exactly; `"unigram"`, for translation; `"character"`.
            vocabulary_size: Number of ids, less where the texts have not as many; `None` for 8000, of `"character"`
                for all that there are.
            lowercase: Whether texts become lower case, and lose accents if `"wordpiece"`; `None`: for `"wordpiece"`.

        Returns:
            `Tokenizer`.

        Raises:
            ValueError: If an argument is out of its range, or the texts have more characters than there are ids.
            ImportError: If the package `tokenizers` is not installed.
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}. Received: kind={kind!r}")
        if vocabulary_size is not None and (not isinstance(vocabulary_size, int) or vocabulary_size < 6):
            raise ValueError(f"vocabulary_size must be an integer >= 6. Received: vocabulary_size={vocabulary_size!r}")
        texts = _strings("texts", texts)
        if not any(text.strip() for text in texts):
            raise ValueError("texts must hold a text that is not empty. Received: empty ones alone")
        library = _library()
        lowercase = kind == "wordpiece" if lowercase is None else lowercase
        tokens = BERT if kind == "wordpiece" else OTHERS
        special = list(dict.fromkeys(tokens.values()))
        pipeline = _TRAINERS[kind](library, texts, vocabulary_size, special, lowercase)
        if vocabulary_size is not None and pipeline.get_vocab_size() > vocabulary_size:
            raise ValueError(
                f"vocabulary_size must be at least {pipeline.get_vocab_size()} for the characters of these texts. "
                f"Received: vocabulary_size={vocabulary_size}"
            )
        pipeline.add_special_tokens(special)
        pipeline.post_processor = _around(library, pipeline, tokens["cls_token"], tokens["sep_token"])
        return cls(pipeline, tokens)

    def encode(self, texts, *, pairs=None, max_length=None, truncate=True, special_tokens=True, padding="longest"):
        """Turn texts into ids.

        Args:
            texts: List of strings.
            pairs: List of as many strings, to be joined to the texts: `[CLS] text [SEP] pair [SEP]` in BERT.
            max_length: Most ids a text may have; `None` as `self.max_length` says.
            truncate: Whether longer texts are cut off at the end, the longer one of a pair first; `False` raises.
            special_tokens: Whether the tokens that the model was trained with stand around each text. Without them an
                empty text has no id at all and is refused.
            padding: `"longest"` fills up to the longest text, `"max_length"` to `max_length`, `None` not at all.

        Returns:
            int32 array `(texts, length)`, filled up on the right with `padding_id`. A list of lists if `padding` is `None`.

        Raises:
            ValueError: If `texts` or `pairs` are not lists of strings, or an argument is out of its range.
        """
        texts = _strings("texts", texts)
        if pairs is not None:
            pairs = _strings("pairs", pairs)
            if len(pairs) != len(texts):
                raise ValueError(f"pairs must be as many as texts, {len(texts)}. Received: {len(pairs)} pairs")
        if padding not in ("longest", "max_length", None):
            raise ValueError(f'padding must be "longest", "max_length" or None. Received: padding={padding!r}')
        max_length = self.max_length if max_length is None else max_length
        added = self.pipeline.num_special_tokens_to_add(pairs is not None) if special_tokens else 0
        if max_length is None and padding == "max_length":
            raise ValueError('max_length must be given for padding="max_length". Received: max_length=None')
        if max_length is not None and (not isinstance(max_length, (int, np.integer)) or max_length <= added):
            raise ValueError(
                f"max_length must be an integer > {added}, the number of special tokens. Received: max_length={max_length!r}"
            )
        self.pipeline.no_truncation()
        if max_length is not None and truncate:
            self.pipeline.enable_truncation(int(max_length))  # the library ignores a length that leaves no room
        rows = texts if pairs is None else list(zip(texts, pairs, strict=True))
        rows = [row.ids for row in self.pipeline.encode_batch_fast(rows, add_special_tokens=special_tokens)]
        longest = max(map(len, rows))
        if max_length is not None and longest > max_length:
            place = next(i for i, row in enumerate(rows) if len(row) > max_length)
            raise ValueError(
                f"texts[{place}] has {len(rows[place])} ids, and max_length is {max_length}. Pass truncate=True, or cut it."
            )
        if not all(rows):
            place = next(i for i, row in enumerate(rows) if not row)
            raise ValueError(
                f"texts[{place}] is empty: it has no id at all. Leave it out, or pass special_tokens=True. "
                f"Received: {texts[place]!r}"
            )
        return rows if padding is None else self._filled(rows, longest if padding == "longest" else max_length)

    def _filled(self, rows, length):
        if self.padding_id is None and any(len(row) < length for row in rows):
            raise ValueError(
                "texts differ in length and this tokenizer has no padding. Pass padding=None for a list of lists, or load "
                'it with a token to fill up with, such as Tokenizer.load(folder, padding="<|endoftext|>").'
            )
        ids = np.full((len(rows), length), 0 if self.padding_id is None else self.padding_id, "int32")
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
        return ids

    def decode(self, ids, *, special_tokens=False):
        """Turn rows of ids into texts.

        Args:
            ids: Integer array `(texts, length)`, or list of lists of ids.
            special_tokens: Whether padding, start, end and the like are written out.

        Returns:
            List of strings.

        Raises:
            ValueError: If `ids` is not rows of ids of the vocabulary.
        """
        rows = [np.asarray(row) for row in ids]
        for row in rows:
            if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
                raise ValueError(f"ids must be rows of integers, one a text. Received: {row.dtype} of shape {row.shape}")
            if row.size and not 0 <= row.min() <= row.max() < self.vocabulary_size:
                raise ValueError(f"ids must be in 0..{self.vocabulary_size - 1}. Received: {row.min()}..{row.max()}")
        return self.pipeline.decode_batch([row.tolist() for row in rows], skip_special_tokens=not special_tokens)

    def save(self, folder):
        """Write `tokenizer.json` and what belongs to it, for `Tokenizer.load` and for transformers.

        Args:
            folder: Folder to write into; made if it is not there.
        """
        os.makedirs(folder, exist_ok=True)
        self.pipeline.no_truncation()
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **self.tokens}
        if self.max_length is not None:
            config["model_max_length"] = self.max_length
        texts = (self.pipeline.to_str(pretty=True), *(json.dumps(part, indent=2) for part in (config, self.tokens)))
        for name, text in zip(SAVED, texts, strict=True):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)


def read_json(folder, name):
    """Return the object in the file `name` of `folder`, or `{}` if there is none."""
    if not os.path.isfile(os.path.join(folder, name)):
        return {}
    try:
        found = json.loads(_read(folder, name))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} in {str(folder)!r} is not JSON: {error}. Download or copy it again.") from error
    return found if isinstance(found, dict) else {}


def _library():
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError('Tokenizer needs the package tokenizers: pip install "keras-recipes[weights]"') from error
    return tokenizers


def _read(folder, name):
    with open(os.path.join(folder, name), "rb") as file:
        contents = file.read(MAX_BYTES + 1)
    if len(contents) > MAX_BYTES:
        raise ValueError(f"{name} has more than {MAX_BYTES} bytes")
    return contents.decode("utf-8")


def _content(token):
    """Return the text of a token, which the files write as a string or as an object."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _max_length(folder, config):
    for length in (read_json(folder, "sentence_bert_config.json").get("max_seq_length"), config.get("model_max_length")):
        if isinstance(length, int) and 0 < length < 1_000_000:  # transformers writes 10 ** 30 for no limit
            return length
    return None


def _strings(name, texts):
    if isinstance(texts, (str, bytes)):
        raise ValueError(f"{name} must be a list of strings; for one text pass [text]. Received: {texts[:40]!r}")
    texts = list(texts)
    if not texts:
        raise ValueError(f"{name} holds 0 texts.")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"{name} must be strings. Received: {name}[{i}]={text!r}, a {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name}[{i}] is not valid Unicode: {error}. Read its file with errors='replace'.") from error
    return [str(text) for text in texts]  # numpy's strings are a class of their own


# ------------------------------------------------------------------------------------------- pipelines from other files


def _wordpiece_of(library, text, config, tokens):
    """BERT's pipeline for the lines of `vocab.txt`."""
    vocabulary = {word: i for i, word in enumerate(text.rstrip("\n").split("\n"))}
    lowercase = config.get("do_lower_case")
    if lowercase is None:
        lowercase = not any(word != word.lower() for word in vocabulary if not (word[:1] == "[" and word[-1:] == "]"))
    pipeline = _wordpiece(library, vocabulary, lowercase, config.get("strip_accents"), tokens["unk_token"])
    pipeline.add_special_tokens([token for token in dict.fromkeys(tokens.values()) if token in vocabulary])
    pipeline.post_processor = _around(library, pipeline, tokens["cls_token"], tokens["sep_token"])
    return pipeline


def _wordpiece(library, vocabulary, lowercase, strip_accents, unknown):
    pipeline = library.Tokenizer(library.models.WordPiece(vocabulary, unk_token=unknown))
    pipeline.normalizer = library.normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    pipeline.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    pipeline.decoder = library.decoders.WordPiece()
    return pipeline


def _bytes_of(library, vocabulary, merges, config, tokens):
    """GPT-2's pipeline for `vocab.json` and `merges.txt`, or RoBERTa's if the vocabulary has `<s>`."""
    pairs = [tuple(line.split(" ")) for line in merges.splitlines() if line and not line.startswith("#version")]
    if any(right.endswith("</w>") for _, right in pairs):
        raise ValueError("merges.txt has ends of words, as CLIP's: save tokenizer.json with transformers and load that")
    space = config.get("add_prefix_space", False)
    pipeline = _bytes(library, library.models.BPE(vocabulary, pairs), space)
    pipeline.add_special_tokens([token for token in dict.fromkeys(tokens.values()) if token in vocabulary])
    if "<s>" in vocabulary:
        pipeline.post_processor = library.processors.RobertaProcessing(
            *((tokens[name], vocabulary[tokens[name]]) for name in ("sep_token", "cls_token")), add_prefix_space=space
        )
    return pipeline


def _bytes(library, model, space=False):
    pipeline = library.Tokenizer(model)
    pipeline.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=space)
    pipeline.decoder = library.decoders.ByteLevel()
    return pipeline


def _around(library, pipeline, start, end):
    """Put `start` before and `end` behind a text, and `end` behind its pair."""
    ids = [(token, pipeline.token_to_id(token)) for token in (start, end)]
    return library.processors.TemplateProcessing(f"{start} $A {end}", f"{start} $A {end} $B:1 {end}:1", ids)


# -------------------------------------------------------------------------------------------- pipelines trained on texts


def _train_wordpiece(library, texts, size, special, lowercase):
    pipeline = _wordpiece(library, None, lowercase, None, BERT["unk_token"])
    # Characters within words get their ids in the order in which the library's hash map has the words, another in each
    # process, and ids break ties: given as special tokens in a fixed order they make the same texts the same vocabulary.
    normal, cut = pipeline.normalizer.normalize_str, pipeline.pre_tokenizer.pre_tokenize_str
    words = {word for text in texts for word, _ in cut(normal(text))}
    within = sorted({character for word in words for character in word[1:]})
    trainer = library.trainers.WordPieceTrainer(
        vocab_size=size or SIZE, special_tokens=[*special, *(f"##{c}" for c in within)], show_progress=False
    )
    pipeline.train_from_iterator(texts, trainer)
    return _wordpiece(library, pipeline.get_vocab(), lowercase, None, BERT["unk_token"])


def _train_bytes(library, texts, size, special, lowercase):
    pipeline = _bytes(library, library.models.BPE())
    if lowercase:
        pipeline.normalizer = library.normalizers.Lowercase()
    trainer = library.trainers.BpeTrainer(
        vocab_size=size or SIZE,
        special_tokens=special,
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pipeline.train_from_iterator(texts, trainer)
    return pipeline


def _train_unigram(library, texts, size, special, lowercase):
    pipeline = library.Tokenizer(library.models.Unigram())
    steps = [library.normalizers.NFKC(), *[library.normalizers.Lowercase()] * lowercase]
    pipeline.normalizer = library.normalizers.Sequence(steps)
    pipeline.pre_tokenizer = library.pre_tokenizers.Metaspace()
    pipeline.decoder = library.decoders.Metaspace()
    trainer = library.trainers.UnigramTrainer(
        vocab_size=size or SIZE, special_tokens=special, unk_token=OTHERS["unk_token"], show_progress=False
    )
    pipeline.train_from_iterator(texts, trainer)
    return pipeline


def _train_characters(library, texts, size, special, lowercase):
    """An id for each character, the most frequent first; nothing to train."""
    counts = collections.Counter()
    for text in texts:
        counts.update(text.lower() if lowercase else text)
    known = sorted(counts, key=lambda character: (-counts[character], character))
    known = known[: None if size is None else size - len(special)]
    vocabulary = {token: i for i, token in enumerate([*special, *known])}
    pipeline = library.Tokenizer(library.models.WordLevel(vocabulary, unk_token=OTHERS["unk_token"]))
    if lowercase:
        pipeline.normalizer = library.normalizers.Lowercase()
    pipeline.pre_tokenizer = library.pre_tokenizers.Split(library.Regex(r"[\s\S]"), "isolated")
    pipeline.decoder = library.decoders.Fuse()
    return pipeline


_TRAINERS = dict(zip(KINDS, (_train_wordpiece, _train_bytes, _train_unigram, _train_characters), strict=True))
