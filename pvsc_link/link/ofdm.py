"""OFDM over multipath channels: resource grid, pilots, channel estimation, receive antennas.

    x --> slots of the grid, pilots --> y = h x + sqrt(N0) n --> h_hat --> combining, equaliser

A stream of symbols fills the data resource elements of consecutive slots: place p of the stream
lies in slot p // D, where D is the number of data elements of a slot, in the order of Sionna's
``ResourceGridMapper``. Multipath models, grids and least squares are Sionna's. A channel use is a
resource element. The channel of a resource element is the transform of the impulse response at its
OFDM symbol (``cir_to_ofdm_channel``): the cyclic prefix is taken to be long enough, and the channel
to be constant within an OFDM symbol.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from sionna.phy import PI, SPEED_OF_LIGHT, Block
from sionna.phy.channel import (
    cir_to_ofdm_channel,
    gen_single_sector_topology,
    subcarrier_frequencies,
)
from sionna.phy.channel.tr38901 import CDL, TDL, PanelArray, RMa, UMa, UMi
from sionna.phy.nr import PUSCHConfig, PUSCHPilotPattern
from sionna.phy.ofdm import LSChannelEstimator, ResourceGrid, ResourceGridMapper

from pvsc_link.link.channel import ChannelOutput, as_snr_db
from pvsc_link.link.cir_file import ImpulseResponses, read_cir
from pvsc_link.link.counter_random import complex_normal, seed_tensor, threefry
from pvsc_link.link.equalizers import Equalizer, as_complex, receiver_knowledge
from pvsc_link.link.ofdm_condition import SLOT_SYMBOLS, pilot_symbols
from pvsc_link.link.registry import CHANNELS, find_equalizer
from pvsc_link.link.sionna_random import sionna_draws
from pvsc_link.types import InputError, noise_variance

# Streams of the random generators. Row b of a batch uses 256 b for the noise of its first antenna,
# 256 b + 255 for its choice of impulse responses. Sionna's models draw for all rows together.
_STREAMS_PER_ROW, _CIR_STREAM, _SIONNA_STREAM = 256, 255, 1
#: Sionna's models are built for this speed and carrier; time is stretched instead.
_UNIT_SPEED, _UNIT_CARRIER = 1.0, 1e9
#: Angle of arrival of the line of sight against the motion, Sionna's default in TDL-D and TDL-E.
_LOS_ANGLE = PI / 4.0


class _Grid:
    """One slot: resource elements of pilots and data, and Sionna's blocks that work on it.

    It is built outside of graphs, once per parameters. Resource elements are numbered symbol by
    symbol: element t K + k is subcarrier k of OFDM symbol t.
    """

    def __init__(self, num_prb: int, spacing_khz: int, pilots: str):
        self.num_subcarriers = 12 * num_prb
        spacing = spacing_khz * 1e3
        arguments = SLOT_SYMBOLS, self.num_subcarriers, spacing
        if pilots.startswith("dmrs"):
            pattern = PUSCHPilotPattern(_pusch_config(num_prb, spacing_khz, pilots), "single")
            grid = ResourceGrid(*arguments, pilot_pattern=pattern, precision="single")
        else:
            grid = ResourceGrid(
                *arguments,
                pilot_pattern="kronecker",
                pilot_ofdm_symbol_indices=list(pilot_symbols(pilots)),
                precision="single",
            )
        is_pilot = grid.build_type_grid().numpy().ravel() == 1
        self.data = np.flatnonzero(~is_pilot)
        self.num_pilots = int(is_pilot.sum())
        #: A slot lasts 1 ms at 15 kHz; its symbols, cyclic prefixes included, are taken as equal.
        self.symbol_duration = 15e-3 / (SLOT_SYMBOLS * spacing_khz)
        self.frequencies = subcarrier_frequencies(self.num_subcarriers, spacing, "single")
        self.map = ResourceGridMapper(grid, precision="single")
        self.least_squares = {
            f"ls_{name}": LSChannelEstimator(grid, kind, precision="single")
            for name, kind in (("nearest", "nn"), ("linear", "lin"))
        }
        # Pilots that are sent with power: all of Kronecker's, every second one of DMRS.
        values = grid.pilot_pattern.pilots.numpy()[0, 0]
        sent = np.abs(values) > 0
        self.sent_pilots = np.flatnonzero(is_pilot)[sent].reshape(len(pilot_symbols(pilots)), -1)
        self.pilot_values = values[sent].reshape(self.sent_pilots.shape)
        self.pilot_power = float(np.mean(np.abs(self.pilot_values) ** 2))
        self.pilot_times = self.sent_pilots[:, 0] // self.num_subcarriers
        self.comb = self.sent_pilots[0] % self.num_subcarriers


def _pusch_config(num_prb: int, spacing_khz: int, pilots: str) -> PUSCHConfig:
    """One layer, DMRS of type 1 on one symbol at a time, no data beside them (TS 38.211, 6.4.1.1).

    The comb that is sent has twice the power (TS 38.214, table 6.2.2-1).
    """
    config = PUSCHConfig()
    config.carrier.subcarrier_spacing = spacing_khz
    config.carrier.n_size_grid = num_prb
    config.dmrs.config_type = 1
    config.dmrs.length = 1
    config.dmrs.num_cdm_groups_without_data = 2
    config.dmrs.additional_position = int(pilots.partition("-")[2])
    config.check_config()
    return config


def _outside(build: Callable[..., Any], *arguments: Any) -> Any:
    """What ``build`` makes eagerly, whatever graph is being traced here.

    Some of Sionna's objects make variables or use numbers of tensors when they are built: they
    cannot be built inside a graph. A thread of its own is outside of it.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(build, *arguments).result()


@functools.lru_cache(maxsize=32)
def _grid(num_prb: int, spacing_khz: int, pilots: str) -> _Grid:
    return _outside(_Grid, num_prb, spacing_khz, pilots)


class _Profile(NamedTuple):
    """What an LMMSE estimator knows of a channel: paths, and how each is correlated in time.

    ``powers``, ``delays`` : [num_paths], float64, seconds; ``correlation`` : of time lags in
    seconds, [...] -> [num_paths, ...], complex128
    """

    powers: tf.Tensor
    delays: tf.Tensor
    correlation: Callable[[tf.Tensor], tf.Tensor]


class OfdmChannel(Block):
    """An OFDM link over a multipath channel, with pilots, channel estimation and equaliser.

    ``y = h x + sqrt(N0) n`` on every resource element and receive antenna, N0 = 10^(-snr_db / 10),
    so ``snr_db`` is Es/N0 per receive antenna. The antennas are combined with the channel estimate,
    ``h_hat^H y / |h_hat|``, into one channel of gain ``|h_hat|`` that the equaliser undoes. This is
    zero forcing or LMMSE per resource element for one stream.

    All parameters, their units and bounds are those of ``ofdm_condition.OfdmCondition``. Numbers in
    ``delay_spread_ns``, ``speed_kmh`` and ``carrier_ghz`` may be scalar tensors (``carrier_ghz`` of
    umi, uma and rma may not); all others shape the graph.

    Parameters
    ----------
    channel_model : tdl_a to tdl_e, cdl_a to cdl_e, umi, uma, rma, or cir
    cir_file : of ``cir`` alone, NPZ file with impulse responses (``cir_file.read_cir``)
    cir_digest : digest of that file, which need not be given
    delay_spread_ns : float or [], tf.float32, ns; of TDL and CDL
    speed_kmh : float or [], tf.float32, km/h
    carrier_ghz : float or [], tf.float32, GHz
    num_rx : int, receive antennas
    num_tx : 1
    subcarrier_spacing_khz : 15, 30, 60 or 120
    num_prb : int, resource blocks of 12 subcarriers
    pilots : such as kronecker-2-11 or dmrs-1
    channel_estimation : perfect, ls_nearest, ls_linear or lmmse
    normalize_channel : bool, scale the grid of each slot to mean power 1
    equalizer : key of ``registry.SYMBOL_EQUALIZERS`` or a callable like ``equalizers.zf``
    csi_aware : whether the equaliser knows the variance of the channel estimation error

    Input and output: as ``channel.Channel``; ``overhead`` counts the pilots, ``stats["csi_nmse"]``
    is measured on the resource elements of ``x``. Differentiable with respect to ``x``.
    Raises ``InputError`` for bad parameters (tensors are not looked into).

    Example
    -------
    >>> import tensorflow as tf
    >>> from pvsc_link.link.ofdm import OfdmChannel
    >>> channel = OfdmChannel("tdl_a", delay_spread_ns=30.0, num_rx=2, num_prb=4)
    >>> x = tf.ones([1, 600], tf.complex64)
    >>> out = channel(x, snr_db=10.0, seed=1)
    >>> out.x_hat.shape, int(out.overhead)
    (TensorShape([1, 600]), 100)
    """

    #: XLA cannot compile it: the number of slots is known when it runs.
    jit_compile = False

    def __init__(
        self,
        channel_model: str = "tdl_c",
        *,
        cir_file: str | None = None,
        cir_digest: str | None = None,
        delay_spread_ns: Any = 100.0,
        speed_kmh: Any = 3.0,
        carrier_ghz: Any = 3.5,
        num_rx: int = 1,
        num_tx: int = 1,
        subcarrier_spacing_khz: int = 30,
        num_prb: int = 52,
        pilots: str = "kronecker-2-11",
        channel_estimation: str = "ls_linear",
        normalize_channel: bool = False,
        equalizer: str | Equalizer = "zf",
        csi_aware: bool = False,
    ):
        super().__init__(precision="single")
        given = {
            "channel_model": channel_model,
            "cir_file": cir_file,
            "cir_digest": cir_digest,
            "delay_spread_ns": delay_spread_ns,
            "speed_kmh": speed_kmh,
            "carrier_ghz": carrier_ghz,
            "num_rx": num_rx,
            "num_tx": num_tx,
            "subcarrier_spacing_khz": subcarrier_spacing_khz,
            "num_prb": num_prb,
            "pilots": pilots,
            "channel_estimation": channel_estimation,
            "normalize_channel": normalize_channel,
        }
        if channel_model != "cir" and cir_file is not None:
            raise InputError(
                "cir_file",
                found=f"{cir_file} with the channel model {channel_model}",
                allowed="none: only the channel model cir reads a file",
                remedy='Take channel_model "cir", or leave cir_file out.',
            )
        plain = {name: value for name, value in given.items() if not tf.is_tensor(value)}
        self._condition: Any = CHANNELS["ofdm"].condition(plain)
        numbers = ((n, given[n]) for n in ("delay_spread_ns", "speed_kmh", "carrier_ghz"))
        self._numbers = {
            name: value if tf.is_tensor(value) else getattr(self._condition, name)
            for name, value in numbers
        }
        self._equalizer, self._csi_aware = find_equalizer(equalizer), csi_aware
        usual = self._condition.model_dump()["pilots"]
        self._grid = _grid(num_prb, subcarrier_spacing_khz, usual)

    @property
    def num_data(self) -> int:
        """Resource elements of a slot that carry data."""
        return len(self._grid.data)

    def call(self, x: tf.Tensor, *, snr_db: Any, seed: Any, first_symbol: Any = 0) -> ChannelOutput:
        batch = x.shape[0] or tf.shape(x)[0]
        num_symbols, num_data = tf.shape(x)[1], self.num_data
        seed, grid = seed_tensor(seed), self._grid
        first_slot = first_symbol // num_data
        before = first_symbol - first_slot * num_data
        num_slots = -(-(before + num_symbols) // num_data)
        after = num_slots * num_data - before - num_symbols
        in_slots = tf.reshape(tf.pad(x, [[0, 0], [before, after]]), [-1, 1, 1, num_data])
        sent = tf.reshape(grid.map(in_slots), [-1, 1, SLOT_SYMBOLS * grid.num_subcarriers])
        h, profile = self.draw(seed, batch, first_slot, num_slots)
        no = tf.broadcast_to(noise_variance(as_snr_db(snr_db)), [batch])
        no = tf.repeat(no, num_slots)[:, None, None]
        noise = self._noise(seed, batch, first_slot, num_slots)
        y = h * sent + as_complex(tf.sqrt(no)) * noise
        h_hat, err_var = self._estimate(y, h, no, profile)
        y, h, h_hat, err_var = (
            tf.gather(part, grid.data, axis=-1) for part in (y, h, h_hat, err_var)
        )
        known, err_var = self._knowledge(h_hat, err_var)
        x_hat, no_eff = self._equalize(y, known, no[:, 0], err_var[:, 0])

        def of_stream(values: tf.Tensor) -> tf.Tensor:
            whole = tf.reshape(values, [batch, num_slots * num_data])
            return whole[:, before : before + num_symbols]

        error, power = (tf.reduce_sum(_power(part), axis=1) for part in (h_hat - h, h))
        stats = {
            "csi_nmse": _ratio(of_stream(error), of_stream(power)),
            "snr": _ratio(_power(x), _power(of_stream(x_hat) - x)),
        }
        pilots = tf.cast(num_symbols, tf.int64) * grid.num_pilots
        overhead = tf.cast(-(-pilots // num_data), tf.int32)
        return ChannelOutput(of_stream(x_hat), of_stream(no_eff), overhead, stats)

    def draw(
        self, seed: Any, batch: Any, first_slot: Any, num_slots: Any
    ) -> tuple[tf.Tensor, _Profile | None]:
        """Channel of consecutive slots.

        Input: ``seed`` : int, or [2], ``tf.uint32``; ``batch``, ``first_slot``, ``num_slots`` : int
        or [], ``tf.int32``.
        Output: ``h`` : [batch * num_slots, num_rx, 14 K], ``tf.complex64``, K subcarriers, and what
        is known of its statistics (None: nothing).
        """
        condition, grid = self._condition, self._grid
        if condition.channel_model == "cir":
            a, tau = self._read(seed_tensor(seed), batch, first_slot, num_slots)
            profile = None
        else:
            a, tau, profile = self._simulate(seed_tensor(seed), batch, first_slot, num_slots)
        # [slots, 1, num_rx, 1, 1, num_paths, 14] and [slots, 1, 1, num_paths]
        h = cir_to_ofdm_channel(
            grid.frequencies, a, tau, normalize=bool(condition.normalize_channel)
        )
        elements = SLOT_SYMBOLS * grid.num_subcarriers
        return tf.reshape(h, [batch * num_slots, condition.num_rx, elements]), profile

    def _simulate(
        self, seed: tf.Tensor, batch: Any, first_slot: Any, num_slots: Any
    ) -> tuple[tf.Tensor, tf.Tensor, _Profile | None]:
        """Impulse responses of a model of TR 38.901: a process in time from the first slot on."""
        num_steps = num_slots * SLOT_SYMBOLS
        stretch = self._numbers["speed_kmh"] / 3.6 * self._numbers["carrier_ghz"]
        place = tf.cast(first_slot * SLOT_SYMBOLS + tf.range(num_steps), tf.float32)
        times = place * (self._grid.symbol_duration * stretch)
        # Sionna's models take the times i / sampling_frequency of i = 0, 1, ... A frequency per
        # step gives them any times; step 0 is always time 0, and is left out.
        steps = tf.range(1.0, tf.cast(num_steps, tf.float32) + 1.0)
        frequency = tf.concat([[1.0], steps / times], axis=0)
        with sionna_draws(seed, _SIONNA_STREAM):
            model, profile = self._model(batch, stretch)
            a, tau = model(batch, num_steps + 1, frequency)
        num_rx, num_paths = self._condition.num_rx, tau.shape[-1]
        if num_paths is None:  # of UMi, UMa and RMa for a batch of open size
            num_paths = tf.shape(tau)[-1]
        a = tf.reshape(a[..., 1:], [batch, num_rx, num_paths, num_slots, SLOT_SYMBOLS])
        a = tf.transpose(a, [0, 3, 1, 2, 4])
        a = tf.reshape(a, [-1, 1, num_rx, 1, 1, num_paths, SLOT_SYMBOLS])
        return a, tf.repeat(tf.reshape(tau, [-1, 1, 1, num_paths]), num_slots, axis=0), profile

    def _model(self, batch: Any, stretch: Any) -> tuple[Any, _Profile | None]:
        """Sionna's model for unit speed and carrier, and what an estimator may know of it."""
        family, _, letter = self._condition.channel_model.partition("_")
        if self._condition.is_system_level:
            return self._system_level(batch), None
        num_rx = self._condition.num_rx
        common: dict[str, Any] = {
            "delay_spread": 1e-7,  # set below, where it may be a tensor
            "carrier_frequency": _UNIT_CARRIER,
            "min_speed": _UNIT_SPEED,
            "precision": "single",
        }
        doppler = 2 * PI * _UNIT_SPEED * _UNIT_CARRIER / SPEED_OF_LIGHT * stretch
        if family == "tdl":
            model = TDL(
                letter.upper(),
                **common,
                num_rx_ant=num_rx,
                los_angle_of_arrival=_LOS_ANGLE,
            )
            powers, los_power = model.mean_powers, model.mean_power_los if model.los else 0.0
        else:
            arrays = {"ut_array": _array(num_rx), "bs_array": _array(1)}
            common |= {"direction": "downlink", **arrays}
            model = _outside(lambda: CDL(letter.upper(), **common))
            powers, los_power = model.powers, 0.0
        los_share = tf.cast(los_power / powers[0], tf.complex128)
        model.delay_spread = self._numbers["delay_spread_ns"] * 1e-9

        def correlation(lags: tf.Tensor) -> tf.Tensor:
            """Jakes' for scattered paths, with a line of sight in the first path of TDL-D and E."""
            angle = tf.cast(doppler, tf.float64) * lags
            scattered = tf.cast(tf.math.special.bessel_j0(angle), tf.complex128)
            shift = tf.exp(tf.complex(tf.zeros_like(angle), angle * np.cos(_LOS_ANGLE)))
            share = tf.pad([los_share], [[0, powers.shape[0] - 1]])
            share = tf.reshape(share, [-1, *[1] * lags.shape.rank])
            return (1.0 - share) * scattered + share * shift

        powers, delays = tf.cast(powers, tf.float64), tf.cast(model.delays, tf.float64)
        return model, _Profile(powers, delays, correlation)

    def _system_level(self, batch: Any) -> Any:
        """UMi, UMa or RMa with a terminal dropped at random in a sector (TR 38.901, 7.2).

        Antennas stand upright and radiate alike in all directions; without path loss and shadow
        fading E|h|^2 = 1.
        """
        name = self._condition.channel_model
        carrier = self._condition.carrier_ghz * 1e9
        arguments: dict[str, Any] = {"o2i_model": "low"} if name != "rma" else {}
        arguments |= {
            "carrier_frequency": carrier,
            "ut_array": _array(self._condition.num_rx, carrier),
            "bs_array": _array(1, carrier),
            "direction": "downlink",
            "enable_pathloss": False,
            "enable_shadow_fading": False,
            "precision": "single",
        }
        model = _outside(lambda: {"umi": UMi, "uma": UMa, "rma": RMa}[name](**arguments))
        # It is compared with numbers by Python, which a tensor of a graph cannot be.
        model._scenario._carrier_frequency = np.float32(carrier)
        # The model has its own carrier: unit speed times unit carrier is this speed.
        speed = tf.constant(_UNIT_SPEED * _UNIT_CARRIER / carrier, tf.float32)
        ut, bs, ut_orientation, bs_orientation, velocity, indoor = gen_single_sector_topology(
            batch, 1, name, min_ut_velocity=speed, max_ut_velocity=speed, precision="single"
        )
        upright = tf.zeros_like(ut_orientation), tf.zeros_like(bs_orientation)
        model.set_topology(ut, bs, *upright, velocity, indoor)
        return model

    def _read(
        self, seed: tf.Tensor, batch: Any, first_slot: Any, num_slots: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Impulse responses of a file: one example after the other, each drawn at random.

        An example lasts as many slots as it has time steps for; with one step, the whole stream.
        """
        file = self._condition.cir_file, self._condition.cir_digest
        grid = self._condition.num_prb, self._condition.subcarrier_spacing_khz
        a, tau = _impulse_responses(*file, self._condition.num_rx, *grid)
        num_examples, num_rx, num_paths, num_steps = a.shape
        slots = first_slot + tf.range(num_slots)
        length = num_steps // SLOT_SYMBOLS
        run, inside = (slots // length, slots % length) if length else (0 * slots, 0 * slots)
        run = tf.broadcast_to(run, [batch, num_slots])
        rows = tf.range(batch)[:, None] * _STREAMS_PER_ROW + _CIR_STREAM + tf.zeros_like(run)
        word, _ = threefry(seed, tf.cast(run, tf.uint32), tf.cast(rows, tf.uint32))
        example = tf.cast(word % tf.constant(num_examples, tf.uint32), tf.int32)
        if not length:
            a = np.repeat(a, SLOT_SYMBOLS, axis=-1)
        by_slot = a.reshape(num_examples, num_rx, num_paths, max(length, 1), SLOT_SYMBOLS)
        by_slot = by_slot.transpose(0, 3, 1, 2, 4)
        place = tf.stack([example, tf.broadcast_to(inside, [batch, num_slots])], axis=-1)
        taken = tf.gather_nd(tf.constant(by_slot), tf.reshape(place, [-1, 2]))
        delays = tf.gather(tf.constant(tau), tf.reshape(example, [-1]))
        return taken[:, None, :, None, None], delays[:, None, None]

    def _noise(self, seed: tf.Tensor, batch: Any, first_slot: Any, num_slots: Any) -> tf.Tensor:
        """Unit noise of every resource element: [batch * num_slots, num_rx, 14 K], tf.complex64."""
        num_rx, elements = self._condition.num_rx, SLOT_SYMBOLS * self._grid.num_subcarriers
        slots = tf.reshape(first_slot + tf.range(num_slots), [-1, 1, 1])
        index = slots * elements + tf.zeros([num_rx, 1], tf.int32) + tf.range(elements)
        rows = tf.reshape(tf.range(batch), [-1, 1, 1, 1]) * _STREAMS_PER_ROW
        streams = rows + tf.range(num_rx)[:, None] + tf.zeros_like(index)
        noise = complex_normal(seed, streams, tf.broadcast_to(index, tf.shape(streams)))
        return tf.reshape(noise, [-1, num_rx, elements])

    def _estimate(
        self, y: tf.Tensor, h: tf.Tensor, no: tf.Tensor, profile: _Profile | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Channel estimate, [slots, num_rx, 14 K], and its error variance, [slots, 1, 14 K]."""
        kind, elements = self._condition.channel_estimation, y.shape[-1]
        if kind == "perfect":
            return h, tf.zeros_like(tf.math.real(h[:, :1]))
        if kind == "lmmse":
            assert profile is not None
            return self._lmmse(y, no, profile)
        in_grid = [-1, 1, self._condition.num_rx, SLOT_SYMBOLS, self._grid.num_subcarriers]
        h_hat, err_var = self._grid.least_squares[kind](tf.reshape(y, in_grid), no[:, 0])
        # The variance is the same at every antenna.
        return tf.reshape(h_hat, tf.shape(y)), tf.reshape(err_var[:, 0, :1], [-1, 1, elements])

    def _knowledge(self, h_hat: tf.Tensor, err_var: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Estimate and error variance that the equaliser works with."""
        if self._condition.channel_estimation == "lmmse":  # it is the conditional mean already
            return h_hat, err_var if self._csi_aware else tf.zeros_like(err_var)
        return receiver_knowledge(h_hat, err_var, csi_aware=self._csi_aware)

    def _lmmse(self, y: tf.Tensor, no: tf.Tensor, profile: _Profile) -> tuple[tf.Tensor, tf.Tensor]:
        """LMMSE estimate over the pilots of a slot, jointly in time and frequency.

        With the gains g of all paths at the times of the pilots, the pilots are z = A g + n, where
        A holds the phases of the paths on the comb of pilots. The estimate of g at any time t is
        ``R_t (s I + A^H A R)^-1 A^H z``, with R the covariance of g, R_t that of g(t) with g, and s
        the noise variance of z. The system has as many unknowns as paths times pilot symbols.

        Input: ``y`` : [slots, num_rx, 14 K]; ``no`` : [slots, 1, 1].
        Output: ``h_hat`` : [slots, num_rx, 14 K], error variance : [slots, 1, 14 K].
        """
        grid, num_paths = self._grid, profile.powers.shape[0]
        num_times, num_rx = len(grid.pilot_times), y.shape[1]
        z = tf.gather(y, grid.sent_pilots, axis=-1) / grid.pilot_values
        angle = -2 * PI * tf.cast(grid.frequencies, tf.float64)[:, None] * profile.delays
        phases = tf.exp(tf.complex(tf.zeros_like(angle), angle))  # [K, num_paths]
        on_comb = tf.gather(phases, grid.comb)
        duration = grid.symbol_duration
        at_pilots = tf.constant(grid.pilot_times * duration, tf.float64)
        times = tf.constant(np.arange(SLOT_SYMBOLS) * duration, tf.float64)
        powers = tf.cast(profile.powers, tf.complex128)[:, None, None]

        def covariance(later: tf.Tensor) -> tf.Tensor:
            """Of the gains ``later`` with those at the pilots, [times, paths, times, paths]."""
            of_path = powers * profile.correlation(later[:, None] - at_pilots)
            return tf.einsum("ltj,lm->tljm", of_path, tf.eye(num_paths, dtype=tf.complex128))

        size = num_times * num_paths
        gram = tf.matmul(on_comb, on_comb, adjoint_a=True)
        gram = tf.einsum("ij,lm->iljm", tf.eye(num_times, dtype=tf.complex128), gram)
        gram = tf.reshape(gram, [size, size])
        prior = tf.matmul(gram, tf.reshape(covariance(at_pilots), [size, size]))
        # One system per noise variance; slots of a stream share theirs.
        levels, level_of = tf.unique(no[:, 0, 0])
        load = tf.cast(levels / grid.pilot_power, tf.complex128)[:, None, None]
        inverse = tf.linalg.inv(load * tf.eye(size, dtype=tf.complex128) + prior)
        later = tf.reshape(covariance(times), [1, SLOT_SYMBOLS * num_paths, size])
        weights = tf.matmul(later, inverse)  # [levels, 14 num_paths, size]

        # Paths that the grid cannot tell apart cancel in this sum: double precision.
        matched = tf.matmul(tf.cast(z, tf.complex128), tf.math.conj(on_comb))
        matched = tf.reshape(matched, [-1, num_rx, size, 1])
        gains = tf.gather(weights, level_of)[:, None] @ matched
        gains = tf.reshape(gains, [-1, num_rx, SLOT_SYMBOLS, num_paths])
        single = tf.complex64
        h_hat = tf.matmul(tf.cast(gains, single), tf.cast(phases, single), transpose_b=True)

        known = tf.matmul(tf.matmul(weights, gram), tf.math.conj(later), transpose_b=True)
        shape = [-1, SLOT_SYMBOLS, num_paths, SLOT_SYMBOLS, num_paths]
        known = tf.einsum("vtltm->vtlm", tf.reshape(known, shape))
        explained = tf.einsum("vtlm,kl,km->vtk", known, phases, tf.math.conj(phases))
        err_var = tf.reduce_sum(profile.powers) - tf.math.real(explained)
        err_var = tf.maximum(tf.cast(err_var, tf.float32), 0.0)
        elements = SLOT_SYMBOLS * grid.num_subcarriers
        return (
            tf.reshape(h_hat, [-1, num_rx, elements]),
            tf.reshape(tf.gather(err_var, level_of), [-1, 1, elements]),
        )

    def _equalize(
        self, y: tf.Tensor, h_hat: tf.Tensor, no: tf.Tensor, err_var: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Combined and equalised symbols with their noise variances, [slots, num_data].

        Input: ``y``, ``h_hat`` : [slots, num_rx, num_data]; ``no`` : [slots, 1]; ``err_var`` :
        [slots, num_data].
        """
        gain = tf.sqrt(tf.reduce_sum(_power(h_hat), axis=1))
        combined = tf.reduce_sum(tf.math.conj(h_hat) * y, axis=1)
        combined = tf.math.divide_no_nan(combined, as_complex(gain))
        return self._equalizer(combined, as_complex(gain), no, err_var)


@functools.lru_cache(maxsize=32)
def _array(num_antennas: int, carrier_frequency: float = _UNIT_CARRIER) -> PanelArray:
    """Upright antennas that radiate alike in all directions, in a row, half a wavelength apart."""

    def build() -> PanelArray:
        return PanelArray(
            num_rows_per_panel=1,
            num_cols_per_panel=num_antennas,
            polarization="single",
            polarization_type="V",
            antenna_pattern="omni",
            carrier_frequency=carrier_frequency,
            precision="single",
        )

    return _outside(build)


@functools.lru_cache(maxsize=8)
def _impulse_responses(path: str, content: str, *antennas_and_grid: int) -> ImpulseResponses:
    """``read_cir``, once per content of the file."""
    return read_cir(path, *antennas_and_grid)


def _power(values: tf.Tensor) -> tf.Tensor:
    return tf.square(tf.math.real(values)) + tf.square(tf.math.imag(values))


def _ratio(above: tf.Tensor, below: tf.Tensor) -> tf.Tensor:
    above, below = tf.reduce_sum(above), tf.reduce_sum(below)
    return above / tf.maximum(below, 1e-12 * above)
