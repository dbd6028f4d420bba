"""Hybrid automatic repeat request of one transport: blocks that fail are sent again and combined.

    round 1: all blocks --> decode --> blocks that fail --> round trip --> round 2: these again
                                             ^                                      |
                                             +-- decode LLRs of all receptions <----+

Blocks are acknowledged one by one, as with the code block groups of NR (TS 38.214, 5.1.7): a round
sends the blocks that have failed so far and no others. The acknowledgements are free of errors.
They take no channel uses, as the uplink is not simulated; their delay is part of the round trip.
"""

import itertools

import numpy as np

from pvsc_link.link.coded_link import BitReception, CodedLink
from pvsc_link.link.transport_options import Harq
from pvsc_link.types import ChannelPoint, InputError, LinkStats

#: Redundancy versions of the rounds, from the start again where they end. Incremental redundancy
#: has the order that NR schedulers use, which sends the buffer's halves first.
REDUNDANCY_VERSIONS = {"ir": (0, 2, 3, 1), "chase": (0,)}


class HarqProcess:
    """The blocks of one transport at sender and receiver, round after round.

    The caller says where a round lies in the process of the channel (``Air`` does). The receiver
    adds the LLRs of every reception of a block in the circular buffer of its code
    (``LdpcCode.add_to_buffer``) and decodes the sum.

    Parameters
    ----------
    link : CodedLink of equal blocks
    bits : [num_bits], np.uint8, payload
    combining : ``ir``: redundancy versions 0, 2, 3, 1; ``chase``: always version 0

    Raises ``InputError`` for another ``combining``, bits that are no bits, and shortened blocks.

    Example
    -------
    >>> import numpy as np
    >>> from pvsc_link.link import get_coded_link
    >>> from pvsc_link.link.harq import HarqProcess
    >>> from pvsc_link.types import ChannelPoint
    >>> link, point = get_coded_link(13, "awgn"), ChannelPoint("awgn", 4.0)
    >>> process = HarqProcess(link, np.ones(9000, np.uint8), "ir")
    >>> for first_symbol in (0, 100_000):
    ...     process.send(point, seed=1, first_symbol=first_symbol)
    >>> received = process.reception()
    >>> received.block_ok, received.rounds
    (array([ True,  True,  True,  True]), array([2, 2, 2, 2]))
    """

    def __init__(self, link: CodedLink, bits: np.ndarray, combining: str = "ir"):
        if combining not in REDUNDANCY_VERSIONS:
            raise InputError(
                "combining of harq",
                found=combining,
                allowed=sorted(REDUNDANCY_VERSIONS),
                remedy="ir sends other coded bits in every round, chase the same ones.",
            )
        self._link, self._versions = link, REDUNDANCY_VERSIONS[combining]
        self._segments = link.segmentation(len(bits))
        if self._segments.is_shortened:
            raise InputError(
                "segmentation with harq",
                found="shortened",
                allowed="equal",
                remedy="A block that is sent again has no bits that are left out.",
            )
        num_blocks = self._segments.num_blocks
        self._code, self._b = link.code_of(self._segments), link.information_bits(bits)
        self._payload = np.zeros((num_blocks, self._segments.block_payload), np.uint8)
        self._ok, self._rounds = np.zeros(num_blocks, bool), np.zeros(num_blocks, np.int64)
        self._buffer = np.zeros((0, self._code.buffer_n), np.float32)  # of the blocks that failed
        self._num_sent = 0  # blocks, each as often as it was sent
        self._num_pilots, self._stats = 0, list[LinkStats]()

    @property
    def num_failed(self) -> int:
        """Blocks that are not received: those that the next round sends. Before round 1, all."""
        return int(np.count_nonzero(~self._ok))

    @property
    def num_rounds(self) -> int:
        """Rounds that were sent."""
        return int(self._rounds.max(initial=0))

    @property
    def num_channel_uses(self) -> int:
        """Channel uses of all rounds, without pilots."""
        return self._num_sent * self._block_uses

    @property
    def next_uses(self) -> int:
        """Channel uses of the next round, without pilots."""
        return self.num_failed * self._block_uses

    @property
    def _block_uses(self) -> int:
        return self._code.n // self._code.num_bits_per_symbol

    def send(
        self,
        point: ChannelPoint,
        seed: int,
        first_symbol: int = 0,
        places: np.ndarray | None = None,
    ) -> None:
        """One round: the blocks that have failed, sent, combined and decoded. Nothing without any.

        Parameters: as of ``CodedLink.send``; ``places`` : [next_uses].
        """
        failed = np.flatnonzero(~self._ok)
        if not len(failed):
            return
        version = self._versions[self.num_rounds % len(self._versions)]
        coded = self._code.redundancy(self._b[failed], version)
        llr, pilots, stats = self._link.pass_blocks(coded, point, seed, first_symbol, places)
        self._num_sent += len(failed)
        self._num_pilots += pilots
        self._stats.append(stats)
        self._rounds[failed] += 1
        payload, ok = self._decoded(llr, version)
        self._payload[failed], self._ok[failed] = payload, ok
        self._buffer = self._buffer[~ok]

    def _decoded(self, llr: np.ndarray, version: int) -> tuple[np.ndarray, np.ndarray]:
        """Payload and CRC results of the blocks of a round; their LLRs go into the buffer."""
        if self.num_rounds == 1:
            self._buffer = np.zeros((len(llr), self._code.buffer_n), np.float32)
        self._code.add_to_buffer(self._buffer, llr, version)
        if self.num_rounds == 1:  # the code of the first transmission needs the fewest rows
            return self._link.decode_blocks(self._code, self._code.combine(llr))
        heard = itertools.islice(itertools.cycle(self._versions), self.num_rounds)
        return self._link.decode_blocks(self._code.heard(heard), self._buffer)

    def reception(self) -> BitReception:
        """What has arrived after the rounds that were sent."""
        return BitReception(
            self._segments.join(self._payload[None])[0].numpy(),
            self._ok.copy(),
            self._segments.block_num_bits,
            self._rounds.copy(),
            self.num_channel_uses + self._num_pilots,
            self._num_pilots,
            LinkStats.joined(self._stats),
        )


def is_worth_a_round(
    process: HarqProcess, harq: Harq, round_trip_uses: int, deadline: float | None
) -> bool:
    """Whether a further round is allowed and arrives in time.

    Parameters: ``round_trip_uses`` : round trip in channel uses; ``deadline`` : channel uses from
    the start of the transport to the end of its last round, round trips included; None: any.
    """
    if not process.num_failed or process.num_rounds > harq.max_retransmissions:
        return False
    waited = round_trip_uses * process.num_rounds
    arrival = process.num_channel_uses + waited + process.next_uses
    return deadline is None or arrival <= deadline
