"""DVST on the link: PVSC's transmission with other models of P frames, one for every rate."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pvsc_link.schemes.scheme import LinkOptions
from pvsc_link.schemes.semantic import SemanticScheme
from pvsc_link.schemes.semantic_gop import SentGop
from pvsc_link.semantic.arithmetic import SAME
from pvsc_link.semantic.dvst.pretrained import find_dvst_weights, load_dvst_models
from pvsc_link.semantic.pretrained import UNTRAINED, WeightFiles, run_label
from pvsc_link.types import ChannelPoint, Reception, Video


class _OneModel(SemanticScheme):
    """The transmission with the models of one rate, or of all rates that have no weights."""

    def __init__(self, preset: str, files: WeightFiles, rates: tuple[int, ...], **options: Any):
        self._given, self._of_model = files, rates
        super().__init__(preset, **options)

    def _find(self, preset: str, weights: str | None) -> WeightFiles:
        return self._given

    def _rates(self) -> tuple[int, ...]:
        return self._of_model

    def _load(self) -> tuple[Any, Any]:
        return load_dvst_models(self.preset, self._files)


class DvstScheme:
    """DVST: motion and context of every P frame as analog symbols, digital side information.

    A rate is a model of its own; I frames are sent by PVSC's intra model at the quality preset of
    the same number. Everything else, channel uses and their parts included, is as in
    ``SemanticScheme``: ``y`` are the symbols of both streams of P frames.

    Parameters
    ----------
    preset : key of ``semantic.dvst.presets.DVST_PRESETS``
    weights : folder with weights of one or more rates; None: those of the package, if it has them
    side_format, jit_compile, receiver_arithmetic : as ``SemanticScheme``; there is no
        ``refresh_every``, since a model is of one rate

    Raises ``InputError`` for an unknown preset, and for a folder without weights.
    """

    name = "dvst"
    digital = False
    default_equalizer = SemanticScheme.default_equalizer
    default_csi_aware = SemanticScheme.default_csi_aware

    def __init__(
        self,
        preset: str = "dvst_tiny",
        weights: str | None = None,
        side_format: str = "png",
        jit_compile: bool = False,
        receiver_arithmetic: str = SAME,
    ):
        options: dict[str, Any] = {"side_format": side_format, "jit_compile": jit_compile}
        options["receiver_arithmetic"] = receiver_arithmetic
        files = find_dvst_weights(preset, weights)
        self._schemes: dict[int, _OneModel] = {}
        for of_model in dict.fromkeys(files.values()):
            rates = tuple(rate for rate in files if files[rate] == of_model)
            scheme = _OneModel(preset, of_model, rates, **options)
            self._schemes |= dict.fromkeys(rates, scheme)
        self.preset, self.variant = preset, scheme.variant + run_label(weights)
        self.allowed_rates = self.default_rates = tuple(files)
        #: ``untrained``, or a digest of all weights: part of a point's identity.
        self.weights_id = _identity(files)

    @property
    def status(self) -> str:
        """What stands in every row."""
        return UNTRAINED if self.weights_id == UNTRAINED else "ok"

    def encode(self, video: Video, gop: int, rate: int) -> list[SentGop]:
        """One closed GOP per ``gop`` frames of the clip, by the model of ``rate``."""
        return self._schemes[rate].encode(video, gop, rate)

    def encode_gop(self, video: Video, first: int, gop: int, rate: int) -> SentGop:
        """The GOP that begins at frame ``first`` of ``video``."""
        return self._schemes[rate].encode_gop(video, first, gop, rate)

    def transmit(
        self,
        gops: Sequence[SentGop],
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int,
        seeds: Sequence[int],
    ) -> list[Reception]:
        """Send every GOP; see ``SemanticScheme.transmit``."""
        return list(self.stream(gops, point, link, mcs, seeds))

    def stream(
        self,
        gops: Iterable[SentGop],
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int,
        seeds: Iterable[int],
    ) -> Iterator[Reception]:
        """As :meth:`transmit`, one GOP at a time; all GOPs have one rate."""
        rest = iter(gops)
        for first in rest:  # the first alone: the others go with it
            scheme = self._schemes[first.omega_index]
            yield from scheme.stream(itertools.chain([first], rest), point, link, mcs, seeds)


def _identity(files: dict[int, WeightFiles]) -> str:
    identities = [f"{rate}:{of_rate.identity}" for rate, of_rate in files.items()]
    if all(of_rate.identity == UNTRAINED for of_rate in files.values()):
        return UNTRAINED
    return hashlib.sha256(" ".join(identities).encode()).hexdigest()[:12]
