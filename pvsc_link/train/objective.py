"""What a step minimises: the terms of eq. 25 and 27, summed over the frames of a GOP.

    batch (frames, presets, noise, seeds) --> models --> branches --> terms --> loss

The three branches of section II-C are the ideal one (without feature coding), tx (F_rx on the
symbols as sent) and rx (F_rx on the symbols behind the channel). Loss and terms are a pure
function of weights and batch. Each frame is one compiled function that is called once per frame;
a whole GOP in one graph would take minutes to trace.
"""

from typing import Any

import keras
from keras import ops

from pvsc_link.metrics import Lpips
from pvsc_link.models import discriminator_loss, generator_loss
from pvsc_link.train.channel import StepChannel, of_frame
from pvsc_link.train.config import LossConfig, PhaseConfig, num_perceptual
from pvsc_link.train.family import rate_terms
from pvsc_link.train.step import compiled, over_frames


def reconstruction_loss(frame: Any, frame_hat: Any) -> Any:
    """L_rec: mean absolute difference. [batch, H, W, 3] twice -> [batch], float32."""
    return ops.mean(ops.abs(frame - frame_hat), axis=(1, 2, 3))


def rate_loss(rate_reals: Any, num_bits_z: Any, eta: float, num_pixels: int) -> Any:
    """L_rate of eq. 25 per pixel: (sum of k + eta bits of z) / (H W).

    Eq. 25 is a sum over the frame while the distortions are means. Per pixel both balance at the
    paper's omega for every crop. The bits of the rate map, b(k), have no gradient and no part in
    the loss. The evaluations of a run measure them (``bpp_k``), and a sweep counts those it sends.

    Input: ``rate_reals`` : [batch, Hy, Wy]; ``num_bits_z`` : [batch]. Output: [batch], reals
    per pixel.
    """
    return (ops.sum(rate_reals, axis=(1, 2)) + eta * num_bits_z) / num_pixels


def _state_of_map(rate_index: Any) -> dict[str, Any]:
    """What shows that rates collapse (``evaluation.early_warnings``).

    Input: ``rate_index`` : [batch, Hy, Wy], int. Output: ``sent``, share of the units that send
    symbols; ``spread``, standard deviation of the index within a map. Means over the batch.
    """
    index = ops.cast(rate_index, "float32")
    sent = ops.mean(ops.cast(rate_index > 0, "float32"))
    return {"sent": sent, "spread": ops.mean(ops.std(index, axis=(1, 2)))}


class PerceptualLoss:
    """L_per: LPIPS (VGG) on a sub-crop of some of the clips of a frame.

    Per pixel, LPIPS costs many times what a small model does. It is therefore computed on crops of
    ``config.per_crop`` pixels of a share ``config.per_share`` of the clips. Clips and places are
    drawn anew for every frame, so the expectation of the gradient is unchanged.

    Parameters
    ----------
    config : LossConfig
    batch : int, clips of a step, or of a part of it
    """

    def __init__(self, config: LossConfig, batch: int):
        self.lpips = Lpips(finite_gradient=True, dtype=config.per_dtype)
        self.crop = config.per_crop
        self.count = num_perceptual(config, batch)

    def cut(self, images: Any, rows: Any, place: Any) -> Any:
        """The part that counts: [batch, H, W, 3] -> [count, crop, crop, 3].

        Input: ``rows`` : [count], int32, clips; ``place`` : [2], int32, top left pixel.
        """
        if self.count < images.shape[0]:
            images = ops.take(images, rows, axis=0)
        if self.crop is None or self.crop == images.shape[1]:
            return images
        start = ops.stack([0, place[0], place[1], 0])
        return ops.slice(images, start, (self.count, self.crop, self.crop, 3))

    def features(self, images: Any) -> list[Any]:
        """LPIPS features of the reference, once for all branches, without gradient."""
        return [ops.stop_gradient(f) for f in self.lpips.features(ops.stop_gradient(images))]

    def distance(self, features: list[Any], images_hat: Any) -> Any:
        """LPIPS [count] of cut reconstructions against ``features`` of the cut reference."""
        return self.lpips.distance(features, self.lpips.features(images_hat))


def latent_loss(y_bar: Any, y_bar_hat: Any) -> Any:
    """Mean square difference of features before and after the channel: [batch], float32.

    This term is not in the paper. It is a cheap, direct guide for the first steps of stage 2.
    """
    sent, got = (ops.cast(features, "float32") for features in (y_bar, y_bar_hat))
    return ops.mean(ops.square(ops.stop_gradient(sent) - got), axis=(1, 2, 3))


#: Weight of each reconstruction in R_t by stage, unless ``LossConfig.branches`` names others. In
#: stage 1 the ideal branch counts for all three, so that a quality preset learns the balance of
#: distortion and rate that stage 3 continues with.
BRANCHES = {
    1: {"ideal": 3.0},
    2: {"tx": 1.0, "rx": 1.0},
    3: {"ideal": 1.0, "tx": 1.0, "rx": 1.0},
}
#: Entries of a batch with one slice per frame on axis 1, or per frame that learns on axis 0.
_PER_CLIP_AND_FRAME = ("noise_y", "noise_z", "motion")
_PER_LEARNING_FRAME = ("rows", "place")


class Objective:
    """Loss and its terms for one phase.

    Parameters
    ----------
    phase : PhaseConfig
    omega : list of float, weights of the quality presets (eq. 27)
    model : the model that learns (``family``)
    intra : the fixed model that codes the I frame of a GOP; None in an intra phase
    perceptual, discriminator : None where their loss weights are 0

    Input
    -----
    batch : output of ``batches.BatchMaker.make``, or a part of one
    span : one of ``spans``; None: the whole GOP
    carry : buffers after the span before; None for the first span

    Output
    ------
    (loss, terms, carry) : scalar, and dict of scalars, which over all spans add up to means over
    clips and over the frames that learn; buffers for the next span
    """

    def __init__(
        self,
        phase: PhaseConfig,
        omega: list[float],
        model: Any,
        intra: Any = None,
        perceptual: PerceptualLoss | None = None,
        discriminator: Any = None,
    ):
        self.phase, self.omega = phase, omega
        self.model, self.intra = model, intra
        self.perceptual, self.discriminator = perceptual, discriminator
        self.branches = phase.loss.branches or BRANCHES[phase.stage]
        self.channel = None if phase.channel is None else StepChannel(phase.channel)
        self._frame = compiled(self._intra_frame if intra is None else self._inter_frame)
        self._lead = compiled(self._lead_frame)

    def spans(self, batch: dict[str, Any]) -> list[tuple[int, int]]:
        """Frames through which gradients pass together: all, or at most ``truncate``."""
        if self.intra is None:
            return [(0, 1)]
        first, last = _lead_in(batch) + 1, batch["frames"].shape[1]
        length = self.phase.truncate or last
        return [(t, min(t + length, last)) for t in range(first, last, length)]

    def __call__(
        self, batch: dict[str, Any], span: tuple[int, int] | None = None, carry: Any = None
    ) -> tuple[Any, dict[str, Any], Any]:
        frames = ops.cast(batch["frames"], "float32") / 255.0
        if self.intra is None:
            terms = self._frame(frames[:, 0], batch["omega_index"][:, 0], _at(batch, 0))
            return terms["loss"], terms, ()
        lead_in = _lead_in(batch)
        if carry is None:
            carry = self._start(frames[:, 0], batch)
            if lead_in:
                carry, _ = over_frames(self._lead, carry, _given(frames, batch, 1, lead_in + 1))
        first, last = span or (lead_in + 1, frames.shape[1])
        given = _given(frames, batch, first, last, lead_in)
        remat = self.phase.rematerialise
        carry, terms = over_frames(self._frame, carry, given, rematerialise=remat)
        count = batch["rows"].shape[0] - 1
        terms = {key: value / count for key, value in terms.items()}
        return terms["loss"], terms, carry

    def _start(self, frame: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Buffers after the I frame, which the fixed intra model sends over the same channel."""
        ends = ("ideal",) if self.channel is None else ("tx", "rx")
        channel = self._through(self.intra, _at(batch, 0))
        sent = self.intra.forward(frame, batch["omega_index"][:, 0], channel=channel)
        shown = [ops.stop_gradient(ops.clip(sent[f"frame_{end}"], 0.0, 1.0)) for end in ends]
        return self.model.start_buffers(*shown)

    def _intra_frame(self, frame: Any, omega_index: Any, given: dict[str, Any]) -> dict[str, Any]:
        output = self.model.forward(
            frame,
            omega_index,
            noise={"y": given["noise_y"], "z": given["noise_z"]},
            quantiser=self.phase.quantiser,
            channel=self._through(self.model, given),
        )
        return self._terms(frame, omega_index, output, given)

    def _inter_frame(
        self, buffers: dict[str, Any], frame: tuple[Any, Any, dict[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        pixels, omega_index, given = frame
        output = self._forward(pixels, buffers, omega_index, given)
        return output["buffers"], self._terms(pixels, omega_index, output, given)

    def _lead_frame(
        self, buffers: dict[str, Any], frame: tuple[Any, Any, dict[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Buffers after a P frame from which nothing is learnt."""
        pixels, omega_index, given = frame
        output = self._forward(pixels, buffers, omega_index, given)
        return keras.tree.map_structure(ops.stop_gradient, output["buffers"]), {}

    def _forward(
        self, frame: Any, buffers: dict[str, Any], omega_index: Any, given: dict[str, Any]
    ) -> dict[str, Any]:
        output = self.model.forward(
            frame,
            buffers,
            omega_index,
            noise={"y": given["noise_y"], "z": given["noise_z"]},
            **({"motion": given["motion"]} if "motion" in given else {}),
            quantiser=self.phase.quantiser,
            channel=self._through(self.model, given),
        )
        # A buffer has the same type before and after a frame, whatever the networks compute in.
        following = {name: _like(b, buffers[name]) for name, b in output["buffers"].items()}
        return {**output, "buffers": following}

    def _through(self, model: Any, given: dict[str, Any]) -> Any:
        """The channel of a frame, as ``forward`` of a model takes it; None in stage 1."""
        if self.channel is None:
            return None
        return self.channel.through(given["channel"], model.config.rate_set)

    def _terms(
        self, frame: Any, omega_index: Any, output: dict[str, Any], given: dict[str, Any]
    ) -> dict[str, Any]:
        loss, num_pixels = self.phase.loss, frame.shape[1] * frame.shape[2]
        omega = ops.take(ops.convert_to_tensor(self.omega, "float32"), omega_index, axis=0)
        share = omega**-loss.preset_balance
        eta = self.model.config.eta if loss.side_eta is None else loss.side_eta
        rate = rate_loss(*rate_terms(self.model, output, loss.streams), eta, num_pixels)
        terms = {
            "rate": ops.mean(rate),
            "bpp_y": ops.mean(ops.sum(output["num_bits_y"], axis=(1, 2))) / num_pixels,
            "bpp_z": ops.mean(output["num_bits_z"]) / num_pixels,
            **_state_of_map(output["rate_index"]),
        }
        total = ops.mean(share * rate) if self.phase.stage != 2 else 0.0
        total = total + self._distortion(frame, share * omega, output, given, terms)
        if self.discriminator is not None:
            terms["discriminator"] = self._discriminator_loss(frame, output)
            total = total + terms["discriminator"]
        if self.phase.rate_set == "overcomplete":
            num_rates = len(self.model.config.rate_set)
            chosen = ops.reshape(output["rate_index"], (-1, 1)) == ops.arange(
                num_rates, dtype="int32"
            )
            terms["usage"] = ops.sum(ops.cast(chosen, "float32"), axis=0)
        return {**terms, "loss": total}

    def _distortion(
        self,
        frame: Any,
        omega: Any,
        output: dict[str, Any],
        given: dict[str, Any],
        terms: dict[str, Any],
    ) -> Any:
        """omega_t times the bracket of eq. 27, summed over the branches; fills ``terms``."""
        loss, total = self.phase.loss, 0.0
        if self.perceptual is not None:
            place = given["rows"], given["place"]
            features = self.perceptual.features(self.perceptual.cut(frame, *place))
            chosen = omega if self.perceptual.count == frame.shape[0] else ops.take(omega, place[0])
        if loss.flow:
            error = reconstruction_loss(frame, output["prediction_flow"])
            terms["pred_flow"] = ops.mean(error)
            total = total + loss.flow * ops.mean(omega * error)
        for branch, weight in self.branches.items():
            frame_hat = ops.cast(output[f"frame_{branch}"], "float32")
            rec = reconstruction_loss(frame, frame_hat)
            terms[f"rec_{branch}"] = ops.mean(rec)
            total = total + weight * loss.rec * ops.mean(omega * rec)
            if loss.prediction:
                predicted = output["prediction" if branch == "ideal" else f"prediction_{branch}"]
                error = reconstruction_loss(frame, predicted)
                terms[f"pred_{branch}"] = ops.mean(error)
                total = total + weight * loss.prediction * ops.mean(omega * error)
            if self.perceptual is not None:
                per = self.perceptual.distance(features, self.perceptual.cut(frame_hat, *place))
                terms[f"per_{branch}"] = ops.mean(per)
                total = total + weight * given["per_weight"] * ops.mean(chosen * per)
            if self.discriminator is not None:
                adv = self._adversarial(frame_hat, omega)
                terms[f"adv_{branch}"] = adv
                total = total + weight * given["adv_weight"] * adv
            if branch != "ideal":
                latent = latent_loss(output["y_bar"], output[f"y_bar_{branch}"])
                terms[f"latent_{branch}"] = ops.mean(latent)
                total = total + loss.latent * terms[f"latent_{branch}"]
        return total

    def _adversarial(self, frame_hat: Any, omega: Any) -> Any:
        """Mean of omega L_adv with a fixed discriminator."""
        fixed = [(v, ops.stop_gradient(v.value)) for v in self.discriminator.variables]
        with keras.StatelessScope(state_mapping=fixed):
            score = self.discriminator(frame_hat)
        return generator_loss(score * omega[:, None, None, None])

    def _discriminator_loss(self, frame: Any, output: dict[str, Any]) -> Any:
        real = self.discriminator(frame)
        fakes = [self.discriminator(ops.stop_gradient(output[f"frame_{b}"])) for b in self.branches]
        return sum(discriminator_loss(real, fake) for fake in fakes) / len(fakes)


def _like(tensor: Any, other: Any) -> Any:
    """The tensor in the type of another."""
    return ops.cast(tensor, keras.backend.standardize_dtype(other.dtype))


def _lead_in(batch: dict[str, Any]) -> int:
    """P frames of a batch from which nothing is learnt."""
    return int(batch["frames"].shape[1] - batch["rows"].shape[0])


def _given(frames: Any, batch: dict[str, Any], first: int, last: int, lead_in: int = 0) -> list:
    """What ``over_frames`` takes of the frames from ``first`` up to ``last``."""
    index = batch["omega_index"]
    return [(frames[:, t], index[:, t], _at(batch, t, lead_in)) for t in range(first, last)]


def _at(batch: dict[str, Any], t: int, lead_in: int = 0) -> dict[str, Any]:
    """The entries of a batch for its frame ``t``."""
    given = {key: batch[key] for key in ("per_weight", "adv_weight")}
    given |= {key: batch[key][max(0, t - lead_in)] for key in _PER_LEARNING_FRAME}
    given |= {key: batch[key][:, t] for key in _PER_CLIP_AND_FRAME if key in batch}
    if "channel" in batch:
        given["channel"] = of_frame(batch["channel"], t)
    return given
