"""What a run measures on the way: quality and rate on clips that it never trains on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops
from PIL import Image

from pvsc_link.media.clips import load_clip
from pvsc_link.metrics.perceptual import Lpips
from pvsc_link.models.pvsc_mc.motion import vectors
from pvsc_link.train import channel
from pvsc_link.train.config import ChannelConfig, EvaluationConfig
from pvsc_link.train.step import inference


class Evaluator:
    """Codes the first frames of each clip at every preset and measures them.

    Parameters
    ----------
    config : EvaluationConfig
    omega : weights of the presets of I frames and of P frames
    intra, inter : models; ``inter`` None measures I frames alone
    link : ChannelConfig, whose first condition is used; None measures the ideal branch
    """

    def __init__(
        self,
        config: EvaluationConfig,
        omega: tuple[list[float], list[float]],
        intra: Any,
        inter: Any,
        link: ChannelConfig | None,
    ):
        self.omega, self.link = omega, link
        self.intra, self.inter = intra, inter
        multiple = intra.config.padding_multiple
        self.clips = {name: _load(name, config, multiple) for name in config.clips}
        lpips = Lpips()
        self.lpips = inference(lambda a, b: lpips(a, b), lpips.variables)
        self._code_intra = inference(self._forward_intra, intra.variables)
        if inter is not None:
            both = [*intra.variables, *inter.variables]
            self._start = inference(lambda *frames: inter.start_buffers(*frames), both)
            self._code_inter = inference(self._forward_inter, both)

    def rows(self) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
        """For each clip, preset and kind: a row, the last coded frame, and how it came out.

        LPIPS and PSNR are means over frames; P rows leave the I frame out.
        """
        for clip, frames in self.clips.items():
            for index, weights in enumerate(zip(*self.omega, strict=True)):
                place = {"clip": clip, "omega_index": index}
                shown, coded = self._code(frames, index)
                kinds = {"I": slice(0, 1)}
                if self.inter is not None:
                    kinds["P"] = slice(1, None)
                for omega, (kind, part) in zip(weights, kinds.items(), strict=False):
                    row = self._measure(frames[part], shown[part], coded[part])
                    yield (
                        {**place, "omega": omega, "frame_kind": kind, **row},
                        frames[len(shown) - 1],
                        shown[-1],
                    )

    def _code(self, frames: np.ndarray, index: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
        omega_index = ops.convert_to_tensor([index], "int32")
        rng = np.random.default_rng(0)
        output: dict[str, Any] = self._code_intra(
            frames[:1], omega_index, self._draws(self.intra, frames, rng)
        )
        outputs = [output]
        if self.inter is not None:
            ends = ("ideal",) if self.link is None else ("tx", "rx")
            start = [ops.clip(output[f"frame_{end}"], 0.0, 1.0) for end in ends]
            buffers = self._start(*start)
            for frame in frames[1:]:
                draws = self._draws(self.inter, frames, rng)
                motion = vectors(self.inter.config, buffers["feature_tx"], frame[None], [index])
                output = self._code_inter(frame[None], buffers, omega_index, draws, motion)
                buffers = output.pop("buffers")
                outputs.append(output)
        end = "ideal" if self.link is None else "rx"
        shown = [ops.convert_to_numpy(o[f"frame_{end}"])[0] for o in outputs]
        return np.clip(np.stack(shown), 0.0, 1.0), outputs

    def _forward_intra(self, frame: Any, omega_index: Any, draws: Any) -> dict[str, Any]:
        return self.intra.forward(frame, omega_index, channel=_through(draws))

    def _forward_inter(
        self, frame: Any, buffers: dict[str, Any], omega_index: Any, draws: Any, motion: Any
    ) -> dict[str, Any]:
        return self.inter.forward(
            frame, buffers, omega_index, motion=motion, channel=_through(draws)
        )

    def _draws(self, model: Any, frames: np.ndarray, rng: np.random.Generator) -> Any:
        if self.link is None:
            return None
        condition = {"snr_db": self.link.snr_db[:1], "csi_nmse_db": self.link.csi_nmse_db[:1]}
        first = self.link.model_copy(update=condition)
        grid = (1, 1, frames.shape[1] // 16, frames.shape[2] // 16)
        draws = channel.draw(first, (*grid, (max(model.config.rate_set) + 1) // 2), rng)
        return {key: value[:, 0] for key, value in draws.items()}

    def _measure(
        self, frames: np.ndarray, shown: np.ndarray, coded: list[dict[str, Any]]
    ) -> dict[str, float]:
        pixels = frames.shape[1] * frames.shape[2]
        lpips = [float(self.lpips(a[None], b[None])[0]) for a, b in zip(frames, shown, strict=True)]
        error = np.mean(np.square(frames - shown), axis=(1, 2, 3))

        def per_pixel(key: str) -> float:
            sums = [float(ops.sum(c[key])) for c in coded]
            return round(float(np.mean(sums)) / pixels, 6)

        return {
            "psnr_db": round(float(np.mean(-10 * np.log10(np.maximum(error, 1e-10)))), 4),
            "lpips": round(float(np.mean(lpips)), 5),
            "bpp_y": per_pixel("num_bits_y"),
            "bpp_z": per_pixel("num_bits_z"),
            "reals_per_pixel": per_pixel("rate_reals"),
        }


def write_picture(path: Path, pictures: list[np.ndarray]) -> None:
    """Pictures side by side, PNG; all [height, width, 3] in [0, 1]."""
    side = np.concatenate(pictures, axis=1)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.rint(255 * np.clip(side, 0, 1)).astype(np.uint8)).save(path)


def _through(draws: Any) -> Any:
    if draws is None:
        return None
    return lambda symbols, rate_index: channel.transmit(symbols, draws)


def _load(name: str, config: EvaluationConfig, multiple: int) -> np.ndarray:
    """The middle of the first frames, sizes cut to the multiple that the models need."""
    frames = load_clip(name, 0, config.num_frames).frames
    sizes = []
    for length in frames.shape[1:3]:
        wanted = min(length, config.crop or length)
        sizes.append(max(multiple, wanted // multiple * multiple))
    frames = _middle(frames, *sizes)
    return frames.astype(np.float32) / np.float32(255)


def _middle(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    missing = [max(0, a - b) for a, b in zip((height, width), frames.shape[1:3], strict=True)]
    padding = ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0))
    frames = np.pad(frames, padding, mode="edge")
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    return frames[:, top : top + height, left : left + width]
