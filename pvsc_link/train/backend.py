"""The one file of this room that knows which backend runs: compiling, and one gradient step.

TensorFlow trains fastest on CPUs (oneDNN); JAX serves GPUs without TensorFlow. What a step does
is written once, in ``keras.ops`` and ``Variable.assign``; under JAX both are captured by Keras'
stateless scope.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from pvsc_link.types import InputError

LossFunction = Callable[[Any], tuple[Any, dict[str, Any]]]
Update = Callable[[list[Any], Any], dict[str, Any]]


def compiled(function: Callable) -> Callable:
    """``function`` as a unit that is traced once and called many times inside a step.

    Under JAX the function itself: a step is one program there, and closed-over weights are
    tracers that must not outlive it.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    return function


def inference(function: Callable, variables: list[Any]) -> Callable:
    """``function`` of tensors, compiled, for evaluations; reads ``variables`` as they are then."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    _require_jax()
    import jax

    @jax.jit
    def pure(values: list[Any], *arguments: Any) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*arguments)

    return lambda *arguments: pure([v.value for v in variables], *arguments)


def make_step(
    loss_function: LossFunction, learned: list[Any], others: list[Any], update: Update
) -> Callable[[Any], dict[str, np.ndarray]]:
    """One gradient step, compiled: batch in, terms out, variables changed.

    Parameters
    ----------
    loss_function : batch -> (loss, terms)
    learned : variables of which gradients are taken
    others : every other variable that is read or written (moments, averages, fixed networks)
    update : (gradients, batch) -> further terms; assigns to ``learned`` and ``others``
    """
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_step(loss_function, learned, update)
    _require_jax()
    return _jax_step(loss_function, learned, others, update)


def make_repeatable(num_threads: int | None = None) -> None:
    """Same inputs, same bits, on the same machine. ``num_threads`` 1 also leaves other cores free.

    Has to come before the first operation of the process.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if num_threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(num_threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.experimental.enable_op_determinism()


def _tensorflow_step(loss_function: LossFunction, learned: list[Any], update: Update) -> Callable:
    import tensorflow as tf

    @tf.function(autograph=False)
    def step(batch: Any) -> dict[str, Any]:
        sources = [v.value for v in learned]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            loss, terms = loss_function(batch)
        gradients = tape.gradient(loss, sources, unconnected_gradients="zero")
        return {**terms, **update([tf.convert_to_tensor(g) for g in gradients], batch)}

    return lambda batch: {key: value.numpy() for key, value in step(batch).items()}


def _jax_step(
    loss_function: LossFunction, learned: list[Any], others: list[Any], update: Update
) -> Callable:
    import jax

    @jax.jit
    def pure(values: list[Any], rest: list[Any], batch: Any) -> Any:
        fixed = list(zip(others, rest, strict=True))

        def loss_of(values: list[Any]) -> Any:
            mapping = list(zip(learned, values, strict=True)) + fixed
            with keras.StatelessScope(state_mapping=mapping):
                return loss_function(batch)

        (_, terms), gradients = jax.value_and_grad(loss_of, has_aux=True)(values)
        mapping = list(zip(learned, values, strict=True)) + fixed
        with keras.StatelessScope(state_mapping=mapping) as scope:
            terms = {**terms, **update(gradients, batch)}
        new = [[scope.get_current_value(v) for v in group] for group in (learned, others)]
        return terms, *new

    def step(batch: Any) -> dict[str, np.ndarray]:
        values, rest = [[v.value for v in group] for group in (learned, others)]
        terms, values, rest = pure(values, rest, batch)
        for variable, value in zip([*learned, *others], [*values, *rest], strict=True):
            variable.assign(value)
        return {key: np.asarray(value) for key, value in terms.items()}

    return step


def _require_jax() -> None:
    if keras.backend.backend() != "jax":
        raise InputError(
            "Keras backend for training",
            found=keras.backend.backend(),
            allowed=("tensorflow", "jax"),
            remedy="Set KERAS_BACKEND.",
        )
