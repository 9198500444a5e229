"""Image networks for throughput.py: ours, those of keras.applications, KerasHub and timm.

All train with AdamW and cross-entropy on random images and labels in float32, batches of 32; ours and timm also in
bfloat16, timm with channels last.
"""

import numpy as np

BATCH = 32
ROWS = {  # side of the images, then the systems; ours first
    "resnet50v1": (64, ["recipes", "recipes bf16", "keras.applications"]),
    "resnet50": (64, ["recipes", "recipes bf16", "keras_hub", "timm", "timm bf16", "timm channels_last"]),
    "efficientnetv2b0": (96, ["recipes", "recipes bf16", "keras.applications", "timm", "timm bf16", "timm channels_last"]),
    "vit_tiny": (64, ["recipes", "recipes bf16", "keras_hub", "timm", "timm bf16"]),
}
SYSTEMS = {row: systems for row, (_, systems) in ROWS.items()}


def steps(row, system):
    """Return the functions that run a step, how much of what each does, the number of parameters, and versions."""
    side = ROWS[row][0]
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (BATCH, side, side, 3)).astype("float32"), random.integers(0, 1000, BATCH)
    train, predict, parameters, versions = (torch_steps if system.startswith("timm") else keras_steps)(row, system, x, y)
    return {"train": train, "predict": predict}, BATCH, parameters, versions


def keras_steps(row, system, x, y):
    import keras

    if system.endswith("bf16"):
        keras.config.set_dtype_policy("mixed_bfloat16")
    make = {"recipes": our_model, "keras.applications": application, "keras_hub": hub_model}[system.removesuffix(" bf16")]
    model, y = make(row, x.shape[1:]), y.astype("int32")
    if not system.startswith("recipes"):
        model.compile("adamw", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    versions = f"keras {keras.__version__} on {keras.backend.backend()}"
    parameters = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    return lambda: model.train_on_batch(x, y), lambda: model.predict_on_batch(x), parameters, versions


def our_model(row, shape):
    import recipes

    if row.startswith("resnet"):
        variant = row.removeprefix("resnet")
        model = recipes.resnet(shape, 1000, variant=variant, stem="imagenet")
    elif row == "vit_tiny":
        model = recipes.vit(shape, 1000, variant="tiny", drop_path=0.0)
    else:
        model = recipes.efficientnet(shape, 1000, variant="v2b0", stem="imagenet", drop_path=0.0)
    model.compile(model.optimizer, model.loss)  # without the metric, as the peers
    return model


def application(row, shape):
    import keras

    name = {"resnet50v1": "ResNet50", "efficientnetv2b0": "EfficientNetV2B0"}[row]
    return getattr(keras.applications, name)(weights=None, input_shape=shape, classifier_activation=None)


def hub_model(row, shape):
    import keras_hub

    if row == "vit_tiny":
        backbone = keras_hub.models.ViTBackbone(
            image_shape=shape, patch_size=16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768
        )
        return keras_hub.models.ViTImageClassifier(backbone, num_classes=1000, preprocessor=None)
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=shape,
    )
    return keras_hub.models.ResNetImageClassifier(backbone, num_classes=1000, preprocessor=None)


def torch_steps(row, system, x, y):
    import contextlib

    import timm
    import torch

    if row == "vit_tiny":
        model = timm.create_model("vit_tiny_patch16_224", img_size=x.shape[1])
    else:
        model = timm.create_model({"resnet50": "resnet50", "efficientnetv2b0": "tf_efficientnetv2_b0"}[row])
    images, labels = torch.from_numpy(x.transpose(0, 3, 1, 2) / 255), torch.from_numpy(y)
    if "channels_last" in system:
        model, images = (value.to(memory_format=torch.channels_last) for value in (model, images))
    half = "bf16" in system

    def precision():
        return torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext()

    optimizer = torch.optim.AdamW(model.parameters())

    def train():
        model.train()
        optimizer.zero_grad()
        with precision():
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()

    def predict():
        model.eval()
        with precision(), torch.no_grad():
            model(images)

    versions = f"timm {timm.__version__}, torch {torch.__version__}"
    return train, predict, sum(p.numel() for p in model.parameters()), versions
