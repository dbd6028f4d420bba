"""The LDPC decoders that ``bench link`` compares, each called as LLRs in, information bits out."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from pvsc_link.link.ldpc import DECODERS, Decoder, sionna_decoder
from pvsc_link.link.ldpc_code import LdpcCode
from pvsc_link.link.ldpc_schedule import received_bits

#: Groups at which Sionna's decoder is about as fast as it gets on a CPU.
_SIONNA_BATCH = 32


@dataclass(frozen=True)
class Contender:
    """A decoder with the batch it likes and the most blocks worth waiting for."""

    build: Callable[[LdpcCode, int], Decoder]
    batch_size: int
    max_blocks: int = 100_000
    package: str = "sionna"

    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None


def _sionna(compiled: dict[str, Any] | None, cn_update: str = "boxplus-phi") -> Callable:
    def build(code: LdpcCode, num_iter: int) -> Decoder:
        decode = sionna_decoder(code, num_iter, cn_update)
        call = decode if compiled is None else tf.function(decode, **compiled)
        return lambda llr: call(tf.constant(llr))

    return build


def _py3gpp(code: LdpcCode, num_iter: int) -> Decoder:
    """py3gpp's ``nrLDPCDecode`` behind our rate recovery; its LLRs are log p(0)/p(1)."""
    from py3gpp import nrLDPCDecode

    encoder = code.encoder
    graph = 1 if encoder._bg == "bg1" else 2
    first = 2 * encoder.z  # it adds the two punctured columns itself
    received = received_bits(encoder) - first
    fillers = np.arange(encoder.k, encoder.k_ldpc) - first

    def decode(llr: np.ndarray) -> np.ndarray:
        mother = np.zeros((encoder.n_ldpc - first, len(llr)))
        mother[received] = -llr.T
        mother[fillers] = np.inf
        bits, _ = nrLDPCDecode(mother, graph, num_iter)
        return np.asarray(bits)[: encoder.k].T

    return decode


#: Name in the table: decoder. Sionna's graph and eager modes give the bits of its XLA mode.
CONTENDERS: dict[str, Contender] = {
    "sionna-eager": Contender(_sionna(None), _SIONNA_BATCH, max_blocks=64),
    "sionna-graph": Contender(_sionna({}), _SIONNA_BATCH, max_blocks=128),
    "sionna-xla": Contender(_sionna({"jit_compile": True}), _SIONNA_BATCH),
    "sionna-xla-offset-minsum": Contender(
        _sionna({"jit_compile": True}, "offset-minsum"), _SIONNA_BATCH
    ),
    "layered": Contender(DECODERS["layered"], 256),
    "layered-xla": Contender(DECODERS["layered-xla"], 64),
    "py3gpp": Contender(_py3gpp, 1, max_blocks=4, package="py3gpp"),
}
#: Left out of the quick table unless asked for: each compiles or decodes for tens of seconds.
NOT_QUICK = ("sionna-xla-offset-minsum", "py3gpp")
