"""StyleGAN2's networks: a mapping from noise to styles, a synthesis of images from styles, and the discriminator."""

import keras
from keras import ops

from recipes.generative.gan_networks import LEAK, halvings
from recipes.generative.model import label_vector
from recipes.layers import (
    Bias,
    BilinearUpsample,
    EqualizedConv2D,
    EqualizedDense,
    LearnedConstant,
    MinibatchStddev,
    ModulatedConv2D,
    NoiseInjection,
)

MAPPING_RATE = 0.01  # Karras et al., 2019, https://arxiv.org/abs/1812.04948, appendix C


@keras.saving.register_keras_serializable("recipes")
def scaled_leaky_relu(x):
    """Leaky rectifier that keeps the variance of what comes in: Karras et al., 2020, appendix B."""
    return ops.leaky_relu(x, LEAK) * 2**0.5


def style_networks(data_shape, num_classes, latent, width, mapping_depth):
    """Return generator and discriminator for images or vectors.

    Sizes and widths are those of `gan`: the side is halved until it is 4 to 7 pixels, `width` channels at full size and
    twice as many at each halving, up to eight times. A vector is an image of one pixel: three stages, none of them halved.
    """
    images = len(data_shape) == 3
    if images:
        times = halvings(data_shape)
        widths = [width * min(8, 2**i) for i in range(times + 1)][::-1]  # from the smallest side on
        start = (data_shape[0] >> times, data_shape[1] >> times)
    else:
        widths, start = [width] * 3, (1, 1)
    kernel = 3 if images else 1
    inputs, w = mapping(num_classes, latent, mapping_depth)
    x = synthesis(w, data_shape, widths, start, kernel)
    generator = keras.Model(inputs, x, name="generator")
    return generator, discriminator(data_shape, num_classes, widths[::-1], kernel)


def mapping(num_classes, latent, depth):
    """Noise, and the class, to a style vector `w`, `(batch, latent)`: the layer `generator_w`."""
    noise = keras.Input((latent,), name="generator_noise")
    inputs, x = noise, _unit(noise, "generator_noise_unit")
    if num_classes is not None:
        ids, vector = label_vector(num_classes, latent, name="generator_label")
        inputs = [noise, ids]
        x = keras.layers.Concatenate(name="generator_condition")([x, _unit(vector, "generator_label_unit")])
    for i in range(1, depth + 1):
        x = EqualizedDense(latent, MAPPING_RATE, name=f"generator_mapping{i}_dense")(x)
        x = keras.layers.Activation(scaled_leaky_relu, name=f"generator_mapping{i}_activation")(x)
    return inputs, keras.layers.Identity(dtype="float32", name="generator_w")(x)


def _unit(x, name):
    """Bring vectors to the length of standard normal ones."""
    x = keras.layers.UnitNormalization(dtype="float32", name=name)(x)
    return keras.layers.Rescaling(x.shape[-1] ** 0.5, dtype="float32", name=f"{name}_scale")(x)


def synthesis(w, data_shape, widths, start, kernel):
    """Styles to data in the scale of the networks. Layer `i` takes its style from the layer `generator_style{i}`.

    A convolution that doubles the side comes before the enlargement, so it costs a quarter; in the paper it is transposed.
    """
    x = image = None
    count = 0
    for i, channels in enumerate(widths):
        for j in range(2 if i else 1):
            style = keras.layers.Identity(dtype="float32", name=f"generator_style{count}")(w)
            if x is None:  # from a style, not from `w`: the synthesis alone knows styles only
                x = LearnedConstant((*start, widths[0]), name="generator_constant")(style)
            enlarge = kernel > 1 and i > 0 and j == 0
            x = _styled(x, style, channels, kernel, enlarge, f"generator_stage{i}_{j}")
            count += 1
        # the image of each stage is added to that of the one before: the skip connections of figure 7
        part = _modulated(x, style, data_shape[-1], 1, False, f"generator_stage{i}_image")
        part = Bias(dtype="float32", name=f"generator_stage{i}_image_bias")(part)
        if image is not None and kernel > 1:
            image = BilinearUpsample(dtype="float32", name=f"generator_stage{i}_image_up")(image)
        image = part if image is None else keras.layers.Add(dtype="float32", name=f"generator_stage{i}_add")([image, part])
    return image if kernel > 1 else keras.layers.Reshape(data_shape, dtype="float32", name="generator_vector")(image)


def _styled(x, style, channels, kernel, enlarge, name):
    x = _modulated(x, style, channels, kernel, True, name)
    x = BilinearUpsample(name=f"{name}_up")(x) if enlarge else x
    x = NoiseInjection(name=f"{name}_noise")(x)
    x = Bias(name=f"{name}_bias")(x)
    return keras.layers.Activation(scaled_leaky_relu, name=f"{name}_activation")(x)


def _modulated(x, style, channels, kernel, demodulate, name):
    scales = EqualizedDense(x.shape[-1], start=1.0, name=f"{name}_style")(style)
    return ModulatedConv2D(channels, kernel, demodulate=demodulate, name=f"{name}_conv")(x, scales)


def discriminator(data_shape, num_classes, widths, kernel):
    """Data to logits `(batch, 1)`: residual blocks, the deviation within the batch, and two dense layers."""
    inputs = x = keras.Input(data_shape, name="discriminator_data")
    if kernel == 1:
        x = keras.layers.Reshape((1, 1, *data_shape), name="discriminator_pixel")(x)
    x = _conv(x, widths[0], 1, "discriminator_stem")
    for i, channels in enumerate(widths[1:], start=1):
        shortcut, name = x, f"discriminator_stage{i}"
        x = _conv(x, x.shape[-1], kernel, f"{name}_0")
        if kernel > 1:
            x = keras.layers.AveragePooling2D(2, name=f"{name}_down")(x)
            shortcut = keras.layers.AveragePooling2D(2, name=f"{name}_shortcut_down")(shortcut)
        x = _conv(x, channels, kernel, f"{name}_1")
        shortcut = EqualizedConv2D(channels, 1, use_bias=False, name=f"{name}_shortcut")(shortcut)
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
        x = keras.layers.Rescaling(2**-0.5, name=f"{name}_scale")(x)
    x = MinibatchStddev(name="discriminator_deviation")(x)
    x = _conv(x, widths[-1], kernel, "discriminator_last")
    x = keras.layers.Flatten(name="discriminator_flat")(x)
    x = EqualizedDense(widths[-1], name="discriminator_dense")(x)
    x = keras.layers.Activation(scaled_leaky_relu, name="discriminator_features")(x)
    if num_classes is None:
        return keras.Model(inputs, EqualizedDense(1, dtype="float32", name="discriminator_logits")(x), name="discriminator")
    # the product with a vector of the class, as in the paper's code for conditional models
    x = EqualizedDense(widths[-1], dtype="float32", name="discriminator_logits")(x)
    ids, vector = label_vector(num_classes, widths[-1], stddev=0.05, name="discriminator_label")
    x = keras.layers.Dot(1, dtype="float32", name="discriminator_product")([x, _unit(vector, "discriminator_label_unit")])
    x = keras.layers.Rescaling(widths[-1] ** -0.5, dtype="float32", name="discriminator_scale")(x)
    return keras.Model([inputs, ids], x, name="discriminator")


def _conv(x, channels, kernel, name):
    x = EqualizedConv2D(channels, kernel, name=f"{name}_conv")(x)
    return keras.layers.Activation(scaled_leaky_relu, name=f"{name}_activation")(x)


def cut(generator, prefix=""):
    """Return `(mapping, synthesis, number of styles)`: models that share the layers of a whole generator.

    Args:
        generator: Generator of `style_networks`, or its averaged copy.
        prefix: What the names of the copy's layers begin with.
    """
    names = [layer.name for layer in generator.layers if layer.name.startswith(f"{prefix}generator_style")]
    styles = [generator.get_layer(f"{prefix}generator_style{i}").output for i in range(len(names))]
    mapping = keras.Model(generator.inputs, generator.get_layer(f"{prefix}generator_w").output, name="mapping")
    return mapping, keras.Model(styles, generator.outputs[0], name="synthesis"), len(styles)
