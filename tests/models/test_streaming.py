"""Both ends of a stream: exact agreement, causality, damage on the side link, bad input."""

import copy
import itertools

import numpy as np
import pytest
from keras import ops

from pvsc_link.models.layers.rate_adaptive import pack
from pvsc_link.models.presets import PRESETS, intra_of
from pvsc_link.models.pvsc.model import IntraModel, PvscModel
from pvsc_link.models.pvsc.steps import IntraSteps
from pvsc_link.models.pvsc_mc.config import with_eta_factors
from pvsc_link.models.stream import Receiver, Transmitter
from pvsc_link.types import InputError

HEIGHT, WIDTH = 64, 128
SESSION = {"height": HEIGHT, "width": WIDTH}


@pytest.fixture(scope="module")
def models(stirred):
    intra = stirred(IntraModel(PRESETS["pvsc_tiny_intra"]), 1)
    return intra, stirred(PvscModel(PRESETS["pvsc_tiny"]), 2)


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(5)
    coarse = rng.random((6, HEIGHT // 8, WIDTH // 8, 3))
    return np.kron(coarse, np.ones((1, 8, 8, 1))).astype(np.float32)


def send(transmitter, receiver, frames):
    """Noise-free stream, I frame first; yields (payload, decoded) per frame."""
    for t, frame in enumerate(frames):
        payload = transmitter.encode(frame, intra=t == 0)
        yield payload, receiver.decode(payload.symbols, payload.side_bits, intra=t == 0)


@pytest.mark.parametrize("side_format", ["png", "payload", "range"])
def test_noise_free_link_gives_exactly_the_transmitters_frame_and_buffers(
    models, frames, side_format
):
    session = {**SESSION, "side_format": side_format, "omega_index": 2}
    transmitter, receiver = Transmitter(*models, **session), Receiver(*models, **session)
    for payload, decoded in send(transmitter, receiver, frames[:3]):
        assert decoded.status == "ok"
        assert payload.symbols.size > 0
        np.testing.assert_array_equal(decoded.frame, transmitter.frame_hat())
        for name in ("feature", "state"):
            ours, theirs = getattr(transmitter, name), getattr(receiver, name)
            np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))


def test_streamed_p_frames_are_those_of_the_models_forward_pass(models, frames):
    """Both ends share their steps, and a fault in these; ``forward`` goes its own way (eq. 6-24).

    Three P frames: what a frame leaves in the buffers shows in the one that follows.
    """
    transmitter, model = Transmitter(*models, **SESSION, omega_index=2), models[1]
    omega = ops.convert_to_tensor([2], "int32")
    transmitter.encode(frames[0], intra=True)
    buffers = {f"feature_{end}": transmitter.feature for end in ("tx", "rx")}
    buffers |= {f"state_{end}": transmitter.state for end in ("tx", "rx")}
    states = [ops.convert_to_numpy(transmitter.state)]
    for frame in frames[1:4]:
        sent = transmitter.encode(frame, intra=False)
        output = model.forward(frame[None], buffers, omega, channel=lambda symbols, _: symbols)
        buffers = output["buffers"]
        rate_index = ops.convert_to_numpy(output["rate_index"])[0]
        symbols = pack(
            ops.convert_to_numpy(output["symbols"])[0], rate_index, model.config.rate_set
        )
        assert symbols.size > 0
        np.testing.assert_allclose(sent.symbols, symbols, atol=1e-4)
        shown = np.clip(ops.convert_to_numpy(output["frame_tx"])[0], 0, 1)
        np.testing.assert_allclose(transmitter.frame_hat(), shown, atol=1e-4)
        for name in ("feature", "state"):
            ours = ops.convert_to_numpy(getattr(transmitter, name))
            theirs = ops.convert_to_numpy(buffers[f"{name}_tx"])
            np.testing.assert_allclose(ours, theirs, atol=1e-4, err_msg=name)
        states.append(ours)
    moved = [np.abs(new - old).max() for old, new in itertools.pairwise(states)]
    assert min(moved) > 0.01, "a buffer that stands still would prove nothing"


ETA_FACTORS = (0.5, 1.0, 2.5)


def wanted_reals(steps, frame, buffers, omega):
    """What ``steps`` ask for, unit by unit, before whoever pays for b_k chooses."""
    asked = []

    def choose(z_hat, wanted):
        asked.append(ops.convert_to_numpy(wanted))
        return ops.zeros(wanted.shape, "int32")

    steps.encode(frame, buffers, omega, choose)
    return asked[0]


@pytest.mark.parametrize("preset", [0, 2])
def test_a_transmitter_wants_eta_reals_per_bit_of_its_quality_preset(
    micro, frames, stirred, preset
):
    """k* = eta H (eq. 14); an I frame of the extension has a factor of eta by quality preset."""
    inter = PRESETS[micro]
    finer = with_eta_factors(intra_of(inter), ETA_FACTORS)
    intra, model = stirred(IntraModel(finer), 1), stirred(PvscModel(inter), 2)
    first, second = (ops.convert_to_tensor(frame[None]) for frame in frames[:2])
    omega, eta = ops.full((1,), preset, dtype="int32"), model.config.eta
    buffers = model.start_buffers(first)
    for steps, frame, own, bits, factor in (
        (
            IntraSteps(intra, model),
            first,
            None,
            intra.forward(first, omega)["num_bits_y"],
            ETA_FACTORS[preset],
        ),
        (
            model.steps(),
            second,
            (buffers["feature_tx"], buffers["state_tx"]),
            model.forward(second, buffers, omega)["num_bits_y"],
            1.0,
        ),
    ):
        wanted = wanted_reals(steps, frame, own, omega)
        assert wanted.min() > 0
        np.testing.assert_allclose(wanted, factor * eta * ops.convert_to_numpy(bits), rtol=1e-5)


def test_sent_symbols_have_unit_mean_power(models, frames):
    transmitter = Transmitter(*models, **SESSION)
    for t in range(3):
        symbols = transmitter.encode(frames[t], intra=t == 0).symbols
        assert np.mean(np.abs(symbols) ** 2) == pytest.approx(1.0, abs=1e-5)


def test_a_payload_does_not_depend_on_later_frames(models, frames):
    other = np.concatenate([frames[:2], frames[4:5]])
    sent = []
    for clip in (frames[:3], other):
        transmitter = Transmitter(*models, **SESSION)
        sent.append([transmitter.encode(x, intra=t == 0) for t, x in enumerate(clip)])
    for first, second in zip(sent[0][:2], sent[1][:2], strict=True):
        np.testing.assert_array_equal(first.symbols, second.symbols)
        assert first.side_bits == second.side_bits
    assert not np.array_equal(sent[0][2].symbols, sent[1][2].symbols)


def test_an_intra_frame_forgets_everything_before_it(models, frames):
    fresh, used = Transmitter(*models, **SESSION), Transmitter(*models, **SESSION)
    for t in range(3):
        used.encode(frames[t], intra=t == 0)
    for end in (fresh, used):
        end.encode(frames[3], intra=True)
    np.testing.assert_array_equal(
        fresh.encode(frames[4], intra=False).symbols, used.encode(frames[4], intra=False).symbols
    )


def test_noise_moves_the_receivers_buffers_but_not_the_transmitters(models, frames):
    rng = np.random.default_rng(0)
    ideal, noisy = Receiver(*models, **SESSION), Receiver(*models, **SESSION)
    transmitter = Transmitter(*models, **SESSION)
    for t in range(2):
        payload = transmitter.encode(frames[t], intra=t == 0)
        noise = rng.normal(size=(2, payload.symbols.size)).astype(np.float32) * 0.3
        ideal.decode(payload.symbols, payload.side_bits, intra=t == 0)
        noisy.decode(payload.symbols + noise[0] + 1j * noise[1], payload.side_bits, intra=t == 0)
    np.testing.assert_array_equal(*map(ops.convert_to_numpy, (ideal.feature, transmitter.feature)))
    assert not np.array_equal(*map(ops.convert_to_numpy, (noisy.feature, transmitter.feature)))


@pytest.fixture(scope="module")
def midway(models, frames):
    """A receiver after two frames, its last picture, and the third frame's payload."""
    transmitter, receiver = Transmitter(*models, **SESSION), Receiver(*models, **SESSION)
    (_, first), (_, second) = send(transmitter, receiver, frames[:2])
    assert not np.array_equal(first.frame, second.frame)
    return receiver, second.frame, transmitter.encode(frames[2], intra=False)


def damaged(payload, how):
    side, symbols = dict(payload.side_bits), payload.symbols
    if how in ("lost z", "lost k"):
        side[how[-1]] = None
    elif how == "absent":
        side = {}
    elif how.startswith("truncated"):
        side[how[-1]] = side[how[-1]][: len(side[how[-1]]) // 2]
    elif how.startswith("empty"):
        side[how[-1]] = b""
    elif how.startswith("garbage"):
        side[how[-1]] = bytes(reversed(side[how[-1]])) + b"\x00\xff"
    elif how == "short symbols":
        symbols = symbols[:-1]
    elif how == "infinite symbol":
        symbols = symbols.copy()
        symbols[0] = np.inf
    return symbols, side


@pytest.mark.parametrize(
    ("how", "statuses"),
    [
        ("lost z", {"side_z_lost"}),
        ("lost k", {"side_k_lost"}),
        ("absent", {"side_z_lost"}),
        ("truncated k", {"side_k_lost"}),
        # Half a range-coded stream may be a legal one: then the damage shows as other symbols.
        ("truncated z", {"side_z_lost", "ok"}),
        ("garbage k", {"side_k_lost"}),
        ("garbage z", {"side_z_lost", "ok"}),
        ("empty k", {"side_k_lost"}),
        ("short symbols", {"symbols_mismatch"}),
        ("infinite symbol", {"symbols_mismatch"}),
    ],
)
def test_damage_is_a_status_and_repeats_the_last_frame_with_buffers_kept(midway, how, statuses):
    receiver, last, payload = midway
    receiver = copy.copy(receiver)  # buffers are replaced, never written into
    feature = ops.convert_to_numpy(receiver.feature)
    decoded = receiver.decode(*damaged(payload, how), intra=False)
    assert decoded.status in statuses
    if decoded.status != "ok":
        np.testing.assert_array_equal(decoded.frame, last)
        np.testing.assert_array_equal(ops.convert_to_numpy(receiver.feature), feature)


def test_a_predicted_frame_without_reference_is_reported_and_shown_grey(models):
    decoded = Receiver(*models, **SESSION).decode(np.zeros(3, np.complex64), {}, intra=False)
    assert decoded.status == "no_reference"
    assert (decoded.frame_uint8 == 128).all()


def test_uint8_and_float_frames_give_the_same_payload(models):
    pixels = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    payloads = [
        Transmitter(*models, **SESSION).encode(x, intra=True)
        for x in (pixels, pixels.astype(np.float32) / np.float32(255))
    ]
    np.testing.assert_array_equal(payloads[0].symbols, payloads[1].symbols)


GOOD = np.zeros((HEIGHT, WIDTH, 3), np.float32)


@pytest.mark.parametrize(
    "frame",
    [
        GOOD + 1.01,
        GOOD - 0.01,
        np.full_like(GOOD, np.nan),
        GOOD[None],
        GOOD[:-1],
        GOOD[..., :1],
        np.zeros(GOOD.shape, np.int64),
    ],
    ids=["above 1", "below 0", "NaN", "rank", "size", "channels", "type"],
)
def test_bad_frames_are_refused_with_what_was_found(models, frame):
    with pytest.raises(InputError, match="allowed"):
        Transmitter(*models, **SESSION).encode(frame, intra=True)


@pytest.mark.parametrize(
    "change",
    [{"height": 65}, {"width": 0}, {"omega_index": 5}, {"omega_index": -1}, {"side_format": "gif"}],
)
def test_bad_sessions_are_refused_at_both_ends(models, change):
    for end in (Transmitter, Receiver):
        with pytest.raises(InputError):
            end(*models, **{**SESSION, **change})


def test_a_predicted_frame_before_any_intra_frame_is_refused(models):
    with pytest.raises(InputError, match="reference"):
        Transmitter(*models, **SESSION).encode(GOOD, intra=False)
