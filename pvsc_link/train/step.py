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
import os
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from pvsc_link.types import InputError

#: (gradients, learning rate) to further terms of a step.
Update = Callable[[list[Any], Any], dict[str, Any]]
#: Decays of Adam's moments (section IV-A) and its epsilon.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
CLIP_NORM = 1.0  # largest norm of the gradient of a group of weights
EMA_DECAY = 0.999  # of the averaged weights


#: Entries of a batch whose first axis (behind that of the parts) is over clips.
PER_CLIP = frozenset({"frames", "omega_index", "noise_y", "noise_z", "motion", "snr_db"})


def compiled(function: Callable) -> Callable:
    """``function`` as a unit that is traced once and called many times inside a step.

    Under JAX it is the function itself, because there the whole step is one program.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, autograph=False)


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """Within the block TensorFlow runs steps operation by operation, which saves tracing them.

    Under JAX steps are compiled all the same.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


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


class Loss(Protocol):
    """What a step minimises, cut into spans of frames that follow one another.

    Gradients do not pass from one span to the one before it. The losses and the terms of the spans
    of a batch add up to those of the batch.
    """

    def spans(self, batch: dict[str, Any]) -> list[tuple[int, int]]:
        """First frame and end of every span."""
        ...

    def __call__(
        self, batch: dict[str, Any], span: tuple[int, int], carry: Any
    ) -> tuple[Any, dict[str, Any], Any]:
        """(loss, terms, next carry) of a span; ``carry`` is None at the first."""
        ...


def make_step(
    loss: Loss, learned: list[Any], others: list[Any], update: Update, parts: int = 1
) -> "Step":
    """One compiled gradient step, which takes a batch, changes variables and returns terms.

    With ``parts`` above 1 every entry of a batch but ``learning_rate`` has a first axis of that
    length. The parts are worked on one after the other, and their gradients are averaged before
    they are clipped: memory is that of one part.

    Parameters
    ----------
    loss : Loss
    learned : variables of which gradients are taken
    others : every other variable that is read or written (moments, averages, fixed networks)
    update : (gradients, learning rate) -> further terms; assigns to ``learned`` and ``others``
    parts : number of parts of a batch

    Under JAX with several devices (``prepare``) each of them takes an equal share of the clips of
    a part. The loss is a mean over all clips, so gradients are summed over the devices before the
    update clips them.
    """
    if keras.backend.backend() == "tensorflow":
        return _TensorflowStep(loss, learned, update, parts)
    _require_jax()
    return _JaxStep(loss, learned, others, update, parts)


def over_frames(
    function: Callable[[Any, Any], tuple[Any, dict[str, Any]]],
    carry: Any,
    frames: list[Any],
    *,
    rematerialise: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """A function of a carry and of each entry of ``frames``, one after the other.

    Under JAX it is one loop of the program (``jax.lax.scan``), which is compiled once whatever the
    number of frames. With ``rematerialise`` only the carry is kept of each frame; the backward
    pass computes the rest again.

    Output: the last carry, and the sum of the terms of all frames.
    """

    def one(carry: Any, frame: Any) -> Any:
        if not rematerialise:
            return function(carry, frame)
        return keras.remat(lambda carry: function(carry, frame))(carry)

    if keras.backend.backend() == "jax" and len(frames) > 1:
        import jax

        stacked = keras.tree.map_structure(lambda *entries: ops.stack(entries), *frames)
        carry, every = jax.lax.scan(one, carry, stacked)
        return carry, {name: ops.sum(values, axis=0) for name, values in every.items()}
    total: dict[str, Any] = {}
    for frame in frames:
        carry, terms = one(carry, frame)
        total = _sum(total, terms)
    return carry, total


def _sum(total: dict[str, Any], terms: dict[str, Any]) -> dict[str, Any]:
    return {name: total[name] + terms[name] for name in terms} if total else terms


def prepare(
    num_threads: int | None = None,
    *,
    deterministic: bool = True,
    num_devices: int | None = None,
    several_hosts: bool = False,
) -> None:
    """Choose cores, devices and order of additions, before the first operation of the process.

    Parameters
    ----------
    num_threads : cores that TensorFlow uses; None uses all
    deterministic : equal inputs give equal bits on the same machine
    num_devices : devices that share every batch under JAX; None: all that JAX finds
    several_hosts : this process is one of several that train together, one per host. Their
        addresses come from Slurm, Open MPI or the variables ``KERAS_DISTRIBUTION_*``
        (``keras.distribution.initialize``)

    Raises ``InputError`` for more devices than there are, and for several under TensorFlow.
    """
    if keras.backend.backend() == "tensorflow":
        if several_hosts or (num_devices or 1) > 1:
            raise InputError(
                "several devices under TensorFlow",
                found=num_devices,
                allowed=1,
                remedy="Set KERAS_BACKEND=jax.",
            )
        import tensorflow as tf

        if num_threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(num_threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        if deterministic:
            tf.config.experimental.enable_op_determinism()
        return
    _require_jax()
    if deterministic and "xla_gpu_deterministic_ops" not in os.environ.get("XLA_FLAGS", ""):
        flags = (os.environ.get("XLA_FLAGS", ""), "--xla_gpu_deterministic_ops=true")
        os.environ["XLA_FLAGS"] = " ".join(flags).strip()
    if several_hosts:
        keras.distribution.initialize()
    devices = keras.distribution.list_devices()
    if num_devices is not None and not 1 <= num_devices <= len(devices):
        raise InputError(
            "devices", found=num_devices, allowed=f"1 to {len(devices)}", remedy="Ask for fewer."
        )
    chosen = devices[:num_devices]
    if len(chosen) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=chosen))


def num_devices() -> int:
    """Devices that share a batch."""
    chosen = keras.distribution.distribution()
    return 1 if chosen is None else int(np.prod(chosen.device_mesh.shape))


def host() -> int:
    """Number of this process among those of all hosts; that of host 0 writes the run folder."""
    if keras.backend.backend() != "jax":
        return 0
    import jax

    return jax.process_index()


def on_any_host(flag: bool) -> bool:
    """Whether the flag is set in the process of any host; all of them call this together."""
    if keras.backend.backend() != "jax":
        return flag
    import jax

    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.array([flag])).any())


class Step(Protocol):
    """A compiled step."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        """Take the step. Output: the terms."""
        ...

    def memory(self, batch: dict[str, Any]) -> int | None:
        """Bytes that the step needs on each device, before it is run; None where unknown."""
        ...

    def program(self, batch: dict[str, Any]) -> Any:
        """The whole step as a ``jax.core.ClosedJaxpr``; None under TensorFlow."""
        ...


def _part(batch: dict[str, Any], i: int) -> dict[str, Any]:
    return keras.tree.map_structure(lambda entry: entry[i], batch)


class _TensorflowStep:
    """The step as one ``tf.function``, whose frames are functions of their own (``compiled``)."""

    def __init__(self, loss: Loss, learned: list[Any], update: Update, parts: int):
        import tensorflow as tf

        self._tf, self._loss, self._parts = tf, loss, parts
        self._learned, self._update = learned, update
        self._step = tf.function(self._run, autograph=False)

    def __call__(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        return {key: value.numpy() for key, value in self._step(batch).items()}

    def memory(self, batch: dict[str, Any]) -> int | None:
        return None  # TensorFlow allocates operation by operation and knows no total before

    def program(self, batch: dict[str, Any]) -> Any:
        return None

    def _run(self, batch: dict[str, Any]) -> dict[str, Any]:
        tf = self._tf
        rate = batch["learning_rate"]
        rest = {name: entry for name, entry in batch.items() if name != "learning_rate"}
        parts = [rest] if self._parts == 1 else [_part(rest, i) for i in range(self._parts)]
        total: list[Any] = []
        terms: dict[str, Any] = {}
        for part in parts:
            carry: Any = None
            for span in self._loss.spans(part):
                # What a span keeps for its gradient is free again before the next one begins.
                with tf.control_dependencies(total):
                    gradients, more, carry = self._gradients(part, span, carry)
                    if total:
                        gradients = [a + b for a, b in zip(total, gradients, strict=True)]
                    total = gradients
                    terms = _sum(terms, more)
        if self._parts > 1:
            total = [gradient / self._parts for gradient in total]
            terms = {name: value / self._parts for name, value in terms.items()}
        return {**terms, **self._update(total, rate)}

    def _gradients(self, part: dict[str, Any], span: tuple[int, int], carry: Any) -> Any:
        tf, sources = self._tf, [v.value for v in self._learned]
        if carry is not None:
            carry = keras.tree.map_structure(ops.stop_gradient, carry)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            loss, terms, carry = self._loss(part, span, carry)
        gradients = tape.gradient(loss, sources, unconnected_gradients="zero")
        return [tf.convert_to_tensor(g) for g in gradients], terms, carry


class _JaxStep:
    """The step as one jitted pure function."""

    def __init__(
        self, loss: Loss, learned: list[Any], others: list[Any], update: Update, parts: int
    ):
        import jax

        self._jax, self._loss, self._parts = jax, loss, parts
        self._learned, self._others, self._update = learned, others, update
        placed: dict[str, Any] = {}
        self._mesh: Any = None
        distribution = keras.distribution.distribution()
        if distribution is not None:
            self._mesh = distribution.device_mesh.backend_mesh
            placed = {"out_shardings": self._sharding()}  # every device holds all weights
        self._step = jax.jit(self._run, **placed)

    def __call__(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        terms, values, rest = self._step(*self._arguments(batch))
        variables = [*self._learned, *self._others]
        for variable, value in zip(variables, [*values, *rest], strict=True):
            variable.assign(value)
        return {key: np.asarray(value) for key, value in terms.items()}

    def memory(self, batch: dict[str, Any]) -> int | None:
        found = self._step.lower(*self._arguments(batch)).compile().memory_analysis()
        if found is None:
            return None
        sizes = found.argument_size_in_bytes + found.output_size_in_bytes
        return int(sizes + found.temp_size_in_bytes - found.alias_size_in_bytes)

    def program(self, batch: dict[str, Any]) -> Any:
        return self._jax.make_jaxpr(self._run)(*self._arguments(batch))

    def _arguments(self, batch: dict[str, Any]) -> tuple[Any, ...]:
        values, rest = ([v.value for v in group] for group in (self._learned, self._others))
        if self._mesh is not None:
            batch = self._jax.tree_util.tree_map_with_path(self._placed, batch)
        return values, rest, batch

    def _placed(self, path: tuple[Any, ...], entry: Any) -> Any:
        """An entry of a batch on the devices: its clips are shared out, anything else is copied."""
        axes: tuple[str | None, ...] = ()
        if path[-1].key in PER_CLIP:
            before = (None,) if self._parts > 1 else ()
            axes = (*before, *self._mesh.axis_names)
        # Every host makes the whole batch and gives its own devices their part.
        array = np.asarray(entry)
        return self._jax.make_array_from_callback(
            array.shape, self._sharding(*axes), lambda index: array[index]
        )

    def _sharding(self, *axes: str | None) -> Any:
        return self._jax.sharding.NamedSharding(self._mesh, self._jax.sharding.PartitionSpec(*axes))

    def _run(self, values: list[Any], others: list[Any], batch: dict[str, Any]) -> Any:
        rate = batch["learning_rate"]
        parts = {name: entry for name, entry in batch.items() if name != "learning_rate"}
        if self._parts == 1:
            gradients, terms = self._gradients(values, others, parts)
        else:
            first = self._jax.eval_shape(self._gradients, values, others, _part(parts, 0))
            zeros = self._jax.tree.map(lambda s: ops.zeros(s.shape, s.dtype), first)

            def add(total: Any, part: Any) -> Any:
                found = self._gradients(values, others, part)
                return self._jax.tree.map(ops.add, total, found), None

            total, _ = self._jax.lax.scan(add, zeros, parts)
            gradients, terms = self._jax.tree.map(lambda entry: entry / self._parts, total)
        with keras.StatelessScope(state_mapping=self._mapping(values, others)) as scope:
            terms = {**terms, **self._update(gradients, rate)}
        groups = (self._learned, self._others)
        return terms, *([scope.get_current_value(v) for v in group] for group in groups)

    def _gradients(self, values: list[Any], others: list[Any], part: dict[str, Any]) -> Any:
        jax = self._jax
        total: Any = None
        carry: Any = None
        terms: dict[str, Any] = {}
        for span in self._loss.spans(part):

            def loss_of(values: list[Any], carry: Any, span: Any = span) -> Any:
                with keras.StatelessScope(state_mapping=self._mapping(values, others)):
                    loss, more, following = self._loss(part, span, carry)
                return loss, (more, following)

            (_, (more, carry)), found = jax.value_and_grad(loss_of, has_aux=True)(values, carry)
            total = found if total is None else jax.tree.map(ops.add, total, found)
            terms = _sum(terms, more)
            # What a span keeps for its gradient is free again before the next one begins.
            total, carry = jax.lax.optimization_barrier((total, carry))
        return total, terms

    def _mapping(self, values: list[Any], others: list[Any]) -> list[tuple[Any, Any]]:
        return [
            *zip(self._learned, values, strict=True),
            *zip(self._others, others, strict=True),
        ]


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
