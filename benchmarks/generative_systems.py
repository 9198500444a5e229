"""Training steps of generative models for throughput.py: ours, the same networks in a `train_step` by hand, and diffusers.

"by hand" is how the examples of keras.io are written: a `keras.Model` that overrides `train_step` with one
`tf.GradientTape` for each network and keeps its averages weight by weight. It has our networks and our optimizer, so that
the difference is the step alone. diffusers' `UNet2DModel`, in torch, has as many levels, attention in the same place, and
channels that make it nearly as large. All train on random images of 32x32x3 in float32, batches of 64.
"""

import importlib.util

import numpy as np

BATCH, SIDE = 64, 32
BUILDERS = {  # builder, its arguments
    "dcgan": ("gan", {"variant": "dcgan"}),
    "vae": ("vae", {}),
    "ddpm": ("diffusion", {"variant": "ddpm", "patch_size": 1}),
}
SYSTEMS = {row: ["recipes", "by hand"] for row in BUILDERS}
if importlib.util.find_spec("diffusers"):
    SYSTEMS["ddpm"].append("diffusers")


def steps(row, system):
    """Return the functions that run a step, how much of what each does, the number of parameters, and versions."""
    images = np.random.default_rng(0).integers(0, 256, (BATCH, SIDE, SIDE, 3)).astype("float32")
    if system == "diffusers":
        return torch_step(images)
    import keras

    import recipes

    builder, given = BUILDERS[row]
    ours = getattr(recipes, builder)(images.shape[1:], **given)
    model = ours if system == "recipes" else BY_HAND[row](ours)
    parameters = sum(int(np.prod(v.shape)) for v in ours.trainable_variables)
    versions = f"keras {keras.__version__} on {keras.backend.backend()}"
    return {"train": lambda: model.train_on_batch(images)}, BATCH, parameters, versions


def dcgan_by_hand(ours):
    import keras
    import tensorflow as tf

    class DCGAN(keras.Model):
        def __init__(self):
            super().__init__()
            self.generator, self.discriminator = ours.generator, ours.discriminator
            self.d_metric, self.g_metric = keras.metrics.Mean(name="d_loss"), keras.metrics.Mean(name="g_loss")

        def compile(self, d_optimizer, g_optimizer):
            super().compile()
            self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer
            self.cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)

        def train_step(self, data):
            real = tf.cast(data[0], "float32") / 127.5 - 1
            rows = tf.shape(real)[0]
            fake = self.generator(tf.random.normal((rows, *ours.noise_shape)), training=True)
            both = tf.concat([fake, real], axis=0)
            labels = tf.concat([tf.zeros((rows, 1)), tf.ones((rows, 1))], axis=0)
            with tf.GradientTape() as tape:
                d_loss = self.cross_entropy(labels, self.discriminator(both, training=True))
            variables = self.discriminator.trainable_variables
            self.d_optimizer.apply_gradients(zip(tape.gradient(d_loss, variables), variables, strict=True))
            noise = tf.random.normal((rows, *ours.noise_shape))
            with tf.GradientTape() as tape:
                logits = self.discriminator(self.generator(noise, training=True), training=True)
                g_loss = self.cross_entropy(tf.ones((rows, 1)), logits)
            variables = self.generator.trainable_variables
            self.g_optimizer.apply_gradients(zip(tape.gradient(g_loss, variables), variables, strict=True))
            self.d_metric.update_state(d_loss)
            self.g_metric.update_state(g_loss)
            return {"d_loss": self.d_metric.result(), "g_loss": self.g_metric.result()}

    model = DCGAN()
    model.compile(*(type(o).from_config(o.get_config()) for o in (ours.optimizer.discriminator, ours.optimizer.generator)))
    return model


def vae_by_hand(ours):
    import keras
    import tensorflow as tf

    class VAE(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = ours.encoder, ours.decoder
            self.trackers = [keras.metrics.Mean(name=name) for name in ("loss", "reconstruction", "kl")]

        def train_step(self, data):
            x = tf.cast(data[0], "float32") / 127.5 - 1
            with tf.GradientTape() as tape:
                mean, log_variance = tf.split(self.encoder(x, training=True), 2, axis=-1)
                code = mean + tf.exp(0.5 * log_variance) * tf.random.normal(tf.shape(mean))
                rebuilt = self.decoder(code, training=True)
                reconstruction = tf.reduce_mean(tf.reduce_sum(tf.square(x - rebuilt), axis=(1, 2, 3)))
                kl = -0.5 * (1 + log_variance - tf.square(mean) - tf.exp(log_variance))
                kl = tf.reduce_mean(tf.reduce_sum(kl, axis=1))
                loss = reconstruction + kl
            self.optimizer.apply_gradients(
                zip(tape.gradient(loss, self.trainable_weights), self.trainable_weights, strict=True)
            )
            for tracker, value in zip(self.trackers, (loss, reconstruction, kl), strict=True):
                tracker.update_state(value)
            return {tracker.name: tracker.result() for tracker in self.trackers}

    model = VAE()
    model.compile(type(ours.optimizer).from_config(ours.optimizer.get_config()))
    return model


def ddpm_by_hand(ours):
    import keras
    import tensorflow as tf

    class DDPM(keras.Model):
        def __init__(self):
            super().__init__()
            self.network, self.average = ours.network, ours.average
            self.tracker = keras.metrics.Mean(name="loss")
            kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))  # share of the data's variance after each step
            self.kept = tf.constant(kept, "float32")

        def train_step(self, data):
            x = tf.cast(data[0], "float32") / 127.5 - 1
            noise = tf.random.normal(tf.shape(x))
            kept = tf.gather(self.kept, tf.random.uniform((tf.shape(x)[0],), 0, 1000, "int32"))
            level = 0.5 * tf.math.log((1 - kept) / kept)
            share = kept[:, None, None, None]
            noisy = tf.sqrt(share) * x + tf.sqrt(1 - share) * noise
            with tf.GradientTape() as tape:
                guess = self.network({"data": noisy, "noise": level}, training=True)
                loss = tf.reduce_mean(tf.square(guess - noise))
            variables = self.network.trainable_weights
            self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            for old, new in zip(self.average.weights, self.network.weights, strict=True):
                old.assign(0.999 * old + 0.001 * new)
            self.tracker.update_state(loss)
            return {"loss": self.tracker.result()}

    model = DDPM()
    model.compile(type(ours.optimizer).from_config(ours.optimizer.get_config()))
    return model


BY_HAND = {"dcgan": dcgan_by_hand, "vae": vae_by_hand, "ddpm": ddpm_by_hand}


def torch_step(images):
    """Return what `steps` does, for diffusers, with the average of the weights that it offers."""
    import diffusers
    import torch
    from diffusers.training_utils import EMAModel

    model = diffusers.UNet2DModel(
        sample_size=SIDE,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(64, 96, 96),  # 2.8 million parameters, ours 3.1
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=32,
    ).train()
    average = EMAModel(model.parameters(), decay=0.999)
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1

    def train():
        noise, times = torch.randn_like(x), torch.randint(0, 1000, (len(x),))
        optimizer.zero_grad(set_to_none=True)
        guess = model(scheduler.add_noise(x, noise, times), times).sample
        torch.nn.functional.mse_loss(guess, noise).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.step(model.parameters())

    parameters = sum(p.numel() for p in model.parameters())
    return {"train": train}, BATCH, parameters, f"diffusers {diffusers.__version__}, torch {torch.__version__}"
