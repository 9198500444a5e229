"""Finds a learning rate for the digits of scikit-learn, then compares schedules at it. Takes half a minute on a CPU.

python examples/schedules.py
"""

import keras
import numpy as np
from sklearn.datasets import load_digits

import recipes
from recipes.callbacks import (
    CosineRestarts,
    LRFinder,
    OneCycle,
    WarmupConstant,
    WarmupCosine,
    WarmupLinear,
    WarmupStableDecay,
)

epochs = 5
x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(x))
x, y = x[order].astype("float32"), y[order]
train, test = slice(0, 1400), slice(1400, None)

keras.utils.set_random_seed(0)
model = recipes.mlp((64,), 10, adapt=x[train])
start = model.get_weights()
found = LRFinder().run(model, x[train], y[train])  # leaves the model as it was
print(f"range test: {len(found.rates)} batches, suggestion {found.suggestion:.1e}")

print(f"{'schedule':18} {'rate at the end of each epoch, over the peak':56} {'accuracy':>8}")
for schedule in (
    None,
    WarmupConstant(),
    WarmupLinear(),
    WarmupCosine(),
    WarmupStableDecay(),
    OneCycle(),  # moves the momentum too
    CosineRestarts(),
):
    keras.utils.set_random_seed(0)
    model.compile(recipes.AdamW(found.suggestion), recipes.CrossEntropy(), metrics=[recipes.Accuracy()])
    model.set_weights(start)
    callbacks = [schedule] if schedule else []
    history = model.fit(x[train], y[train], batch_size=32, epochs=epochs, callbacks=callbacks, verbose=0).history
    rates = np.array(history.get("learning_rate", [found.suggestion] * epochs)) / found.suggestion
    accuracy = np.mean(model.predict(x[test], verbose=0).argmax(-1) == y[test])
    name = type(schedule).__name__ if schedule else "none"
    print(f"{name:18} {' '.join(f'{rate:6.3f}' for rate in rates):56} {accuracy:8.1%}")
