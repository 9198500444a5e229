"""Proof without a GPU that a training step runs on one.

TensorFlow's wheel registers its GPU kernels on every machine: trace the training step, walk the graph and its function
library, and report the operations that no GPU kernel takes with the types they have. XLA must take the step too. JAX
lowers it for CUDA.

    python tests/gpu_audit.py resnet    # audits the first row of tests/cases.py that a builder of this name has
"""

import functools
import sys

import keras

# What the executor, the placer or the inliner of functions handles itself.
STRUCTURAL = frozenset(
    "Placeholder PlaceholderWithDefault NoOp _Arg _Retval Const Identity IdentityN StatefulPartitionedCall "
    "PartitionedCall If StatelessIf While StatelessWhile Case Switch Merge Enter Exit NextIteration LoopCond "
    "ControlTrigger".split()
)


def audit(model, x, y, run=False):
    """Raise `AssertionError` if an operation of the training step of `model` has no GPU kernel or no form in XLA.

    `y` is `None` for a model that learns from `x` alone. `run` has XLA compile the step for the CPU and run it as well,
    which takes ten times as long and tells little more.
    """
    data = (x,) if y is None else (x, y)
    {"tensorflow": _audit_tensorflow, "jax": _audit_jax}[keras.backend.backend()](model, data, run)


def _audit_tensorflow(model, data, run):
    import tensorflow as tf

    data = keras.tree.map_structure(tf.convert_to_tensor, data)
    _build(model, data)

    @tf.function(jit_compile=True)
    def step(*data):
        return model.train_step(data)

    signature = [keras.tree.map_structure(lambda t: tf.TensorSpec((None, *t.shape[1:]), t.dtype), d) for d in data]
    concrete = step.get_concrete_function(*signature)
    missing = missing_kernels(concrete.graph)
    assert not missing, "no GPU kernel for " + "; ".join(missing)
    try:
        step.experimental_get_compiler_ir(*data)(stage="hlo")
        loss = float(step(*data)["loss"]) if run else 0.0
    except Exception as error:
        raise AssertionError(f"XLA does not compile the training step: {error}") from error
    assert loss < float("inf"), f"the training step compiled by XLA has the loss {loss}"


def _audit_jax(model, data, run):
    import jax
    from jax import export

    data = keras.tree.map_structure(jax.numpy.asarray, data)
    _build(model, data)
    state = tuple(
        [v.value for v in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )
    try:
        lowered = export.export(jax.jit(model.train_step), platforms=["cuda"])(state, data)
    except Exception as error:
        raise AssertionError(f"JAX does not lower the training step for CUDA: {error}") from error
    assert lowered.platforms == ("cuda",)
    if run:
        logs, _ = jax.jit(model.train_step)(state, data)
        assert float(logs["loss"]) < float("inf"), f"the compiled training step has the loss {logs['loss']}"


def _build(model, data):
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    model._symbolic_build(data_batch=data)  # the state of loss and metrics


def missing_kernels(graph):
    """Return the operations of a TensorFlow graph, its functions included, that no GPU kernel takes."""
    definition = graph.as_graph_def()
    functions = {f.signature.name: f for f in definition.library.function}
    nodes = [*definition.node, *(node for f in functions.values() for node in f.node_def)]
    return sorted(
        {
            f"{node.op}({', '.join(_types(node))}) e.g. {node.name}"
            for node in nodes
            if node.op not in STRUCTURAL and node.op not in functions and not _has_gpu_kernel(node)
        }
    )


def _has_gpu_kernel(node):
    return any(all(_accepts(constraint, node) for constraint in kernel.constraint) for kernel in _gpu_kernels(node.op))


@functools.cache  # each call parses all the kernels of the operation
def _gpu_kernels(op):
    from tensorflow.python.framework import kernels

    return [k for k in kernels.get_registered_kernels_for_op(op).kernel if k.device_type in ("GPU", "DEFAULT")]


def _accepts(constraint, node):
    if constraint.name not in node.attr:
        return True
    value, allowed = node.attr[constraint.name], constraint.allowed_values.list.type
    found = [value.type] if value.WhichOneof("value") == "type" else value.list.type
    return not allowed or all(t in allowed for t in found)


def _types(node):
    import tensorflow as tf

    return [tf.as_dtype(a.type).name for _, a in sorted(node.attr.items()) if a.WhichOneof("value") == "type"]


def main(name):
    """Audit the first case of the builder called `name`."""
    from tests.cases import RECIPES

    case = next(case for case in RECIPES if case.builder.__name__ == name)
    audit(case.build(), case.x, case.y)
    print(f"{case.name}: every operation of the training step runs on a GPU")


if __name__ == "__main__":
    main(sys.argv[1])
