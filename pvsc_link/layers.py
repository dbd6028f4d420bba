"""PVSC and DVST over a channel as Keras models: frames in, received frames out, with gradients.

    frames --> transmitter of a whole GOP --> symbols --> channel object --> receiver --> frames_hat
                       |                                                        ^
                       +--> side information: z_hat, rate map, gain, vectors ---+

``Pvsc`` and ``Dvst`` put together the frame coding of ``models``, the channel contract of ``link``
and nothing else: at equal seeds they show the pictures that a sweep scores (``schemes.semantic``).
The file stands beside the rooms because ``models`` knows no link. ``docs/layers.md`` is the guide.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from pvsc_link.link import Channel, as_snr_db, get_mcs, seed_tensor
from pvsc_link.media import crop, pad_to_multiple
from pvsc_link.models import (
    SIDE_FORMATS,
    SUFFIX,
    GopCoder,
    SentFrame,
    SideInfo,
    StreamSteps,
    Transmitter,
    find_dvst_weights,
    find_weights,
    fresh_models,
    pack_gop,
    read_config,
    save_with_config,
    search,
    unpack_gop,
    unrolled,
)
from pvsc_link.types import InputError


class GopOutput(NamedTuple):
    """What ``Pvsc`` and ``Dvst`` give for a batch of GOPs of T frames.

    ``frames_hat`` : [batch, T, height, width, 3], float32, clipped to [0, 1]
    ``symbols``, ``symbols_hat`` : [batch, num_symbols], complex64, what is sent, with unit power
    per frame, and what the equaliser gives; zeros behind the symbols of a clip are not sent
    ``num_symbols`` : [batch, T], int32, channel uses of the symbols of every frame
    ``num_bits_side`` : [batch, T], float32, entropy of the side information: of z_hat under its
    prior, with gradient; of the rate map, the gain's byte and the vectors, without
    ``num_reals`` : [batch, T], float32, sum of k over the units; its gradient is that of eta times
    the entropy of the latent (eq. 14)
    ``num_bits_z`` : [batch, T], float32, the part of ``num_bits_side`` that z_hat takes
    ``cbr`` : [batch], float32, channel uses over T height width 3 (eq. 5): symbols, pilots, and
    ``num_bits_side`` at the spectral efficiency of ``side_mcs``; its gradient is that of
    ``num_reals`` / 2 and of ``num_bits_side``
    ``rate_index``, ``z_hat``, ``motion`` : tuples of T tensors, side information of every frame:
    [batch, Hy, Wy], int32; [batch, Hz, Wz, C_z], float32; [batch, Hy, Wy, 2], int32, or None
    ``gain`` : [batch, T], float32
    ``quality`` : [batch], int32
    ``overhead`` : [batch], int32, channel uses of pilots
    ``stats`` : scalars of the channel (``link.ChannelOutput``); ``snr`` over what is sent alone
    """

    frames_hat: Any
    symbols: Any
    symbols_hat: Any
    num_symbols: Any
    num_bits_side: Any
    num_reals: Any
    num_bits_z: Any
    cbr: Any
    rate_index: tuple[Any, ...]
    z_hat: tuple[Any, ...]
    motion: tuple[Any, ...]
    gain: Any
    quality: Any
    overhead: Any
    stats: dict[str, Any]


class _GopModel(keras.Model):
    """What ``Pvsc`` and ``Dvst`` share."""

    def __init__(
        self,
        intra: Any,
        model: Any,
        channel: Channel,
        *,
        quality: Any = None,
        snr_db: Any = None,
        side_mcs: int = 5,
        rate_weight: float = 1.0,
        jit_compile: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _check_channel(channel)
        for one in (intra, model):
            _check_precision(one)
        self.intra, self.model, self.channel = intra, model, channel
        self.quality, self.snr_db, self.rate_weight = quality, snr_db, rate_weight
        self.side_efficiency = get_mcs(side_mcs).spectral_efficiency
        self.jit_compile_gop = jit_compile
        self._moves = model.motion_prior is not None
        configs = intra.config, model.config
        self._noise_input = any(getattr(config, "noise_input", False) for config in configs)
        #: For ``compile``: Keras then compiles a training step with XLA where this model can be.
        self.supports_jit = jit_compile and not self._moves
        # Functions within the graph only where XLA needs them: their gradients take long to trace.
        of_frames: dict[str, Any] = {}
        if jit_compile and self._moves:
            of_frames["compiled"] = partial(tf.function, autograph=False, jit_compile=True)
        # XLA cannot compile the gradient of a loop whose step is a function of its own.
        loop = unrolled if jit_compile and not self._moves else _loop
        # Plain holders: Keras would take dicts of its own for state to save.
        self._coders = tuple(
            GopCoder(
                StreamSteps(intra, model, quantiser=quantiser),
                self._search_in_graph if self._moves else None,
                loop=loop,
                **of_frames,
            )
            for quantiser in ("round", "ste")
        )
        self._graphs = _Graphs(self._transmit)
        self.built = True
        # Of Keras: whatever comes in reaches ``call``, which says what is wrong with it.
        self._allow_non_tensor_positional_args = True

    def call(
        self,
        frames: Any,
        quality: Any = None,
        snr_db: Any = None,
        seed: Any = None,
        side_ok: Any = None,
        training: bool = False,
        first_symbol: Any = 0,
    ) -> GopOutput:
        """One batch of GOPs over the channel; the class says what goes in."""
        if isinstance(frames, Mapping):
            _check_names(frames)
            return self.call(**{"training": training, **frames})
        frames = self._frames(frames)
        batch, num_frames = tf.shape(frames)[0], frames.shape[1]
        quality = _of_clips("quality", self._quality(quality), [batch], frames)
        given = [frames, quality, self._snr_db(snr_db, frames), self._seed(seed, training)]
        given.append(tf.cast(first_symbol, tf.int32))
        if side_ok is not None:
            arrived = _tensor("side_ok", side_ok, "[batch, T], bool", "None: all arrived.")
            arrived = tf.cast(arrived, tf.bool)
            given.append(_of_clips("side_ok", arrived, [batch, num_frames], frames))
        whole = self.jit_compile_gop and not self._moves
        output: GopOutput
        output, impossible = self._graphs.find(given, bool(training), whole)(*given)
        if tf.executing_eagerly():
            _refuse_impossible(impossible.numpy().tolist())
        if training:
            self.add_loss(self.rate_weight * self.rate_loss(output))
        return output

    def send(
        self,
        frames: np.ndarray,
        quality: int | None = None,
        snr_db: float | None = None,
        seed: int = 0,
    ) -> GopOutput:
        """One GOP of 8-bit pictures of any size over the channel, as pictures again.

        Input: ``frames`` : [T, height, width, 3], uint8; others as in a call.
        Output: ``GopOutput`` of a batch of one, but ``frames_hat`` is [T, height, width, 3], uint8,
        and ``cbr`` counts the samples of the source without padding.
        Raises ``InputError`` as a call does.

        Example::

            out = pvsc.send(load_clip("carphone", num_frames=4).frames, quality=3, snr_db=6.0)
        """
        frames = np.asarray(frames)
        if frames.ndim != 4 or frames.dtype != np.uint8:
            raise InputError(
                "frames of a clip",
                found=f"{frames.dtype} {list(frames.shape)}",
                allowed="uint8 [T, height, width, 3]",
                remedy="load_clip gives such frames.",
            )
        height, width = frames.shape[1:3]
        multiple = max(one.config.padding_multiple for one in (self.intra, self.model))
        padded = pad_to_multiple(frames, multiple)
        out = self(padded[None].astype(np.float32) / 255.0, quality, snr_db, seed)
        shown = np.rint(crop(np.asarray(out.frames_hat)[0], height, width) * 255.0)
        return out._replace(
            frames_hat=shown.astype(np.uint8), cbr=out.cbr * (padded.size / frames.size)
        )

    def rate_loss(self, output: GopOutput) -> Any:
        """L_rate of eq. 25 per pixel, mean over clips and frames: [], float32.

        (sum of k + eta bits of z) / (height width). In eq. 27 it stands beside omega times the
        distortion.
        """
        height, width = output.frames_hat.shape[2:4]
        reals = output.num_reals + self.model.config.eta * output.num_bits_z
        return tf.reduce_mean(reals) / (height * width)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The compiled loss of (frames, frames_hat), and the rate term; ``y`` None: the input."""
        given = _targets(x, y), y_pred.frames_hat, sample_weight, training
        return super().compute_loss(x, *given)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The compiled metrics of (frames, frames_hat)."""
        return super().compute_metrics(x, _targets(x, y), y_pred.frames_hat, sample_weight)

    def predict_step(self, data: Any) -> Any:
        """``predict`` gives ``frames_hat``."""
        return self(keras.utils.unpack_x_y_sample_weight(data)[0], training=False).frames_hat

    def side_bits(
        self, output: GopOutput, side_format: str = "png"
    ) -> list[list[dict[str, bytes]]]:
        """The bytes b_z ("z") and b_k ("k") of every frame of every clip; outside of graphs.

        ``num_bits_side`` estimates them: a range coder adds up to 2 bytes, and each format of the
        rate map what it needs (PNG 57 bytes of container). Where tables were fitted that know the
        neighbours of z_hat or of a unit, the bytes may be fewer than the estimate.

        Input: ``output`` : eager, of this model. Parameters: ``side_format`` : of b_k, one of
        ``SIDE_FORMATS``. Raises ``InputError`` for another format.
        """
        if side_format not in SIDE_FORMATS:
            remedy = "png is the paper's."
            raise InputError("side_format", found=side_format, allowed=SIDE_FORMATS, remedy=remedy)
        height, width = output.frames_hat.shape[2:4]
        ends: dict[int, Transmitter] = {}
        clips = []
        for clip, quality in enumerate(output.quality.numpy().tolist()):
            if quality not in ends:
                session = {"omega_index": quality, "side_format": side_format}
                ends[quality] = Transmitter(
                    self.intra, self.model, height=height, width=width, **session
                )
            frames = [_side_of(output, clip, t) for t in range(len(output.z_hat))]
            clips.append([ends[quality].write_side(side, t) for t, side in enumerate(frames)])
        return clips

    def _files(self) -> tuple[str, str]:
        """Names of the weights of I and of P frames in the folder of a training run."""
        return "intra", "inter"

    def save_preset(self, folder: str | Path) -> None:
        """Write weights and configs as a training run does.

        ``from_preset(weights=folder)`` reads them, and so does ``weights:`` of a scenario.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        for model, name in zip((self.intra, self.model), self._files(), strict=True):
            save_with_config(model, Path(folder) / f"{name}{SUFFIX}")

    def _transmit(
        self,
        training: bool,
        frames: tf.Tensor,
        quality: tf.Tensor,
        snr_db: tf.Tensor,
        seed: tf.Tensor,
        first_symbol: tf.Tensor,
        side_ok: tf.Tensor | None = None,
    ) -> tuple[GopOutput, tf.Tensor]:
        """The graph: everything from frames to frames, and ``_impossible`` of the channel."""
        coder = self._coders[training]
        sent = coder.transmit(frames, quality)
        rate_sets = [coder.models[t == 0].config.rate_set for t in range(len(sent))]
        pairs, count = pack_gop(sent, rate_sets)
        symbols = tf.complex(pairs[..., 0], pairs[..., 1])
        if not self.jit_compile_gop or self._moves:  # XLA needs one length for all rate maps
            symbols = symbols[:, : tf.maximum(tf.reduce_max(count), 1)]
        received = self.channel(symbols, snr_db=snr_db, seed=seed, first_symbol=first_symbol)
        symbols_hat = received.x_hat
        reals = unpack_gop(symbols_hat, sent, rate_sets)
        no_eff = None
        if self._noise_input:  # the variance of a symbol for both of its reals
            variances = tf.complex(received.no_eff, received.no_eff)
            no_eff = unpack_gop(variances, sent, rate_sets)
        frames_hat = coder.receive(reals, sent, quality, side_ok, no_eff)
        column = _columns(sent)
        num_bits_side = column["num_bits_z"] + column["num_bits_map"]
        length = tf.shape(symbols)[1]
        overhead = _share_of(received.overhead, count, length)
        uses = 0.5 * tf.reduce_sum(column["num_reals"], axis=1)
        uses += tf.stop_gradient(tf.cast(count, tf.float32) - uses)
        uses += tf.cast(overhead, tf.float32)
        uses += tf.reduce_sum(num_bits_side, axis=1) / self.side_efficiency
        is_sent = tf.range(length) < count[:, None]
        output = GopOutput(
            frames_hat=frames_hat,
            symbols=symbols,
            symbols_hat=symbols_hat,
            num_symbols=column["num_symbols"],
            num_bits_side=num_bits_side,
            num_reals=column["num_reals"],
            num_bits_z=column["num_bits_z"],
            cbr=uses / float(np.prod(frames.shape[1:])),
            rate_index=tuple(frame.rate_index for frame in sent),
            z_hat=tuple(frame.z_hat for frame in sent),
            motion=tuple(frame.motion for frame in sent),
            gain=column["gain"],
            quality=quality,
            overhead=overhead,
            stats={**received.stats, "snr": _measured_snr(symbols, symbols_hat, is_sent)},
        )
        return output, _impossible(received, is_sent)

    def get_config(self) -> dict[str, Any]:
        """Refused: a channel object is not among what Keras can write down."""
        raise _cannot_be_saved()

    def save(self, *arguments: Any, **options: Any) -> None:
        """Refused, with what takes its place."""
        raise _cannot_be_saved()

    def _search_in_graph(self, feature: Any, frame: Any, quality: Any) -> tuple[Any, Any]:
        """``models.gop.MotionSearch`` through numpy; vectors have no gradient."""
        motion, num_bits = tf.numpy_function(
            self._search, [feature, frame, quality], [tf.int32, tf.float32], stateful=False
        )
        batch, height, width, _ = frame.shape
        motion.set_shape([batch, height // 16, width // 16, 2])
        num_bits.set_shape([batch])
        return motion, num_bits

    def _search(
        self, feature: np.ndarray, frame: np.ndarray, quality: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        motion = search(self.model.config, feature, frame, quality).astype(np.int32)
        num_bits = [self.model.motion_prior.num_bits(vectors) for vectors in motion]
        return motion, np.array(num_bits, np.float32)

    def _frames(self, frames: Any) -> tf.Tensor:
        multiple = max(self.intra.config.padding_multiple, self.model.config.padding_multiple)
        allowed = (
            "float in [0, 1], [batch, T, height, width, 3], height and width multiples of "
            f"{multiple}"
        )
        remedy = "Divide 8-bit pixels by 255; pad with pvsc_link.media.pad_to_multiple."
        frames = _tensor("frames", frames, allowed, remedy)
        shape = frames.shape
        fits = shape.rank == 5 and shape[-1] == 3 and None not in shape[1:] and shape[1] > 0
        fits = fits and shape[0] != 0
        fits = fits and all(size > 0 and size % multiple == 0 for size in shape[2:4])
        if not fits:
            raise InputError("shape of frames", found=str(shape), allowed=allowed, remedy=remedy)
        if not frames.dtype.is_floating:
            raise InputError(
                "type of frames", found=frames.dtype.name, allowed=allowed, remedy=remedy
            )
        if isinstance(frames, tf.__internal__.EagerTensor):
            low, high = float(tf.reduce_min(frames)), float(tf.reduce_max(frames))
            if not (low >= 0.0 and high <= 1.0):  # False for NaN as well
                raise InputError(
                    "values of frames", found=(low, high), allowed=allowed, remedy=remedy
                )
        return tf.cast(frames, tf.float32)

    def _quality(self, quality: Any) -> tf.Tensor:
        highest = min(self.intra.config.num_omega, self.model.config.num_omega) - 1
        allowed = f"integers from 0 to {highest}, one or one per clip"
        remedy = "Name quality presets of the weights."
        quality = _tensor("quality", self._given("quality", quality), allowed, remedy)
        if not quality.dtype.is_integer or quality.shape.rank not in (0, 1):
            found = f"{quality.dtype.name} {quality.shape}"
            raise InputError("quality", found=found, allowed=allowed, remedy=remedy)
        if isinstance(quality, tf.__internal__.EagerTensor):
            values = quality.numpy()
            if values.min() < 0 or values.max() > highest:
                found = values.tolist()
                raise InputError("quality", found=found, allowed=allowed, remedy=remedy)
        return tf.cast(quality, tf.int32)

    def _snr_db(self, snr_db: Any, frames: tf.Tensor) -> tf.Tensor:
        snr_db, allowed = self._given("snr_db", snr_db), "a number (dB), or one per clip"
        remedy = "Give Es/N0 per complex symbol in dB."
        values = _tensor("snr_db", snr_db, allowed, remedy)
        if not (values.dtype.is_floating or values.dtype.is_integer) or values.shape.rank not in (
            0,
            1,
        ):
            found = f"{values.dtype.name} {values.shape}"
            raise InputError("snr_db", found=found, allowed=allowed, remedy=remedy)
        values = tf.cast(as_snr_db(values if tf.is_tensor(snr_db) else snr_db), tf.float32)
        if not values.shape.rank or values.shape.is_compatible_with(frames.shape[:1]):
            return values
        found = f"{values.shape[0]} for {frames.shape[0]} clips"
        raise InputError("snr_db", found=found, allowed=allowed, remedy=remedy)

    def _given(self, name: str, value: Any) -> Any:
        """The value of a call, or that of the model."""
        value = getattr(self, name) if value is None else value
        if value is None:
            raise InputError(
                name,
                found=None,
                allowed=f"a value for {name}",
                remedy=f"Pass {name} to the call, or to the model as the value for all calls.",
            )
        return value

    def _seed(self, seed: Any, training: bool) -> tf.Tensor:
        """[2], tf.uint32; without a seed, the number of the training step, or 0."""
        if seed is None:
            seed = 0
            if training and getattr(self, "optimizer", None) is not None:
                seed = tf.convert_to_tensor(self.optimizer.iterations)
        return seed_tensor(seed)


class Pvsc(_GopModel):
    """PVSC over a channel: a whole GOP from frames to frames (Fig. 2 to 5), as a Keras model.

    The first of T frames is an I frame, the others are P frames. The transmitter codes the GOP
    without knowing the channel; the symbols of a clip meet one realisation of the channel, row b of
    the batch that of row b of the channel's contract. Side information arrives as sent, except
    where ``side_ok`` says otherwise; then the receiver shows the frame before, grey at first.

    With ``training=True`` rounding is replaced by a straight-through estimator ("ste"): the values
    stay, up to float rounding, and gradients reach every weight of the transmitter. Without it
    there are gradients of the receiver and of F_tx. Clipping ``frames_hat`` passes gradients on,
    except in P frames of models with motion vectors, whose buffer is the clipped picture. Rate maps
    and vectors have no gradient; the number of symbols has that of eta times the entropy.

    Parameters
    ----------
    intra, model : the models of I and of P frames (``models``); they train with this one
    channel : object of the contract ``link.Channel``, e.g. ``BlockFading``; with an equaliser
    quality, snr_db : for calls that give none, such as those of ``fit``
    side_mcs : MCS (TS 38.214, 0 to 28) at whose spectral efficiency ``cbr`` counts side bits; the
        CRC and the filling of blocks are not counted
    rate_weight : of ``rate_loss`` in the loss that ``fit`` minimises, 1 / omega in eq. 27
    jit_compile : bool, compile with XLA. With motion vectors, found by numpy, each frame is
        compiled, else the whole GOP with the channel; ``symbols`` then have their largest length

    Input
    -----
    frames : [batch, T, height, width, 3], float in [0, 1]; T from 1; height and width multiples of
        ``padding_multiple`` of the models (64 for the small presets). Or a dict of the arguments
        of a call, for ``fit``
    quality : int or [batch], quality preset
    snr_db : float, [] or [batch], dB
    seed : int, or [2], tf.uint32, of the channel; None: the number of the training step, else 0
    side_ok : [batch, T], bool, whose side information arrived; None: all
    first_symbol : int or [], tf.int32, channel use of the first symbol. In a sweep it is the number
        of channel uses of the side stream, which is sent before the symbols

    Output
    ------
    GopOutput. Raises ``InputError`` for bad arguments, and for a channel that breaks its contract.
    Another batch does not trace the graph again; another T or frame size does.

    Example
    -------
    >>> import tensorflow as tf
    >>> from pvsc_link import BlockFading, Pvsc
    >>> pvsc = Pvsc.from_preset("pvsc_mc_small", channel=BlockFading(csi_nmse_db=-20.0))
    >>> out = pvsc(tf.random.uniform([1, 2, 64, 64, 3]), quality=2, snr_db=6.0, seed=1)
    >>> out.frames_hat.shape, out.num_symbols.shape
    (TensorShape([1, 2, 64, 64, 3]), TensorShape([1, 2]))
    """

    @classmethod
    def from_preset(
        cls,
        preset: str | None = None,
        *,
        channel: Channel,
        weights: str | Path | None = None,
        **options: Any,
    ) -> Self:
        """The models of a preset with its trained weights, or from a fixed start if it has none.

        Parameters: ``preset`` : key of ``models.PRESETS``, or a folder of weights; None: what the
        config beside ``weights`` names, else ``pvsc_small``; ``weights`` : folder of a training
        run's weights, or the name of another training of the preset in the package, such as
        ``rayleigh``; ``options`` : of the class. Raises ``InputError`` for unknown names.
        """
        if preset is not None and weights is None and Path(preset).is_dir():
            preset, weights = None, preset
        folder = None if weights is None else str(weights)
        preset = preset or _named_by(folder, f"inter{SUFFIX}") or "pvsc_small"
        return cls(*fresh_models(preset, find_weights(preset, folder)), channel, **options)


class Dvst(_GopModel):
    """DVST over a channel: a whole GOP from frames to frames, as a Keras model.

    As ``Pvsc``, with these differences. A model of P frames has one rate, so there is no
    ``quality`` to choose, and I frames are sent at the quality preset of the same number.
    ``motion`` is None, since motion is part of the symbols. Rate maps of P frames hold both streams
    one above the other. What the P frames send is not rounded, so gradients reach most of their
    transmitter without ``training=True`` as well.

    Parameters
    ----------
    intra, model, channel, snr_db, side_mcs, rate_weight, jit_compile : as ``Pvsc``
    rate : int, number of the model's rate

    Input and output: as ``Pvsc``, without ``quality``.
    """

    def __init__(self, intra: Any, model: Any, channel: Channel, *, rate: int = 0, **options: Any):
        _check_rate(rate, range(model.config.num_rates))
        super().__init__(intra, model, channel, quality=rate, **options)

    @classmethod
    def from_preset(
        cls,
        preset: str = "dvst_tiny",
        *,
        channel: Channel,
        rate: int = 0,
        weights: str | Path | None = None,
        **options: Any,
    ) -> Self:
        """The models of one rate of a preset, from a fixed start where there are no weights.

        Parameters: ``preset`` : key of ``models.DVST_PRESETS``; ``weights`` : folder of weights;
        ``options`` : of the class. Raises ``InputError`` for an unknown name or rate.
        """
        files = find_dvst_weights(preset, None if weights is None else str(weights))
        _check_rate(rate, files)
        models = fresh_models(preset, files[rate])
        return cls(*models, channel, rate=rate, **options)

    def _quality(self, quality: Any) -> tf.Tensor:
        if quality is not None:
            raise InputError(
                "quality",
                found=quality,
                allowed="none: a model of DVST has one rate",
                remedy="Choose the rate in from_preset.",
            )
        return super()._quality(None)

    def _files(self) -> tuple[str, str]:
        return "intra", f"inter_rate{self.quality}"


class _Graphs:
    """One traced function per training mode and shape of the inputs; the batch is open."""

    def __init__(self, function: Any):
        self._function = function
        self._traced: dict[tuple[Any, ...], Any] = {}

    def __iter__(self) -> Iterator[Any]:
        return iter(self._traced.values())

    def find(self, given: Sequence[tf.Tensor], training: bool, jit_compile: bool) -> Any:
        batched = {0, 1, 5}  # frames, quality, side_ok
        shapes = [list(one.shape) for one in given]
        for place, shape in enumerate(shapes):
            if shape and (place in batched or place == 2):
                shape[0] = None
        key = (training, *map(tuple, shapes))
        if key not in self._traced:
            signature = [
                tf.TensorSpec(shape, one.dtype) for shape, one in zip(shapes, given, strict=True)
            ]
            self._traced[key] = tf.function(
                partial(self._function, training),
                input_signature=signature,
                autograph=False,
                jit_compile=jit_compile or None,
            )
        return self._traced[key]


def _loop(step: Any, carry: tuple[Any, ...], xs: tuple[Any, ...]) -> tuple[Any, Any]:
    """``models.gop.Loop`` as a loop inside the graph, whose size does not depend on T.

    A single step needs no loop, whose gradient would take most of the time of tracing.
    """
    num_steps = xs[0].shape[0]
    if num_steps == 1:
        carry, only = step(carry, tuple(x[0] for x in xs))
        return carry, tuple(y[None] for y in only)
    traced = tf.function(step, autograph=False)
    made = traced.get_concrete_function(
        tuple(tf.TensorSpec(value.shape, value.dtype) for value in carry),
        tuple(tf.TensorSpec(x.shape[1:], x.dtype) for x in xs),
    ).structured_outputs[1]
    arrays = tuple(tf.TensorArray(y.dtype, num_steps, element_shape=y.shape) for y in made)

    def body(t: tf.Tensor, carry: Any, arrays: Any) -> Any:
        following, ys = traced(carry, tuple(x[t] for x in xs))
        pairs = zip(following, carry, strict=True)
        following = tuple(tf.ensure_shape(new, old.shape) for new, old in pairs)
        written = tuple(array.write(t, y) for array, y in zip(arrays, ys, strict=True))
        return t + 1, following, written

    _, carry, arrays = tf.while_loop(
        lambda t, *_: t < num_steps, body, (0, carry, arrays), maximum_iterations=num_steps
    )
    return carry, tuple(array.stack() for array in arrays)


def _columns(sent: Sequence[SentFrame]) -> dict[str, tf.Tensor]:
    """Numbers of a frame as columns: [batch, T]."""
    names = ("num_symbols", "num_reals", "num_bits_z", "num_bits_map", "gain")
    return {name: tf.stack([getattr(frame, name) for frame in sent], axis=1) for name in names}


def _share_of(overhead: Any, count: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Overhead of a stream of ``length``, in proportion to what a clip sends, rounded up."""
    overhead, count, length = (tf.cast(one, tf.int64) for one in (overhead, count, length))
    return tf.cast((overhead * count + length - 1) // length, tf.int32)


def _measured_snr(symbols: tf.Tensor, symbols_hat: tf.Tensor, is_sent: tf.Tensor) -> tf.Tensor:
    """Power of the sent symbols over their squared error after the equaliser: [], linear."""

    def energy(values: tf.Tensor) -> tf.Tensor:
        power = tf.square(tf.math.real(values)) + tf.square(tf.math.imag(values))
        return tf.reduce_sum(tf.where(is_sent, power, 0.0))

    error = energy(tf.stop_gradient(symbols_hat - symbols))
    return energy(tf.stop_gradient(symbols)) / tf.maximum(error, 1e-12)


def _side_of(output: GopOutput, clip: int, t: int) -> SideInfo:
    """Side information of one frame of one clip."""
    one = slice(clip, clip + 1)
    motion = output.motion[t]
    return SideInfo(
        intra=t == 0,
        preset=int(output.quality[clip]),
        z_hat=output.z_hat[t][one].numpy(),
        motion=None if motion is None else motion[one].numpy(),
        rate_index=output.rate_index[t][one].numpy(),
        gain=output.gain[clip, t].numpy(),
    )


def _impossible(received: Any, is_sent: tf.Tensor) -> tf.Tensor:
    """Sent symbols with an x_hat that is not finite, with such or a negative no_eff, and the least
    overhead: [3], int32."""
    finite_x = tf.math.is_finite(tf.abs(received.x_hat))
    finite_no = tf.math.is_finite(received.no_eff) & (received.no_eff >= 0.0)
    bad = [tf.math.count_nonzero(is_sent & ~good, dtype=tf.int32) for good in (finite_x, finite_no)]
    return tf.stack([*bad, tf.reduce_min(tf.cast(received.overhead, tf.int32))])


def _refuse_impossible(counts: Sequence[int]) -> None:
    """Raise ``InputError`` for what ``_impossible`` found."""
    remedy = "Correct the channel, or what its equaliser divides by."
    names = {"x_hat": "finite values", "no_eff": "finite values from 0"}
    for count, (name, allowed) in zip(counts, names.items(), strict=False):
        if count:
            found = f"{count} values that are not"
            what = f"{name} of the channel"
            raise InputError(what, found=found, allowed=allowed, remedy=remedy)
    if counts[2] < 0:
        allowed = "0 or a positive number of channel uses"
        raise InputError("overhead of the channel", found=counts[2], allowed=allowed, remedy=remedy)


def _tensor(name: str, value: Any, allowed: str, remedy: str) -> tf.Tensor:
    """``value`` as a tensor; ``InputError`` where TensorFlow makes none of it."""
    try:
        return tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        found = f"{type(value).__name__}: {error}"[:200]
        raise InputError(name, found=found, allowed=allowed, remedy=remedy) from error


def _of_clips(name: str, value: tf.Tensor, shape: list[Any], frames: tf.Tensor) -> tf.Tensor:
    """``value`` for every clip; ``InputError`` where its static shape does not fit."""
    wanted = frames.shape[: len(shape)]
    try:
        fits = tf.broadcast_static_shape(value.shape, wanted).is_compatible_with(wanted)
    except ValueError:
        fits = False
    if fits:
        return tf.broadcast_to(value, shape)
    raise InputError(
        name,
        found=f"shape {value.shape}",
        allowed=f"one value, or shape {wanted}",
        remedy="Give one value, or one for each clip of the batch.",
    )


def _check_names(given: Mapping[str, Any]) -> None:
    """Raise ``InputError`` for a dict that is not one of the arguments of a call."""
    known = ("frames", "quality", "snr_db", "seed", "first_symbol", "side_ok", "training")
    if "frames" not in given or not set(given) <= set(known):
        raise InputError(
            "names of the input",
            found=sorted(map(str, given)),
            allowed=known,
            remedy="frames is needed; the others are those of a call.",
        )


def _check_precision(model: Any) -> None:
    """Raise ``InputError`` for a layer that does not compute in float32."""
    for layer in model._flatten_layers():
        if layer.compute_dtype != "float32":
            raise InputError(
                "precision of the model",
                found=f"{layer.dtype_policy.name} ({layer.name})",
                allowed="float32",
                remedy='Make the model under keras.config.set_dtype_policy("float32"): both ends '
                "must compute equal numbers.",
            )


def _cannot_be_saved() -> InputError:
    return InputError(
        "saving the whole model",
        found="a model that holds a channel object",
        allowed="save_preset(folder) and from_preset(weights=folder), or save_weights(file)",
        remedy="Save the weights, and make the model over a channel again.",
    )


def _targets(x: Any, y: Any) -> Any:
    if y is not None:
        return y
    return x["frames"] if isinstance(x, Mapping) else x


def _named_by(folder: str | None, file: str) -> str | None:
    """Name of the preset in the config of a folder of weights."""
    try:
        return None if folder is None else read_config(Path(folder).expanduser() / file).name
    except OSError:
        return None


def _check_rate(rate: Any, allowed: Any) -> None:
    if isinstance(rate, bool) or rate not in allowed:
        raise InputError(
            "rate", found=rate, allowed=sorted(allowed), remedy="Name a rate that has a model."
        )


def _check_channel(channel: Any) -> None:
    """Trace the channel on a stream of given shape; nothing is computed."""
    allowed = "the contract of pvsc_link.link.Channel"
    remedy = (
        "Take a channel of pvsc_link, or write channel(x, *, snr_db, seed, first_symbol=0) that "
        "returns ChannelOutput(x_hat, no_eff, overhead, stats)."
    )
    if not callable(channel):
        raise InputError("channel", found=channel, allowed=allowed, remedy=remedy)
    shape, problems = [2, 8], []

    def probe() -> tf.Tensor:
        x = tf.ones(shape, tf.complex64)
        output = channel(x, snr_db=tf.constant(0.0), seed=tf.constant([0, 1], tf.uint32))
        missing = [n for n in ("x_hat", "no_eff", "overhead", "stats") if not hasattr(output, n)]
        if missing:
            problems.append(f"an output without {missing[0]}")
            return x
        for name, dtype in (("x_hat", tf.complex64), ("no_eff", tf.float32)):
            value = getattr(output, name)
            fits = tf.is_tensor(value) and value.dtype == dtype
            if not fits or not value.shape.is_compatible_with(shape):
                found = f"{value.dtype.name} {value.shape}" if tf.is_tensor(value) else value
                problems.append(f"{name} of {found} for complex64 {shape}")
        if not isinstance(output.stats, Mapping):
            problems.append(f"stats of {type(output.stats).__name__}")
        return x

    try:
        tf.function(probe, autograph=False).get_concrete_function()
    except TypeError as error:
        raise InputError("channel", found=str(error), allowed=allowed, remedy=remedy) from error
    if problems:
        raise InputError("channel", found=problems[0], allowed=allowed, remedy=remedy)
