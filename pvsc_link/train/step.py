"""One gradient step: compiling it under TensorFlow or JAX, and the optimiser.

Only this file and ``channel.py`` know which backend runs. TensorFlow trains fastest on CPUs
(oneDNN); JAX serves GPUs without TensorFlow. A step is written once, in ``keras.ops`` and
``Variable.assign``; under JAX, Keras' stateless scope turns it into a pure function.

The optimiser is Adam with gradient clipping, averaged weights, and a guard that skips a step whose
gradient is not finite. All weights that learn together form one flat vector, and so do their
moments and their average. A step is then a few large operations instead of a dozen small ones for
each of some 300 tensors, and the state in a checkpoint is four arrays.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from pvsc_link.types import InputError

LossFunction = Callable[[Any], tuple[Any, dict[str, Any]]]
Update = Callable[[list[Any], Any], dict[str, Any]]
#: Decays of Adam's moments (section IV-A) and its epsilon.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
CLIP_NORM = 1.0  # largest norm of the gradient of a group of weights
EMA_DECAY = 0.999  # of the averaged weights


def compiled(function: Callable) -> Callable:
    """``function`` as a unit that is traced once and called many times inside a step.

    Under JAX it is the function itself, because there the whole step is one program.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, autograph=False)


def inference(function: Callable, variables: list[Any]) -> Callable:
    """``function`` of tensors, compiled for evaluations; each call reads ``variables`` anew."""
    if keras.backend.backend() == "tensorflow":
        return compiled(function)
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
    """One compiled gradient step, which takes a batch, changes variables and returns terms.

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
    """Make equal inputs give equal bits on the same machine.

    It has to come before the first operation of the process. Parameters: ``num_threads`` : cores
    that TensorFlow uses; None uses all.
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


class FlatAdam:
    """Adam [Kingma and Ba] on a group of variables.

    Parameters
    ----------
    variables : list of keras Variables, float32
    name : prefix of its state in checkpoints
    factors : dict, multiplies the learning rate of the variables whose path holds the word
    """

    def __init__(self, variables: list[Any], name: str, factors: dict[str, float] | None = None):
        self.variables, self.name = variables, name
        self.shapes = [tuple(v.shape) for v in variables]
        self.sizes = [int(np.prod(shape)) for shape in self.shapes]
        every = [_factor(v.path, factors or {}) for v in variables]
        self.factors = np.repeat(np.array(every, np.float32), self.sizes)
        zeros = np.zeros(sum(self.sizes), np.float32)
        self.first = keras.Variable(zeros, trainable=False, name=f"{name}_first")
        self.second = keras.Variable(zeros, trainable=False, name=f"{name}_second")
        self.average = keras.Variable(self._flat_weights(), trainable=False, name=f"{name}_ema")
        self.count = keras.Variable(0.0, trainable=False, dtype="float32", name=f"{name}_count")

    @property
    def state(self) -> list[Any]:
        """Variables that are saved beside the weights."""
        return [self.first, self.second, self.average, self.count]

    def apply(self, gradients: list[Any], learning_rate: Any) -> tuple[Any, Any]:
        """One step of the whole group. A gradient that is not finite changes nothing.

        The average takes the first n steps with the smaller decay (1 + n) / (10 + n).
        Output: norm of the gradient before clipping; 1.0 if the step was skipped, else 0.0.
        """
        gradient = ops.concatenate([ops.reshape(g, (-1,)) for g in gradients])
        norm = ops.sqrt(ops.sum(ops.square(gradient)))
        sound = ops.isfinite(norm)
        gradient = ops.where(sound, gradient, ops.zeros_like(gradient))
        gradient = gradient * ops.minimum(1.0, CLIP_NORM / ops.maximum(norm, 1e-12))
        gradient = ops.where(sound, gradient, ops.zeros_like(gradient))
        count = self.count + 1.0
        first = BETA_1 * self.first + (1 - BETA_1) * gradient
        second = BETA_2 * self.second + (1 - BETA_2) * ops.square(gradient)
        rate = learning_rate * ops.convert_to_tensor(self.factors)
        rate = rate * ops.sqrt(1 - BETA_2**count) / (1 - BETA_1**count)
        weights = ops.concatenate([ops.reshape(v, (-1,)) for v in self.variables])
        moved = weights - rate * first / (ops.sqrt(second) + EPSILON)
        decay = ops.minimum(EMA_DECAY, (1.0 + count) / (10.0 + count))
        average = decay * self.average + (1 - decay) * moved

        def keep(new: Any, old: Any) -> Any:
            return ops.where(sound, new, ops.convert_to_tensor(old))

        self._assign(keep(moved, weights))
        self.first.assign(keep(first, self.first))
        self.second.assign(keep(second, self.second))
        self.average.assign(keep(average, self.average))
        self.count.assign(keep(count, self.count))
        return norm, 1.0 - ops.cast(sound, "float32")

    def _assign(self, flat: Any) -> None:
        start = 0
        for variable, shape, size in zip(self.variables, self.shapes, self.sizes, strict=True):
            variable.assign(ops.reshape(flat[start : start + size], shape))
            start += size

    def _flat_weights(self) -> np.ndarray:
        return np.concatenate([ops.convert_to_numpy(v).ravel() for v in self.variables])

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the variables hold their average, afterwards their own values again."""
        kept = self._flat_weights()
        self._assign(ops.convert_to_tensor(self.average))
        try:
            yield
        finally:
            self._assign(ops.convert_to_tensor(kept))

    def settle(self) -> None:
        """The average becomes the weights, from which the next phase starts."""
        self._assign(ops.convert_to_tensor(self.average))


def _factor(path: str, factors: dict[str, float]) -> float:
    return float(np.prod([factor for word, factor in factors.items() if word in path]))
