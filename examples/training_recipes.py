"""Train handwritten digits with pieces of published recipes, and with a whole one.

    python examples/training_recipes.py

Three epochs show how it is done, no more: such recipes were made for a hundred times as many images and hundreds of epochs.
"""

import keras

import recipes

for family in ("resnet", "efficientnet", "vit", "convnext", "alexnet"):
    print(family, recipes.list_training(family))

data = recipes.data.load("digits", image_size=12)


def train(title, *, builder=None, **options):
    keras.utils.set_random_seed(0)
    model = recipes.resnet((12, 12, 1), 10, depths=(1, 1), widths=(24, 48), **builder or {})
    recipes.fit(model, data.train, epochs=3, batch_size=32, verbose=0, **options)
    print(f"{title}: {recipes.evaluate(model, data)['accuracy']:.3f}")
    return model


# The defaults, with CutMix in half of the batches, growing images, and an average of the weights
train("pieces", mix={"cutmix": 1.0, "probability": 0.5}, sizes=(8, 12), ema=0.98)

# A published recipe, "rsb_a3": LAMB, binary cross-entropy, MixUp and CutMix. Its rate of 8e-3 is for batches of 2048
# and 60,000 steps, and its augmentation mirrors and turns, which a digit does not survive: both are for the user to say.
model = train("ResNet strikes back, A3", builder={"training": "rsb_a3", "learning_rate": 0.02}, augment="shift")
print({name: model.recipe["training"][name] for name in ("optimizer", "loss", "mix", "schedule_arguments")})

# The same network for images of another size
print(recipes.resize(model, 16).input_shape)
