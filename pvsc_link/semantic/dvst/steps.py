"""What runs per P frame of DVST at inference, cut where both ends share their work.

    both ends      compensate (motion out of its symbols), reconstruct (the frame out of its)
    transmitter    estimate, map_motion;  analyse, map_context between the two

The motion is decoded before the context is coded: both ends warp with the same flow.
"""

from typing import TYPE_CHECKING, Any

from pvsc_link.semantic.dvst import stacking
from pvsc_link.semantic.dvst.motion_compensation import Compensated
from pvsc_link.semantic.inference import Buffers, CodedFrame, Compiler, RateChoice, as_is, whole

if TYPE_CHECKING:
    from pvsc_link.semantic.dvst.model import DvstModel

_STEPS = ("estimate", "map_motion", "compensate", "analyse", "map_context", "reconstruct")


class DvstSteps:
    """Steps of a P frame, as ``inference.PredictedSteps``; the buffer is the frame before.

    Parameters: ``model`` : DvstModel; ``compiled`` : wraps each step.
    """

    def __init__(self, model: "DvstModel", compiled: Compiler = as_is):
        self.model = model
        for step in _STEPS:
            setattr(self, step, compiled(getattr(self, step)))

    def reference(self, feature: Any, motion: Any = None) -> Any:
        """The frame before, as it is: its motion is a part of the coding."""
        return feature

    def encode(
        self, frame: Any, buffers: Buffers, omega_index: Any, choose: RateChoice | None = None
    ) -> CodedFrame:
        """``FrameSteps.encode``; no quality preset to choose, and always the nearest rates."""
        reference, _ = buffers
        y, z_m = self.estimate(frame, reference)
        z_m = whole(z_m)
        rates_m, symbols_m = self.map_motion(y, z_m)
        known = self.compensate(symbols_m, rates_m, z_m, reference)
        y, z_c = self.analyse(frame, known)
        z_c = whole(z_c)
        rates_c, symbols_c = self.map_context(y, z_c, known)
        return CodedFrame(
            stacking.join_channels(z_m, z_c),
            stacking.stack_units(rates_m, rates_c),
            stacking.stack_units(symbols_m, symbols_c),
            known,
        )

    def decode(
        self,
        symbols_hat: Any,
        rate_index: Any,
        z_hat: Any,
        buffers: Buffers,
        omega_index: Any,
        kept: Compensated | None = None,
    ) -> Buffers:
        """``FrameSteps.decode``."""
        symbols_m, symbols_c = stacking.split_units(symbols_hat)
        rates_m, rates_c = stacking.split_units(rate_index)
        z_m, z_c = self.model.split_z(z_hat)
        if kept is None:
            kept = self.compensate(symbols_m, rates_m, z_m, buffers[0])
        return self.reconstruct(symbols_c, rates_c, z_c, kept), None

    def show(self, feature: Any, omega_index: Any) -> Any:
        """x_hat: the buffer itself."""
        return feature

    def estimate(self, frame: Any, reference: Any) -> tuple[Any, Any]:
        """Latent and hyper-latent of the motion."""
        y = self.model.motion_latent(frame, reference)
        return y, self.model.motion_stream.hyper_latent(y)

    def map_motion(self, y: Any, z_hat: Any) -> tuple[Any, Any]:
        """(rate_index, symbols_padded) of the motion."""
        return self.model.motion_stream.map_to_symbols(y, z_hat)

    def compensate(
        self, symbols_hat: Any, rate_index: Any, z_hat: Any, reference: Any
    ) -> Compensated:
        """What the decoded motion makes of the frame before."""
        return self.model.receive_motion(symbols_hat, rate_index, z_hat, reference)[1]

    def analyse(self, frame: Any, known: Compensated) -> tuple[Any, Any]:
        """Latent and hyper-latent of the frame, given what its motion predicts."""
        y = self.model.context_encoder(frame, known.prediction, known.context_f)
        return y, self.model.context_stream.hyper_latent(y)

    def map_context(self, y: Any, z_hat: Any, known: Compensated) -> tuple[Any, Any]:
        """(rate_index, symbols_padded) of the frame."""
        return self.model.context_stream.map_to_symbols(y, z_hat, known.context_e)

    def reconstruct(self, symbols_hat: Any, rate_index: Any, z_hat: Any, known: Compensated) -> Any:
        """x_hat."""
        return self.model.receive_context(symbols_hat, rate_index, z_hat, known)[1]
