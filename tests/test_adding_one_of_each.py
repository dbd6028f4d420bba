"""A metric, a channel, a codec and a scheme from outside the package, by one assignment each."""

import math
import zlib
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image
from pydantic import Field

import pvsc_link
from pvsc_link.codecs.base import Codec
from pvsc_link.codecs.registry import CODECS, CodecType
from pvsc_link.link.channel import make_channel
from pvsc_link.link.flat_fading import BlockFading
from pvsc_link.link.registry import CHANNELS, BlockFadingCondition, ChannelType
from pvsc_link.metrics.base import Metric
from pvsc_link.metrics.registry import METRICS, MetricType
from pvsc_link.options import Mark, StrictModel
from pvsc_link.scenario.grid import channel_points, expand
from pvsc_link.scenario.loader import parse_scenario
from pvsc_link.schemes.base import Scheme
from pvsc_link.schemes.registry import SCHEMES, SchemeType, scheme_types
from pvsc_link.sweep.plan import build
from pvsc_link.types import EncodedGop, InputError, Reception

SIZE, NUM_FRAMES = 32, 4


class AbsoluteError(Metric):
    """Mean absolute error in levels of 255."""

    def _reference(self, frame):
        return frame

    def _compare(self, reference, frame_hat):
        return 255.0 * float(np.abs(reference - frame_hat).mean())


class WeibullCondition(BlockFadingCondition):
    shape: float = Field(gt=0, description="Shape of the Weibull law; 2 is Rayleigh.")


def weibull(*, shape, **of_block_fading):
    """|h| ~ Weibull(shape) with E|h|^2 = 1."""

    def law(g):
        power = tf.square(tf.abs(g))
        scale = tf.exp(-tf.math.lgamma(1.0 + 2.0 / shape))
        gain = tf.sqrt(scale * tf.pow(power, 2.0 / shape) / tf.maximum(power, 1e-20))
        return tf.cast(gain, g.dtype) * g

    return BlockFading(law, **of_block_fading)


class CoarseOptions(StrictModel):
    level: int = Field(9, ge=1, le=9, description="Level of zlib.")


class Coarse(Codec):
    """Frames with every sample rounded to a multiple of ``rate``, packed by zlib."""

    name, variant, version = "coarse", "", "1"
    allowed_rates = range(1, 129)
    default_rates = (8, 16, 32, 64)

    def __init__(self, *, level=9):
        self._level = level

    def describe(self, rate):
        return f"step {rate}, level {self._level}"

    def check(self):
        return

    def encode(self, frames, fps, rate, *, clip="", first_frame=0):
        packed = [zlib.compress((frame // rate).tobytes(), self._level) for frame in frames]
        return EncodedGop(
            payload=b"".join(packed),
            frame_num_bytes=tuple(map(len, packed)),
            frames_hat=np.minimum(frames // rate * rate + rate // 2, 255).astype(np.uint8),
            command=self.describe(rate),
            version=self.version,
        )


class AnalogOptions(StrictModel):
    gain_db: Annotated[float, Mark.COLUMN] = Field(0.0, description="Transmit gain in dB.")


@dataclass(frozen=True)
class SentPictures:
    symbols: np.ndarray
    scale: np.ndarray
    shape: tuple
    command: str
    version: str = "1"


class Analog(Scheme):
    """Pixels as analog symbols, each sent ``rate`` times."""

    name, variant, digital = "analog", "", False
    allowed_rates = (1, 2, 3, 4)

    def __init__(self, gain_db=0.0):
        self._gain_db = gain_db

    def encode_gop(self, video, first, gop, rate):
        frames = video.frames[first : first + gop]
        reals = np.repeat(frames.astype(np.float32).reshape(1, -1, 2) / 255 - 0.5, rate, axis=0)
        symbols = (reals[..., 0] + 1j * reals[..., 1]).astype(np.complex64).reshape(-1)
        scale = np.sqrt(np.mean(np.abs(symbols) ** 2)) or 1.0
        return SentPictures(symbols / scale, scale, (rate, *frames.shape), f"gain {self._gain_db}")

    def stream(self, gops, point, link, mcs, seeds):
        channel = make_channel(point, equalizer=link.equalizer, csi_aware=link.csi_aware)
        for gop, seed in zip(gops, seeds, strict=True):
            x = tf.constant(gop.symbols[None])
            out = channel(x, snr_db=point.snr_db + self._gain_db, seed=seed)
            received = np.mean(out.x_hat.numpy().reshape(gop.shape[0], -1), axis=0) * gop.scale
            levels = np.stack([received.real, received.imag], axis=-1).reshape(gop.shape[1:])
            yield Reception(
                frames_hat=np.rint(255 * np.clip(levels + 0.5, 0, 1)).astype(np.uint8),
                num_channel_uses={"source": gop.symbols.size, "side": 0},
                frames_lost=0,
                num_blocks=0,
                num_block_errors=0,
            )


@pytest.fixture(autouse=True)
def one_of_each(monkeypatch):
    """What a user's script does once, before ``run_sweep``."""
    monkeypatch.setitem(
        METRICS,
        "mae",
        MetricType("mae", "MAE", higher_is_better=False, implementation=AbsoluteError),
    )
    monkeypatch.setitem(
        CHANNELS, "weibull", ChannelType("weibull", "Weibull", WeibullCondition, weibull)
    )
    monkeypatch.setitem(CODECS, "coarse", CodecType("coarse", "Coarse", CoarseOptions, Coarse))
    monkeypatch.setitem(SCHEMES, "analog", SchemeType("analog", "Analog", AnalogOptions, Analog))


@pytest.fixture
def clip(tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    y, x = np.mgrid[:SIZE, :SIZE]
    for t in range(NUM_FRAMES):
        frame = np.stack([4 * x + t, 4 * y + 2 * t, 3 * (x + y)], axis=-1).astype(np.uint8)
        Image.fromarray(frame).save(folder / f"{t:04d}.png")
    return str(folder)


def described(clip, **changes):
    return {
        "name": "own",
        "media": {"clips": clip, "gop": 2, "num_gops": 2},
        "link": {"channel": ["awgn", "weibull"], "snr_db": 30, "shape": [2, 4]},
        "schemes": [
            {"scheme": "coarse", "mcs": 2, "level": 6},
            {"scheme": "analog", "mcs": 2, "gain_db": 3},
        ],
        "anchor": "coarse",
        "metrics": ["psnr", "mae"],
    } | changes


def test_they_are_swept_together(clip, tmp_path, monkeypatch):
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / "cache"))
    folder = pvsc_link.run_sweep(parse_scenario(described(clip)), tmp_path)
    points = pvsc_link.load_results(folder)
    assert len(points) == 2 * 3 * 4, "schemes, conditions, rates"
    assert set(points.status) == {"ok"}
    assert points.point_id.is_unique
    conditions = points.groupby("channel")["shape"].unique().map(list).to_dict()
    assert math.isnan(*conditions["awgn"])
    assert sorted(conditions["weibull"]) == [2, 4]
    assert points.mae.between(0.01, 40).all()
    analog, coarse = points[points.scheme == "analog"], points[points.scheme == "coarse"]
    assert set(analog.gain_db) == {3}
    assert coarse.gain_db.isna().all()
    first = analog.groupby("rate").mae.mean()
    assert first[4] < first[1], "a repeated symbol meets less noise"
    columns = list(points.columns)
    assert columns.index("coherence_length") < columns.index("shape") < columns.index("equalizer")
    assert columns.index("mae") == columns.index("fvd") + 1
    bd = pd.read_csv(folder / "bd_cbr.csv")
    assert set(bd.metric) == {"psnr", "mae"}
    assert len(bd) == 2 * 3 * 2, "schemes, conditions, metrics"
    own = bd[bd.scheme == "coarse"]
    assert np.allclose(own.bd_cbr_percent, 0, atol=1e-6)


def test_they_stand_in_the_schema():
    schema = pvsc_link.Scenario.model_json_schema()
    link = schema["properties"]["link"]["properties"]
    assert "weibull" in str(link["channel"])
    assert "Rayleigh" in link["shape"]["description"]
    assert "mae" in str(schema["properties"]["metrics"])
    entries = schema["$defs"]
    assert "level" in entries["scheme_coarse"]["properties"]
    assert "gain_db" in entries["scheme_analog"]["properties"]
    assert "gain_db" not in entries["scheme_coarse"]["properties"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schemes": [{"scheme": "analog", "gain": 3}]}, "gain_db"),
        ({"schemes": [{"scheme": "coarse", "gain_db": 3}]}, "level"),
        ({"schemes": [{"scheme": "coarse", "level": 12}]}, "schemes.0.level"),
        ({"link": {"snr_db": 3, "channel": "weibul"}}, "weibull"),
        ({"link": {"snr_db": 3, "channel": "weibull", "shape": 0}}, "shape"),
        ({"link": {"snr_db": 3, "channel": "weibull", "shap": 1}}, "shape"),
        ({"metrics": ["mea"]}, "mae"),
        ({"stop": {"mae_interva": 1}}, "mae_interval"),
    ],
)
def test_what_they_do_not_take_is_refused_with_the_nearest_name(changes, said):
    with pytest.raises(InputError, match=said):
        parse_scenario(described("clip", **changes))


def test_a_condition_that_a_channel_needs_is_asked_for():
    scenario = parse_scenario(described("clip", link={"snr_db": 3, "channel": "weibull"}))
    entries = [
        entry.model_copy(update={"rates": [1], "equalizer": ["zf"], "csi_aware": [False]})
        for entry in scenario.schemes
    ]
    with pytest.raises(InputError, match="shape"):
        expand(scenario.model_copy(update={"schemes": entries}))


def test_other_channels_have_no_part_of_the_new_condition():
    link = {"snr_db": 3, "channel": ["awgn", "rayleigh", "weibull"], "shape": [1, 2]}
    points = channel_points(parse_scenario(described("clip", link=link)).link)
    others = [set(point.condition) for point in points if point.channel != "weibull"]
    assert others == [{"csi_nmse_db", "coherence_length"}] * 2


def test_two_metrics_with_one_column_are_refused_before_anything_runs(clip, monkeypatch, tmp_path):
    clash = MetricType("mae", "MAE", False, AbsoluteError, column="cbr")
    monkeypatch.setitem(METRICS, "mae", clash)
    with pytest.raises(InputError, match=r"one name: found \['cbr'\]"):
        pvsc_link.run_sweep(parse_scenario(described(clip)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_option_that_would_overwrite_a_column_is_refused(clip, monkeypatch):
    class Clash(StrictModel):
        cbr: Annotated[float, Mark.COLUMN] = Field(0.0, description="A name that is taken.")

    monkeypatch.setitem(
        SCHEMES, "analog", SchemeType("analog", "Analog", Clash, lambda cbr: Analog())
    )
    entries = [{"scheme": "analog", "mcs": 2, "cbr": 3}]
    with pytest.raises(InputError, match=r"one name: found \['cbr'\]"):
        build(parse_scenario(described(clip, schemes=entries, anchor=None)))


def test_an_implementation_that_is_not_there_says_which():
    gone = MetricType("gone", "Gone", False, "no_such_package.metrics:Gone")
    with pytest.raises(InputError, match=r"no_such_package.metrics:Gone.*No module named"):
        gone.measure(None, None)


@pytest.mark.parametrize("broken", ["encode", "link"])
def test_code_that_raises_becomes_rows_and_the_others_are_sent(broken, clip, monkeypatch, tmp_path):
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / "cache"))

    def fault(*_, **__):
        raise ZeroDivisionError("a fault of its own")

    monkeypatch.setattr(Analog, "encode_gop" if broken == "encode" else "stream", fault)
    changes = {"link": {"snr_db": 30}, "metrics": ["psnr"], "name": "faults"}
    folder = pvsc_link.run_sweep(parse_scenario(described(clip, **changes)), tmp_path)
    points = pvsc_link.load_results(folder)
    analog, coarse = points[points.scheme == "analog"], points[points.scheme == "coarse"]
    assert set(analog.status) == {"codec_error"}
    assert analog.note.str.contains("ZeroDivisionError: a fault of its own").all()
    assert len(analog) == len(coarse) == 4
    assert set(coarse.status) == {"ok"}


@pytest.mark.parametrize(
    ("registry", "name"),
    [(METRICS, "mae"), (CHANNELS, "weibull"), (CODECS, "coarse"), (SCHEMES, "analog")],
)
def test_an_entry_under_another_name_than_its_own_is_refused(registry, name):
    with pytest.raises(InputError, match=f"calls itself '{name}'"):
        registry["another"] = registry[name]
    assert "another" not in registry


@pytest.mark.parametrize(("registry", "made"), [(CODECS, Coarse), (SCHEMES, Analog)])
def test_an_object_of_another_name_than_its_description_is_refused(registry, made, monkeypatch):
    monkeypatch.setattr(made, "name", "x264")
    with pytest.raises(InputError, match="whose name is 'x264'"):
        registry["coarse" if made is Coarse else "analog"]()


def test_a_scheme_of_the_name_of_a_codec_is_refused(monkeypatch):
    monkeypatch.setitem(SCHEMES, "coarse", SchemeType("coarse", "Coarse", AnalogOptions, Analog))
    with pytest.raises(InputError, match=r"of a codec and of a scheme: found \['coarse'\]"):
        scheme_types()
