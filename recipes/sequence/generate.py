"""`recipes.generate`: write tokens with a language model, one after another."""

import dataclasses

import keras
import numpy as np
from keras import ops

from recipes.sequence.compiled import compiled
from recipes.sequence.decoding import Decoder
from recipes.training.checks import check_tokens, longest
from recipes.training.recipe import check_count, get_recipe

NEVER = -1e9  # logarithm of a probability, in place of minus infinity: differences stay numbers


def generate(
    model,
    ids,
    *,
    max_new_tokens=None,
    temperature=1.0,
    top_k=None,
    top_p=None,
    beams=1,
    length_penalty=1.0,
    stop_ids=(),
    guidance=1.0,
    candidates=1,
    rank=None,
    seed=0,
):
    """Write what comes after each prompt, or with an encoder-decoder what belongs to each source; or draw captions.

    What a token needs of those before it is kept, so the time a token takes hardly grows with their number. Prompts of
    different length make one batch, and each gets what it would get alone. The first call with a model and new sizes
    compiles.

    Args:
        model: Language model of a builder, such as `recipes.gpt`; or a functional model of the same kind of your own, with
            layers that keep what they need (`recipes.sequence.decoding`); or `recipes.dalle`.
        ids: Token ids of the prompts, or of the sources of an encoder-decoder, or of captions: a list of lists, or an array
            `(prompts, length)` padded on the right with the model's padding id.
        max_new_tokens: Number of tokens to write after each prompt, at most. An image has as many as it has.
        temperature: Float >= 0: what logits are divided by before a token is drawn. 0 takes the likeliest token every
            time; 1 draws from the model's own probabilities.
        top_k: Number of likeliest tokens to draw from; `None` for all.
        top_p: Draw from the likeliest tokens that together have at least this probability, in (0, 1]; `None` for all.
        beams: Number of texts a prompt that are followed at a time. With more than 1 nothing is drawn: the likeliest text
            found is returned, and `temperature`, `top_k` and `top_p` must be left alone.
        length_penalty: Power of the number of tokens by which the logarithm of a text's probability is divided before
            texts of different length are compared: 0 favours short ones, 1 compares means.
        stop_ids: Token ids that end a text. An encoder-decoder stops at its `end_id` without being told.
        guidance: Of `recipes.dalle`: how far the logits of each code go from those without a caption to those with it, and
            beyond above 1; 1 for none, which takes half the time.
        candidates: Of `recipes.dalle`: number of images drawn for each caption, of which `rank` takes one.
        rank: `"likelihood"` takes the image that makes its caption likeliest, by Bayes' rule; a model of `recipes.clip`
            trained with the same ids takes the image nearest to its caption.
        seed: Integer that fixes what is drawn, prompt by prompt.

    Returns:
        List of a list of ids for each prompt: the new tokens alone, without the one that stopped. The padding id is never
        written. With `recipes.dalle` a float32 array `(captions, height, width, channels)`, 0..255.

    Raises:
        ValueError: If an argument is out of its range, a prompt is empty or has ids that the model does not know, or prompt
            and new tokens together are longer than the model can read.

    Example:

    >>> model = recipes.gpt(vocabulary_size=30, max_length=16, width=32, depth=1)
    >>> texts = recipes.generate(model, [[5, 7, 9], [4]], max_new_tokens=6, temperature=0)
    >>> [len(text) for text in texts]
    [6, 6]

    Reference:
        Top-p as [Holtzman et al., 2020](https://arxiv.org/abs/1904.09751), section 3.1.
    """
    choice = {"guidance": guidance, "candidates": candidates, "rank": rank}
    if get_recipe(model).get("training", {}).get("task") == "generate" and hasattr(model, "generate"):
        given = {"max_new_tokens": max_new_tokens, "beams": beams, "length_penalty": length_penalty, "stop_ids": stop_ids}
        refuse(given, {"max_new_tokens": None, "beams": 1, "length_penalty": 1.0, "stop_ids": ()}, "a model of images")
        return model.generate(ids, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, **choice)
    refuse(choice, {"guidance": 1.0, "candidates": 1, "rank": None}, "a language model")
    check_settings(temperature, top_k, top_p, beams, length_penalty, seed)
    job = prepare(model, ids, max_new_tokens, stop_ids)
    if beams > 1:
        return search(model, job, beams, length_penalty)
    return draw(model, job, temperature, top_k, top_p, seed)


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be written."""

    decoder: Decoder
    source: np.ndarray  # (rows, source length); zeros (rows, 1) where the model has no source
    tokens: np.ndarray  # (rows, room), int32: the prompts and room for what comes after
    lengths: np.ndarray  # (rows,): of the prompts
    end: int  # where the longest text ends
    most: int  # new tokens of a row
    first: int  # tokens that all prompts have, read in one go
    stop_ids: tuple
    padding_id: int | None

    @property
    def key(self):
        """What decides the program, besides the shapes."""
        return *self.tokens.shape, self.source.shape[1], self.first, self.stop_ids, self.padding_id

    @property
    def arrays(self):
        return self.tokens, self.lengths, self.source, np.int32(self.end)

    def cut(self, found):
        """Return the new tokens of each row of `found` `(rows, room)`, up to the one that stops."""
        texts = [row[n : n + self.most].tolist() for row, n in zip(found, self.lengths, strict=True)]
        return [text[: next((i for i, t in enumerate(text) if t in self.stop_ids), len(text))] for text in texts]


def prepare(model, ids, max_new_tokens, stop_ids=()):
    """Return the `Job` of `generate`, or raise `ValueError`."""
    check_count("max_new_tokens", max_new_tokens)
    facts = read_facts(model)
    decoder = Decoder(model)
    if decoder.encoder is None:
        prompts = read_prompts(ids, facts["vocabulary"], facts["padding_id"])
        source = np.zeros((len(prompts), 1), "int32")
    else:
        source = read_source(model, ids, facts)
        prompts = [np.array([facts["start_id"]], "int32")] * len(source)
    lengths = np.array([len(prompt) for prompt in prompts], "int32")
    end = int(lengths.max()) + max_new_tokens
    if facts["max_length"] is not None and end > facts["max_length"]:
        raise ValueError(
            f"max_new_tokens={max_new_tokens} after a prompt of {lengths.max()} tokens exceeds "
            f"max_length={facts['max_length']}; shorten the prompt, ask for fewer or rebuild the model. "
            f"Received: max_new_tokens={max_new_tokens}"
        )
    # sizes in steps, so that prompts of other lengths need no other program
    first, room = int(lengths.min()), -(-end // 32) * 32
    tokens = np.zeros((len(prompts), room), "int32")
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    return Job(
        decoder=decoder,
        source=source,
        tokens=tokens,
        lengths=lengths,
        end=end,
        most=max_new_tokens,
        first=first // 16 * 16 or 1 << first.bit_length() - 1,
        stop_ids=read_stops(stop_ids, facts),
        padding_id=facts["padding_id"],
    )


# ------------------------------------------------------------------------------------------------ one text a prompt


def draw(model, job, temperature=1.0, top_k=None, top_p=None, seed=0):
    """Write one text after each prompt, token by token: lists of new ids."""
    (rows, room), decoder = job.tokens.shape, job.decoder
    greedy = temperature == 0 or top_k == 1
    # by prompt and number of the token, the same on every backend; below 1 even after rounding
    noise = np.stack([np.random.default_rng([seed, row]).random(room, "float32") for row in range(rows)])
    noise = np.minimum(noise, np.float32(1 - 2**-23))
    settings = np.array([temperature or 1, 1 if top_p is None else top_p], "float32")

    def run(tokens, lengths, source, end, noise, settings):
        memory, caches = decoder.encode(source), decoder.start(rows, room)

        def place(position, tokens, done, logits):
            logits = without(logits, job.padding_id)
            if greedy:
                chosen = ops.cast(ops.argmax(logits, axis=-1), "int32")
            else:
                number = ops.maximum(position - lengths, 0)[:, None]
                lot = ops.take_along_axis(noise, number, axis=1)
                chosen = pick(logits / settings[0], lot, top_k, None if top_p is None else settings[1])
            given = position < lengths
            chosen = ops.where(given, column(tokens, position)[:, 0], chosen)
            done = done | (~given & is_stop(chosen, job.stop_ids))
            return position + 1, ops.slice_update(tokens, (0, position), chosen[:, None]), done

        def body(position, tokens, done, caches):
            logits, caches = decoder.step(column(tokens, position - 1), caches, position - 1, memory)
            return *place(position, tokens, done, logits), caches

        def unfinished(position, tokens, done, caches):
            return (position < end) & ~ops.all(done)

        logits, caches = decoder.step(tokens[:, : job.first], caches, 0, memory)
        state = place(ops.convert_to_tensor(job.first, "int32"), tokens, ops.zeros((rows,), "bool"), logits)
        return decoder.loop(unfinished, body, state, caches, job.first)[1]

    program = compiled(model, ("draw", job.key, greedy, top_k, top_p is None), run)
    return job.cut(ops.convert_to_numpy(program(*map(ops.convert_to_tensor, (*job.arrays, noise, settings)))))


def pick(logits, lot, top_k, top_p):
    """Draw a token for each row of logits `(rows, vocabulary)` by a number `lot` `(rows, 1)` in [0, 1)."""
    ids = None
    if top_k is not None or top_p is not None:
        logits, ids = ops.top_k(logits, min(top_k or logits.shape[-1], logits.shape[-1]))  # the likeliest first
    share = ops.softmax(logits, axis=-1)
    if top_p is not None:
        share = ops.where(ops.cumsum(share, axis=-1) - share < top_p, share, 0.0)
    total = ops.cumsum(share, axis=-1)
    place = ops.sum(ops.cast(total <= lot * total[:, -1:], "int32"), axis=-1)
    return place if ids is None else ops.cast(ops.take_along_axis(ids, place[:, None], axis=1)[:, 0], "int32")


# --------------------------------------------------------------------------------------------- several texts a prompt


def search(model, job, beams, power=1.0):
    """Write the likeliest text found after each prompt: lists of new ids. With one beam the likeliest token every time.

    Of the continuations of a prompt's texts, the `beams` likeliest that do not stop live on. Those among the likeliest
    `beams` that stop are set aside; once there are `beams` of them, or they are as long as may be, the prompt is done.
    """
    (rows, room), decoder = job.tokens.shape, job.decoder
    wide = beams * (1 + len(job.stop_ids))  # so many have `beams` among them that do not stop

    def run(tokens, lengths, source, end):
        memory, caches = decoder.encode(source), decoder.start(rows, room, looped=False)
        prompts = tokens

        def place(position, tokens, alive, ended, scores, logits):
            # tokens, ended: (rows, beams, room); alive, scores: (rows, beams)
            logits = without(ops.reshape(logits, (rows, -1, logits.shape[-1])), job.padding_id)
            vocabulary = logits.shape[-1]
            given = (position < lengths)[:, None]  # (rows, 1)
            only = ops.arange(vocabulary) == column(prompts, position)  # (rows, vocabulary)
            gain = ops.where(given[..., None], ops.where(only, 0.0, NEVER)[:, None], ops.log_softmax(logits, axis=-1))
            total = ops.maximum(alive[..., None] + gain, 2 * NEVER)  # (rows, beams, vocabulary)
            total, best = ops.top_k(ops.reshape(total, (rows, -1)), min(wide, beams * vocabulary))  # (rows, wide)
            best = ops.cast(best, "int32")
            parent, chosen = best // vocabulary, best % vocabulary
            texts = ops.take_along_axis(tokens, parent[..., None], axis=1)  # (rows, wide, room)
            here = ops.arange(room) == position
            texts = ops.where(here, chosen[..., None], texts)

            stops = is_stop(chosen, job.stop_ids) & ~given
            count = position - lengths[:, None] + 1
            full = scores[:, -1:] > NEVER / 2
            ends = (
                (stops | (count == job.most)) & ~given & ~full & (total > NEVER / 2) & (ops.arange(total.shape[1]) < beams)
            )
            value = total / ops.cast(ops.maximum(count, 1), "float32") ** power
            scores, kept = ops.top_k(ops.concatenate([scores, ops.where(ends, value, NEVER)], axis=1), beams)
            ended = ops.take_along_axis(ops.concatenate([ended, texts], axis=1), kept[..., None], axis=1)

            alive, kept = ops.top_k(ops.where(stops, 2 * NEVER, total), beams)
            tokens = ops.take_along_axis(texts, kept[..., None], axis=1)
            parent = ops.take_along_axis(parent, kept, axis=1)
            flat = ops.reshape(parent + ops.arange(rows)[:, None] * beams, (-1,))
            return (position + 1, tokens, alive, ended, scores), flat

        def body(position, tokens, alive, ended, scores, caches):
            last = ops.reshape(column(ops.reshape(tokens, (-1, room)), position - 1), (rows * beams, 1))
            logits, caches = decoder.step(last, caches, position - 1, memory)
            state, flat = place(position, tokens, alive, ended, scores, logits)
            return *state, keras.tree.map_structure(lambda x: ops.take(x, flat, axis=0), caches)

        def unfinished(position, tokens, alive, ended, scores, caches):
            return (position < end) & ~ops.all(scores[:, -1] > NEVER / 2)

        logits, caches = decoder.step(tokens[:, : job.first], caches, 0, memory)
        caches, memory, logits = keras.tree.map_structure(lambda x: ops.repeat(x, beams, axis=0), (caches, memory, logits))
        tokens = ops.repeat(tokens[:, None], beams, axis=1)
        alive = ops.convert_to_tensor([[0.0] + [NEVER] * (beams - 1)] * rows, "float32")  # all are the same text yet
        start = ops.convert_to_tensor(job.first, "int32")
        state, flat = place(start, tokens, alive, tokens, ops.full((rows, beams), NEVER, "float32"), logits)
        caches = keras.tree.map_structure(lambda x: ops.take(x, flat, axis=0), caches)
        return ops.while_loop(unfinished, body, (*state, caches))[3][:, 0]

    program = compiled(model, ("search", job.key, job.most, beams, power), run)
    return job.cut(ops.convert_to_numpy(program(*map(ops.convert_to_tensor, job.arrays))))


def column(tokens, position):
    """Return the tokens `(rows, 1)` at a place of `(rows, room)`."""
    return ops.slice(tokens, (0, position), (tokens.shape[0], 1))


def without(logits, padding_id):
    """Make the padding id impossible."""
    if padding_id is None:
        return logits
    return ops.where(ops.arange(logits.shape[-1]) == padding_id, -np.inf, logits)


def is_stop(chosen, stop_ids):
    """Return whether each of `chosen` is one of `stop_ids`."""
    found = ops.zeros_like(chosen, dtype="bool")
    for token in stop_ids:
        found = found | (chosen == token)
    return found


# -------------------------------------------------------------------------------------------------------- what goes in


def read_facts(model):
    """Return what the recipe of `model` says of its ids.

    Raises:
        ValueError: If it is no language model that writes.
    """
    recipe = get_recipe(model)
    training, arguments = recipe.get("training", {}), recipe.get("arguments", {})
    if training.get("task", "language_model") != "language_model" or training.get("mask") is not None:
        raise ValueError(
            "model must be a language model that predicts the next token, such as recipes.gpt() or recipes.lstm_lm(). "
            f"Received: {model.name}, task={training.get('task')!r}"
            + (", which guesses masked tokens" if training.get("mask") is not None else "")
        )
    padding_id = training.get("padding_id")
    return {
        "vocabulary": model.output_shape[-1],
        "padding_id": padding_id if padding_id is not None and padding_id >= 0 else None,
        "max_length": longest(model),
        "start_id": arguments.get("start_id"),
        "end_id": arguments.get("end_id") if len(model.inputs) > 1 else None,
    }


def read_prompts(ids, vocabulary, padding_id, name="ids"):
    """Return the prompts as a list of int32 arrays without padding, or raise `ValueError`."""
    array = hasattr(ids, "shape")
    if array and len(ids.shape) != 2:
        raise ValueError(f"{name} must be a list of prompts, or (prompts, length). Received: shape {tuple(ids.shape)}")
    if isinstance(ids, str) or not array and (not len(ids) or not all(hasattr(row, "__len__") for row in ids)):
        raise ValueError(f"{name} must be a list of prompts, such as [[5, 7, 9]]. Received: {ids!r}")
    prompts = []
    for i, row in enumerate(ops.convert_to_numpy(ids) if array else ids):
        if isinstance(row, str) or any(isinstance(token, str) for token in row):
            raise ValueError(f"{name}[{i}] must be token ids: turn text into ids with a tokenizer. Received: {row!r}")
        row = np.asarray(row)
        if padding_id is not None:
            row = row[: len(row) - (row[::-1] != padding_id).argmax()] if (row != padding_id).any() else row[:0]
        if not len(row):
            raise ValueError(f"{name}[{i}] is empty: a prompt needs a token to begin with. Received: {name}[{i}]={row}")
        check_tokens(row, vocabulary, f"{name}[{i}]", exact=True)
        if padding_id is not None and (row == padding_id).any():
            raise ValueError(
                f"{name}[{i}] has the padding id {padding_id} before its end; pad on the right. Received: {row.tolist()}"
            )
        prompts.append(row.astype("int32"))
    return prompts


def read_source(model, ids, facts):
    """Return the sources of an encoder-decoder as an int32 array `(sources, length)`, or raise `ValueError`."""
    for fact in ("start_id", "padding_id"):
        if facts[fact] is None:
            raise ValueError(f"model must say its {fact}: build it with a function of recipes. Received: {model.name}")
    vocabulary = next(
        (x.input_dim for x in model.layers if isinstance(x, keras.layers.Embedding) and x.input.name == "source"), np.inf
    )
    sources = read_prompts(ids, vocabulary, facts["padding_id"])
    longest_source = max(map(len, sources))
    if facts["max_length"] is not None and longest_source > facts["max_length"]:
        raise ValueError(
            f"ids: sequence length {longest_source} exceeds max_length {facts['max_length']}; truncate or rebuild"
        )
    room = -(-longest_source // 16) * 16
    room = room if facts["max_length"] is None else min(room, facts["max_length"])
    padded = np.full((len(sources), room), facts["padding_id"], "int32")
    for row, source in zip(padded, sources, strict=True):
        row[: len(source)] = source
    return padded


def read_stops(stop_ids, facts):
    """Return the ids that end a text as a tuple, or raise `ValueError`."""
    if isinstance(stop_ids, (int, np.integer)):
        raise ValueError(f"stop_ids must be a tuple of token ids. Received: stop_ids={stop_ids!r}")
    stop_ids = (*map(int, stop_ids), *([] if facts["end_id"] is None else [facts["end_id"]]))
    for token in stop_ids:
        if not 0 <= token < facts["vocabulary"]:
            raise ValueError(
                f"stop_ids must be ids of the vocabulary, 0..{facts['vocabulary'] - 1}. Received: stop_ids={stop_ids}"
            )
    return tuple(dict.fromkeys(stop_ids))


def refuse(given, defaults, kind):
    """Raise `ValueError` if an argument that means nothing to a kind of model is not left alone."""
    for name, default in defaults.items():
        if given[name] is not default and given[name] != default:
            raise ValueError(f"{name} must be {default!r} for {kind}. Received: {name}={given[name]!r}")


def check_settings(temperature, top_k, top_p, beams, length_penalty, seed):
    """Raise `ValueError` unless the ways of choosing fit each other."""
    if not 0 <= temperature < np.inf:
        raise ValueError(f"temperature must be >= 0, 0 for the likeliest token. Received: temperature={temperature!r}")
    if top_k is not None:
        check_count("top_k", top_k)
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], or None for all tokens. Received: top_p={top_p!r}")
    check_count("beams", beams)
    if beams > 1 and (top_k is not None or top_p is not None or temperature not in (0, 1)):
        raise ValueError(
            "beams must be 1 to draw tokens: a beam search takes no temperature, top_k or top_p. "
            f"Received: beams={beams}, temperature={temperature}, top_k={top_k}, top_p={top_p}"
        )
    if not 0 <= length_penalty < np.inf:
        raise ValueError(f"length_penalty must be >= 0. Received: length_penalty={length_penalty!r}")
    check_count("seed", seed, minimum=0)
