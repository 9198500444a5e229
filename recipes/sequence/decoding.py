"""Run a model's graph on a few tokens at a time: layers keep in a cache what they need of the tokens before.

A layer that remembers has two methods, as `SelfAttention` does:

    layer.start_cache(batch, length, dtype) -> cache, any tree of tensors (batch, ...)
    layer.decode(x, cache, position, ...) -> (outputs, cache): `x` are the tokens from `position` on, the rest as in `call`

The first call has position 0, an integer; what it returns for a cache has the structure of all later ones. A recurrent
layer of Keras needs neither. All other layers are taken to compute every token by itself. A layer whose cache grows with
the text has two more, for loops that copy what they change:

    layer.fork_cache(cache, position, room) -> a cache for `decode` that writes the tokens from `position` on to a part of
        its own, with place for `room` of them, and leaves the rest as it is
    layer.join_cache(cache) -> the cache that `fork_cache` was given, with those tokens in it
"""

import keras
from keras import ops

from recipes.sequence.compiled import loops_copy

SEGMENT = 64  # tokens after which the caches of a loop that copies are joined
REFUSED = (
    keras.Model,
    keras.layers.Bidirectional,
    keras.layers.Conv1D,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.MultiHeadAttention,
)  # they look at all tokens, and know nothing of caches


class Decoder:
    """A language model's graph, cut into what is computed once and what is computed token by token.

    Args:
        model: Functional model from ids `(batch, length)` to logits `(batch, length, vocabulary)`, or from
            `{"source": ids, "target": ids}`: what depends on the source alone is computed once.
    """

    def __init__(self, model):
        target = [tensor for tensor in model.inputs if tensor.name == "target"] or model.inputs
        if len(target) != 1 or len(model.inputs) > 2 or len(model.outputs) != 1:
            raise ValueError(
                'model must read token ids, or {"source", "target"}, and put out logits. Received: inputs '
                f"{[tensor.name for tensor in model.inputs]} and {len(model.outputs)} outputs"
            )
        source = [tensor for tensor in model.inputs if tensor is not target[0]]
        frontier = border(model, target[0])
        frontier = [tensor for tensor in frontier if tensor is not target[0]]
        self.encoder = keras.Function(source, frontier) if frontier else None
        self.decoder = keras.Function([target[0], *frontier], model.outputs)
        self.layers = {node.operation.name: node.operation for node in _nodes(self.decoder)}
        for layer in self.layers.values():
            if isinstance(layer, REFUSED) or _recurrent(layer) and (not layer.return_sequences or layer.go_backwards):
                raise ValueError(
                    f"model must compute a token from those before it alone, and the layer {layer.name!r} "
                    f"({type(layer).__name__}) does not. Use causal attention, or a recurrent layer with "
                    "return_sequences=True."
                )

    def encode(self, source):
        """Return what the decoder needs of the source, a list of tensors; `[]` of a model without one."""
        return list(self.encoder([source])) if self.encoder else []

    def start(self, batch, length, looped=True):
        """Return empty caches with room for `length` tokens in each of `batch` rows; for `loop`, unless not `looped`."""
        caches = {}
        if looped and loops_copy():
            length += SEGMENT  # its last segment ends behind the last token
        for name, layer in self.layers.items():
            if hasattr(layer, "start_cache"):
                caches[name] = layer.start_cache(batch, length, layer.compute_dtype)
            elif _recurrent(layer):
                caches[name] = [ops.cast(state, layer.compute_dtype) for state in layer.get_initial_state(batch)]
        return caches

    def step(self, ids, caches, position, memory=()):
        """Return the logits for the token after the last of `ids`, float32 `(batch, vocabulary)`, and the new caches.

        Args:
            ids: Integer tensor `(batch, n)`: the tokens from `position` on.
            caches: What `start` or the last `step` returned.
            position: Place of the first of them: an integer for the first call, or a scalar tensor.
            memory: What `encode` returned.
        """
        caches = dict(caches)

        def remember(layer):
            if layer.name not in caches:
                return layer

            def run(x, *args, **kwargs):
                decode = layer.decode if hasattr(layer, "decode") else _decode_recurrent(layer)
                outputs, caches[layer.name] = decode(x, caches[layer.name], position, *args, **kwargs)
                return outputs

            return run

        logits = self.decoder._run_through_graph([ids, *memory], operation_fn=remember)
        return ops.cast(keras.tree.flatten(logits)[0][:, -1], "float32"), caches

    def loop(self, unfinished, body, state, caches, position):
        """Call `state = body(*state)` while `unfinished(*state)`, and return the last state.

        Args:
            unfinished: Function of a state that returns a bool scalar.
            body: Function from a state to the next, which takes one `step` of one token. The last part of a state are the
                caches.
            state: Tuple of tensors before the first turn, without the caches.
            caches: Caches before the first turn.
            position: Integer, how many tokens are in them.
        """
        if not loops_copy():
            return ops.while_loop(unfinished, body, (*state, caches))[:-1]

        def segment(position, *state):
            def turn(count, *state):
                return count + 1, *body(*state)

            forked = self._each_cache("fork_cache", state[-1], position, SEGMENT)
            start = (ops.zeros((), "int32"), *state[:-1], forked)
            _, *state, forked = ops.while_loop(lambda n, *state: (n < SEGMENT) & unfinished(*state), turn, start)
            return position + SEGMENT, *state, self._each_cache("join_cache", forked)

        start = (ops.convert_to_tensor(position, "int32"), *state, caches)
        return ops.while_loop(lambda _, *state: unfinished(*state), segment, start)[1:-1]

    def _each_cache(self, method, caches, *args):
        layers = {name: self.layers[name] for name in caches}
        return {n: getattr(layers[n], method)(c, *args) if hasattr(layers[n], method) else c for n, c in caches.items()}


def border(model, target):
    """Return the tensors that do not depend on `target`, but are read by what does."""
    depends, border = {id(target)}, {}
    for node in _nodes(model):
        if any(id(tensor) in depends for tensor in node.input_tensors):
            depends |= {id(tensor) for tensor in node.outputs}
            border |= {id(tensor): tensor for tensor in node.input_tensors if id(tensor) not in depends}
    return list(border.values())


def _nodes(function):
    """The calls of the layers of a graph, in an order of computing them."""
    by_depth = function._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def _recurrent(layer):
    return isinstance(layer, keras.layers.RNN)


def _decode_recurrent(layer):
    """Return `decode` of a recurrent layer of Keras: the cache is its states. Padding stands where nobody looks."""

    def decode(x, cache, position, initial_state=None, mask=None, training=False):
        if initial_state is not None and isinstance(position, int):
            cache = keras.tree.flatten(initial_state)
        _, outputs, states = layer.inner_loop(x, initial_state=list(cache), mask=None, training=False)
        states = [ops.cast(state, layer.compute_dtype) for state in states]
        outputs = ops.cast(outputs, layer.compute_dtype)
        return (outputs, *states) if layer.return_state else outputs, states

    return decode
