"""The training of `gan`: both networks in one backward pass, or, as Wasserstein GANs need it, in turn."""

import keras
from keras import ops

from recipes.generative.adversarial import AdversarialModel, squared_norm
from recipes.generative.gradients import frozen, input_gradient, output_and_gradient
from recipes.generative.phased import Phase, Phased


@keras.saving.register_keras_serializable("recipes")
class GAN(AdversarialModel):
    """Generative adversarial network whose two networks learn from one backward pass.

    With logits `r` of real and `f` of fake examples, `s(t) = log(1 + exp(t))`:

    - `"nonsaturating"`: the discriminator minimises `s(-r) + s(f)`, the generator `s(-f)`;
    - `"relativistic"`: the discriminator minimises `s(f - r)`, the generator `s(r - f)`.

    The discriminator also minimises `penalty / 2` times the mean squared length of the gradient of `r` by the real
    examples (R1), and if relativistic of that of `f` by the fake ones (R2).

    Both updates are made from the networks as they were before the step. The gradients are exactly those of two separate
    passes: for the generator's loss the discriminator is held constant.

    Args:
        loss: `"nonsaturating"` or `"relativistic"`.
        penalty: Float >= 0.
        generator, discriminator, data_shape, num_classes, ema, augment, **kwargs: As in `AdversarialModel`.

    Reference:
        [Goodfellow et al., 2014](https://arxiv.org/abs/1406.2661), section 3; R1:
        [Mescheder et al., 2018](https://arxiv.org/abs/1801.04406), section 4.1; relativistic with R1 and R2:
        [Huang et al., 2024](https://arxiv.org/abs/2501.05441), section 2.
    """

    def __init__(self, *args, loss="nonsaturating", penalty=0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.objective, self.penalty = loss, penalty

    def batch_loss(self, x, labels, training):
        batch = ops.shape(x)[0]
        fake = self.generate(self.random_noise(batch), labels, training)
        views = [self.view(batch) for _ in range(3)]
        relativistic = self.objective == "relativistic"

        def judge(x, view):
            return self.judge(view(x), labels, training)

        def judge_smoothly(x, view, penalised):
            if not (training and self.penalty and penalised):
                return judge(x, view), 0.0
            logits, gradient = output_and_gradient(lambda x: judge(x, view), x, self.discriminator)
            return logits, 0.5 * self.penalty * ops.mean(squared_norm(gradient))

        real_logits, real_penalty = judge_smoothly(x, views[0], True)
        fake_logits, fake_penalty = judge_smoothly(ops.stop_gradient(fake), views[1], relativistic)
        with frozen(self.discriminator):
            seen = judge(fake, views[2])
        if relativistic:
            d_loss = ops.mean(ops.softplus(fake_logits - real_logits))
            g_loss = ops.mean(ops.softplus(ops.stop_gradient(real_logits) - seen))
        else:
            d_loss = ops.mean(ops.softplus(-real_logits)) + ops.mean(ops.softplus(fake_logits))
            g_loss = ops.mean(ops.softplus(-seen))
        self.record(d_loss, real_logits, fake_logits)
        self.g_loss.update_state(g_loss)
        if training:
            self.update_average()
        return d_loss + real_penalty + fake_penalty + g_loss

    def get_config(self):
        return {**super().get_config(), "loss": self.objective, "penalty": self.penalty}


@keras.saving.register_keras_serializable("recipes")
class WassersteinGAN(Phased, AdversarialModel):
    """Wasserstein GAN with gradient penalty: the critic learns at every step, the generator at every `n_critic`-th.

    The critic minimises `mean(f) - mean(r) + penalty * mean((length - 1) ** 2)`, where `length` is that of the gradient of
    its output by points between real and fake examples; the generator minimises `-mean(f)`.

    Args:
        penalty: Float >= 0.
        n_critic: Number of steps, each with new data, from one update of the generator to the next.
        generator, discriminator, data_shape, num_classes, ema, augment, **kwargs: As in `AdversarialModel`.

    Reference:
        [Gulrajani et al., 2017](https://arxiv.org/abs/1704.00028), algorithm 1.
    """

    def __init__(self, *args, penalty=10.0, n_critic=5, **kwargs):
        super().__init__(*args, **kwargs)
        self.penalty, self.n_critic = penalty, n_critic

    def phases(self):
        return [
            Phase("critic", "discriminator", self.critic_loss),
            Phase("generator", "generator", self.generator_loss, every=self.n_critic, at=self.n_critic - 1),
        ]

    def critic_loss(self, x, labels, training):
        batch = ops.shape(x)[0]
        fake = ops.stop_gradient(self.generate(self.random_noise(batch), labels, training))
        real, fake = self.view(batch)(x), self.view(batch)(fake)
        real_logits, fake_logits = self.judge(real, labels, training), self.judge(fake, labels, training)
        d_loss = ops.mean(fake_logits) - ops.mean(real_logits)
        self.record(d_loss, real_logits, fake_logits)
        share = keras.random.uniform((batch, *(1,) * len(self.data_shape)), seed=self.seed)
        return d_loss + self.penalty * self.steepness(real + share * (fake - real), labels, training)

    def steepness(self, x, labels, training=True):
        """Return how far the critic's gradient by `x` is from the length 1: the mean squared difference."""
        gradient = input_gradient(lambda x: self.judge(x, labels, training), x, self.discriminator)
        return ops.mean(ops.square(ops.sqrt(squared_norm(gradient) + 1e-12) - 1.0))  # the root's slope at 0 is infinite

    def generator_loss(self, x, labels, training):
        batch = ops.shape(x)[0]
        fake = self.generate(self.random_noise(batch), labels, training)
        g_loss = -ops.mean(self.judge(self.view(batch)(fake), labels, training))
        self.g_loss.update_state(g_loss)
        if training:
            self.update_average()
        return g_loss

    def get_config(self):
        return {**super().get_config(), "penalty": self.penalty, "n_critic": self.n_critic}
