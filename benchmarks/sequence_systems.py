"""Networks of token ids for throughput.py: ours, KerasHub's, and torch's own or those of transformers.

bert_small: a step of fine-tuning BERT-small (4 layers, 512 wide) on 8 texts of 128 ids. gpt_small: a step of GPT-2 small on
4 texts of 64 ids. gpt_generate: tokens a second that GPT-2 small adds to 4 prompts of 16, greedily, 48 to each; under
"predict", where the others have a forward pass. bilstm: a step of a bidirectional LSTM, 64 units each way, on 32 texts of
128 of 10,000 words; the Keras peer is what keras.io's example "Bidirectional LSTM on IMDB" composes, with one layer.
No dropout, AdamW, cross-entropy, float32, random ids.
"""

import numpy as np

SYSTEMS = {  # ours first
    "bert_small": ["recipes", "recipes bf16", "keras_hub", "transformers", "transformers bf16"],
    "gpt_small": ["recipes", "recipes bf16", "keras_hub", "transformers", "transformers bf16"],
    "gpt_generate": ["recipes", "keras_hub", "transformers"],
    "bilstm": ["recipes", "keras", "torch"],
}
SIZES = {"bert_small": (8, 128), "gpt_small": (4, 64), "gpt_generate": (4, 16), "bilstm": (32, 128)}
WORDS = {"bert_small": 30522, "gpt_small": 50257, "gpt_generate": 50257, "bilstm": 10_000}
NEW = 48


def steps(row, system):
    """Return the functions that run a step, how much of what each does, the number of parameters, and versions."""
    ids = np.random.default_rng(0).integers(1, WORDS[row], SIZES[row]).astype("int32")
    labels = (np.arange(len(ids)) % 2).astype("int32")
    make = torch_steps if system.startswith(("transformers", "torch")) else keras_steps
    work, parameters, versions = make(row, system, ids, labels)
    return work, len(ids) * (NEW if row == "gpt_generate" else 1), parameters, versions


# ---------------------------------------------------------------------------------------------------------- Keras


def keras_steps(row, system, ids, labels):
    import keras

    ours = system.startswith("recipes")
    if system.endswith("bf16"):
        keras.config.set_dtype_policy("mixed_bfloat16")
    model, x = (our_model if ours else keras_peer)(row, ids)
    y, write = labels, None
    if row.startswith("gpt"):
        y = np.roll(ids, -1, axis=1)
    if row == "gpt_generate":
        write = writer(model, system, ids)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(our_optimizer(model) if ours else "adamw", loss)
    parameters = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    work = {"train": lambda: model.train_on_batch(x, y), "predict": lambda: model.predict_on_batch(x)}
    return {"predict": write} if write else work, parameters, f"keras {keras.__version__} on {keras.backend.backend()}"


def our_optimizer(model):
    optimizer = model.optimizer
    optimizer.global_clipnorm = None  # which the peers have not
    return optimizer


def our_model(row, ids):
    import recipes

    if row == "bert_small":
        return recipes.bert(2, variant="small", dropout=0.0), ids
    if row == "bilstm":
        return recipes.lstm_text(2, width=128, units=64, dropout=0.0), ids
    return recipes.gpt(variant="gpt2", dropout=0.0), ids


def keras_peer(row, ids):
    import keras

    if row == "bilstm":
        x = inputs = keras.Input((None,), dtype="int32")
        x = keras.layers.Embedding(WORDS[row], 128, mask_zero=True)(x)
        x = keras.layers.Bidirectional(keras.layers.LSTM(64))(x)
        return keras.Model(inputs, keras.layers.Dense(2)(x)), ids
    import keras_hub

    if row == "bert_small":
        backbone = keras_hub.models.BertBackbone(
            vocabulary_size=WORDS[row], num_layers=4, num_heads=8, hidden_dim=512, intermediate_dim=2048, dropout=0.0
        )
        model = keras_hub.models.BertTextClassifier(backbone, num_classes=2, preprocessor=None, dropout=0.0)
        return model, {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=WORDS[row], num_layers=12, num_heads=12, hidden_dim=768, intermediate_dim=3072, dropout=0.0
    )
    return keras_hub.models.GPT2CausalLM(backbone, preprocessor=None), {"token_ids": ids, "padding_mask": np.ones_like(ids)}


def writer(model, system, ids):
    if system == "recipes":
        import recipes

        return lambda: recipes.generate(model, ids, max_new_tokens=NEW, temperature=0)
    length = ids.shape[1]
    model.compile(sampler="greedy")
    prompts = {
        "token_ids": np.pad(ids, ((0, 0), (0, NEW))),
        "padding_mask": np.pad(np.ones_like(ids), ((0, 0), (0, NEW))),
    }
    assert prompts["token_ids"].shape[1] == length + NEW
    return lambda: model.generate(prompts, stop_token_ids=None)


# ---------------------------------------------------------------------------------------------------------- torch


def torch_steps(row, system, ids, labels):
    import contextlib

    import torch

    x, y = torch.from_numpy(ids).long(), torch.from_numpy(labels).long()
    model, forward, versions = torch_model(row)
    if row == "gpt_generate":
        model.eval()
        settings = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
        work = {"predict": lambda: model.generate(x, attention_mask=torch.ones_like(x), **settings)}
        return work, sum(p.numel() for p in model.parameters()), versions
    half = "bf16" in system
    optimizer = torch.optim.AdamW(model.parameters())

    def precision():
        return torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext()

    def train():
        model.train()
        optimizer.zero_grad()
        with precision():
            logits, targets = forward(x), y
            if row == "gpt_small":
                logits, targets = logits[:, :-1].flatten(0, 1), x[:, 1:].flatten()
            loss = torch.nn.functional.cross_entropy(logits, targets)
        loss.backward()
        optimizer.step()

    def predict():
        model.eval()
        with precision(), torch.no_grad():
            forward(x)

    return {"train": train, "predict": predict}, sum(p.numel() for p in model.parameters()), versions


def torch_model(row):
    import torch

    if row == "bilstm":
        embedding, lstm, head = (
            torch.nn.Embedding(WORDS[row], 128),
            torch.nn.LSTM(128, 64, batch_first=True, bidirectional=True),
            torch.nn.Linear(128, 2),
        )
        model = torch.nn.ModuleList([embedding, lstm, head])
        return model, lambda x: head(lstm(embedding(x))[0].amax(dim=1)), f"torch {torch.__version__}"
    import transformers

    none = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    if row == "bert_small":
        config = transformers.BertConfig(
            hidden_size=512, num_hidden_layers=4, num_attention_heads=8, intermediate_size=2048, **none
        )
        model = transformers.BertForSequenceClassification(config)
    else:
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0))
    return model, lambda x: model(x).logits, versions
