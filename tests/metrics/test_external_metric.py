"""A metric by a program of the user's: two files of frames in, JSON out."""

import sys

import numpy as np
import pytest

from pvsc_link.metrics import MetricType
from pvsc_link.metrics.external import ExternalMetric
from pvsc_link.metrics.frame_cache import FrameMetrics
from pvsc_link.types import CodecFailure, InputError

PER_FRAME = """
import json, sys
import numpy as np
frames, frames_hat = (np.load(path).astype(float) for path in sys.argv[1:])
print("loading a network")
print(json.dumps({"values": abs(frames - frames_hat).mean(axis=(1, 2, 3)).tolist()}))
"""
PER_CLIP = """
import json, sys
import numpy as np
frames, frames_hat = (np.load(path).astype(float) for path in sys.argv[1:])
print(json.dumps({"value": abs(frames - frames_hat).mean()}))
"""


def clip(num_frames, seed):
    return np.random.default_rng(seed).integers(0, 256, (num_frames, 8, 6, 3), np.uint8)


def in_unit_range(frames):
    return frames[None].astype(np.float32) / np.float32(255)


def by_script(tmp_path, text, **options):
    script = tmp_path / "measure.py"
    script.write_text(text)
    return ExternalMetric([sys.executable, str(script), "{frames}", "{frames_hat}"], **options)


def test_the_program_gets_8_bit_frames_and_gives_a_value_per_frame(tmp_path):
    frames, frames_hat = clip(3, 0), clip(3, 1)
    values = by_script(tmp_path, PER_FRAME)(in_unit_range(frames), in_unit_range(frames_hat))
    expected = abs(frames.astype(float) - frames_hat).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(values[0], expected, rtol=1e-6)


def test_one_value_of_the_clip_stands_at_every_frame(tmp_path):
    frames, frames_hat = clip(3, 0), clip(3, 1)
    values = by_script(tmp_path, PER_CLIP)(in_unit_range(frames), in_unit_range(frames_hat))
    expected = abs(frames.astype(float) - frames_hat).mean()
    np.testing.assert_allclose(values[0], [expected] * 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("import sys; sys.exit('no weights')", "codec_error", "exit code 1: no weights"),
        ("", "codec_error", "answers no"),
        ("print('done')", "codec_error", "answers no"),
        ("print('[1, 2, 3]')", "codec_error", "answers no"),
        ("print('{}')", "codec_error", "answers no"),
        ("""print('{"values": [1, 2]}')""", "codec_error", "2 values of 3 frames"),
        ("""print('{"value": NaN}')""", "codec_error", "NaN"),
        ("import time; time.sleep(30)", "codec_timeout", "longer than 1 s"),
    ],
)
def test_a_program_that_fails_becomes_a_status_with_its_words(tmp_path, text, status, said):
    metric = by_script(tmp_path, text, timeout_s=1.0 if "sleep" in text else 60.0)
    with pytest.raises(CodecFailure, match=said) as raised:
        metric(in_unit_range(clip(3, 0)), in_unit_range(clip(3, 1)))
    assert raised.value.status == status


def test_a_program_that_is_absent_is_named_before_anything_is_measured():
    metric = ExternalMetric(["/no/such/program", "{frames}", "{frames_hat}"])
    with pytest.raises(InputError, match="/no/such/program"):
        metric.require()
    with pytest.raises(CodecFailure, match="missing_binary"):
        metric(in_unit_range(clip(1, 0)), in_unit_range(clip(1, 1)))


@pytest.mark.parametrize("command", [[], ["measure"], ["measure", "{frames}"]])
def test_a_command_without_places_for_both_files_is_refused(command):
    with pytest.raises(InputError, match="frames_hat"):
        ExternalMetric(command)


def test_values_are_cached_until_the_script_changes(tmp_path):
    frames, frames_hat = clip(2, 0), clip(2, 1)

    def value(text, **options):
        metric = MetricType("own", "Own", False, lambda: by_script(tmp_path, text, **options))
        cached = FrameMetrics(tmp_path / "values.sqlite", metrics={"own": metric})
        return cached.evaluate(["own"], frames, frames_hat)["own"][0]

    first = value(PER_CLIP)
    assert value(PER_CLIP) == first
    assert value("""print('{"value": 7}')""") == 7
    assert value("""print('{"value": 7}')""", version_text="other weights") == 7
    assert value(PER_CLIP) == first
