"""Draw the images of captions: the codes one after another, and of several images the one that fits the caption best."""

import numpy as np
from keras import ops

from recipes.sequence.decoding import Decoder
from recipes.sequence.generate import check_settings, column, pick, read_prompts
from recipes.training.recipe import check_count, get_recipe

ROWS = 64  # images drawn at a time


def generate_images(
    model, captions, *, temperature=1.0, top_k=None, top_p=None, guidance=1.0, candidates=1, rank=None, seed=0
):
    """Draw an image for each caption.

    Args:
        model: Model of `recipes.dalle`.
        captions: Ids `(captions, length)`, padded on the right; a row of padding asks for any image.
        temperature, top_k, top_p, guidance, candidates, rank, seed: As in `recipes.generate`.

    Returns:
        Float32 array `(captions, height, width, channels)`, 0..255.
    """
    check_settings(temperature, top_k, top_p, 1, 1.0, seed)
    check_images(model, guidance, candidates, rank)
    texts = np.repeat(np.asarray(captions, "int32"), candidates, axis=0)
    greedy, guided, narrow = temperature == 0 or top_k == 1, guidance != 1, top_p is not None

    def draw(text, noise, settings):
        return draw_codes(model, model.fill(text), noise, settings, greedy, guided, top_k, narrow)

    noise = np.stack([np.random.default_rng([seed, row]).random(model.length, "float32") for row in range(len(texts))])
    noise = np.minimum(noise, np.float32(1 - 2**-23))  # below 1 even after rounding
    settings = np.tile(np.array([temperature or 1, top_p or 1, guidance], "float32"), (len(texts), 1))
    key = f"draw {texts.shape[1]} {greedy} {guided} {top_k} {narrow}"
    codes = model.run(key, draw, texts, noise, settings, batch_size=ROWS)
    if candidates == 1:
        return model.decode(codes.reshape(-1, *model.grid))
    images = None if rank == "likelihood" else model.decode(codes.reshape(-1, *model.grid))
    scores = likelihood_scores(model, texts, codes) if images is None else clip_scores(rank, texts, images)
    best = scores.reshape(-1, candidates).argmax(axis=1) + np.arange(len(captions)) * candidates
    return model.decode(codes[best].reshape(-1, *model.grid)) if images is None else images[best]


def draw_codes(model, text, noise, settings, greedy, guided, top_k, narrow):
    """Return the codes of images, int32 `(rows, rows * columns)`, each drawn by what was drawn before.

    Args:
        model: Model of `recipes.dalle`.
        text: Tokens `(rows, max_length)`.
        noise: A number in [0, 1) for each code, `(rows, rows * columns)`.
        settings: Temperature, top p and guidance of each row, `(rows, 3)`.
        greedy: Whether the likeliest code is taken, and nothing drawn.
        guided: Whether the guidance is not 1.
        top_k: Number of codes to draw from, or `None`.
        narrow: Whether there is a top p.
    """
    rows, places = noise.shape
    decoder = Decoder(model.transformer)
    if guided:  # what the same codes would be followed by without the caption, in rows of their own
        text = ops.concatenate([text, ops.repeat(model.nothing(), rows, axis=0)], axis=0)

    def place(step, codes, features):
        logits = ops.cast(model.image_head(features), "float32")
        if guided:
            told, untold = ops.split(logits, 2, axis=0)
            logits = untold + settings[:, 2:] * (told - untold)
        if greedy:
            chosen = ops.cast(ops.argmax(logits, axis=-1), "int32")
        else:
            chosen = pick(logits / settings[:, :1], column(noise, step), top_k, settings[:, 1:2] if narrow else None)
        return step + 1, ops.slice_update(codes, (0, step), chosen[:, None])

    def body(step, codes, caches):
        last = model.as_tokens(column(codes, step - 1))
        last = ops.concatenate([last, last], axis=0) if guided else last
        features, caches = decoder.step(last, caches, model.max_length + step - 1)
        return *place(step, codes, features), caches

    features, caches = decoder.step(text, decoder.start(text.shape[0], model.max_length + places), 0)
    state = place(ops.zeros((), "int32"), ops.zeros((rows, places), "int32"), features)
    return decoder.loop(lambda step, *_: step < places, body, state, caches, text.shape[1])[1]


def likelihood_scores(model, texts, codes):
    """Return how much likelier each image makes its caption, `log p(caption | image) - log p(caption)`, `(rows,)`.

    By Bayes' rule that is `log p(image | caption) - log p(image)`, and both are what the transformer learns, the second
    where a caption says nothing.
    """

    def score(text, codes):
        text = model.fill(text)
        nothing = ops.broadcast_to(model.nothing(), ops.shape(text))
        told, untold = (ops.sum(model.code_entropy(model.read(t, codes), codes), axis=-1) for t in (text, nothing))
        return untold - told

    return model.run(f"score {texts.shape[1]}", score, texts, codes, batch_size=ROWS)


def clip_scores(clip, texts, images):
    """Return how near each image is to its caption for a model of `recipes.clip`, `(rows,)`."""
    image, text = (next(x for x in clip.inputs if x.name == name) for name in ("image", "text"))
    room = text.shape[1] - texts.shape[1]
    if room < 0 and texts[:, room:].any():
        raise ValueError(
            f"rank must read {texts.shape[1]} tokens, as the captions have. Received: max_length={text.shape[1]}"
        )
    texts = np.pad(texts, ((0, 0), (0, max(0, room))))[:, : text.shape[1]]
    if images.shape[1:3] != image.shape[1:3]:
        images = ops.convert_to_numpy(ops.image.resize(images, image.shape[1:3], antialias=True))
    pairs = clip.predict({"image": images, "text": texts}, batch_size=ROWS, verbose=0)
    return (pairs[:, 0] * pairs[:, 1]).sum(axis=-1)


def read_captions(model, ids):
    """Return captions as an int32 array `(captions, max_length)`, or raise `ValueError`."""
    rows = read_prompts(ids, model.vocabulary_size, model.padding_id)
    longest = max(map(len, rows))
    if longest > model.max_length:
        raise ValueError(f"ids: sequence length {longest} exceeds max_length {model.max_length}; truncate or rebuild")
    captions = np.full((len(rows), model.max_length), model.padding_id, "int32")
    for caption, row in zip(captions, rows, strict=True):
        caption[: len(row)] = row
    return captions


def check_images(model, guidance, candidates, rank):
    """Raise `ValueError` unless the choice between images is one that the model can make."""
    check_count("candidates", candidates)
    if not 0 <= guidance < np.inf:
        raise ValueError(f"guidance must be >= 0, 1 for none. Received: guidance={guidance!r}")
    clip = get_recipe(rank).get("builder") == "clip"
    if rank is not None and rank != "likelihood" and not clip:
        raise ValueError(f'rank must be "likelihood", a model of recipes.clip or None. Received: rank={rank!r}')
    if (candidates > 1) != (rank is not None):
        raise ValueError(
            'rank must be "likelihood" or a model of recipes.clip to choose between candidates, and candidates more than 1. '
            f"Received: candidates={candidates}, rank={rank!r}"
        )
    if clip:
        size = rank.get_layer("text_token_embedding").input_dim
        if size < model.vocabulary_size:
            raise ValueError(f"rank must know all {model.vocabulary_size} token ids. Received: vocabulary_size={size}")
    if not model.settings["text_dropout"] and (rank == "likelihood" or guidance != 1):
        which = f"guidance={guidance}" if guidance != 1 else 'rank="likelihood"'
        raise ValueError(
            f"{which} needs a model that has learned images without captions: build it with text_dropout=0.1. "
            "Received: text_dropout=0"
        )
