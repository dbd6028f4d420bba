"""Which frames of a GOP are lost, and what is shown in their place.

From the first lost frame to the end of the GOP, the last good frame is shown (freeze). The CRC of
the transport blocks decides which frames are lost, and damaged data are never decoded, because the
decoders of libav report damage unreliably. Therefore the error-free reconstruction is enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Level shown when the very first frame of a clip is lost.
MID_GREY = 128


def frames_lost(
    frame_num_bytes: Sequence[int],
    block_ok: Sequence[bool] | np.ndarray,
    block_num_bits: int | Sequence[int] | np.ndarray,
) -> np.ndarray:
    """Which frames lose at least one byte; the blocks carry the GOP's bytes one after another.

    Input
        frame_num_bytes : bytes per frame, in coding order
        block_ok : [num_blocks], bool, CRC results
        block_num_bits : information bits per block, one number or [num_blocks]; fillers of the
            last block may be included

    Output: [num_frames], bool, True where a failed block carries part of the frame.
    Raises ``ValueError`` when the blocks hold fewer bits than the frames.
    """
    failed = ~np.asarray(block_ok, bool)
    block_end = np.cumsum(np.broadcast_to(np.asarray(block_num_bits, np.int64), failed.shape))
    frame_end = 8 * np.cumsum(np.asarray(frame_num_bytes, np.int64))
    held = int(block_end[-1]) if block_end.size else 0
    if frame_end.size and held < frame_end[-1]:
        raise ValueError(f"{failed.size} blocks hold {held} bits of {frame_end[-1]}")
    failed_before = np.concatenate([[0], np.cumsum(failed)])
    first_block = np.searchsorted(block_end, np.concatenate([[0], frame_end[:-1]]), side="right")
    end_block = np.searchsorted(block_end, frame_end, side="left") + 1
    return failed_before[end_block] > failed_before[first_block]


def freeze_events(is_repeated: Sequence[bool] | np.ndarray, is_frozen: bool = False) -> int:
    """Runs of repeated frames that begin in a GOP.

    Input: ``is_repeated`` : [num_frames], bool, whether a frame only shows the one before again.
    Parameters: ``is_frozen`` : whether the last frame of the GOP before is a repeated one, so that
    a run at the start of this GOP only goes on.
    """
    repeated = np.asarray(is_repeated, bool)
    before = np.concatenate([[is_frozen], repeated[:-1]])
    return int(np.sum(repeated & ~before))


@dataclass(frozen=True)
class Concealed:
    """One GOP as it is shown."""

    frames: np.ndarray  # uint8 RGB [num_frames, height, width, 3]
    frames_lost: int  # frames that are not shown as themselves: all from the first lost one


def freeze(
    frames_hat: np.ndarray, frame_ok: Sequence[bool] | np.ndarray, previous_frame: np.ndarray | None
) -> Concealed:
    """Show good frames up to the first lost one, then repeat the last good one.

    Input
        frames_hat : [num_frames, height, width, 3], uint8, error-free reconstruction
        frame_ok : [num_frames], bool
        previous_frame : [height, width, 3], uint8, last frame shown of the previous GOP, or None;
            it is shown in place of a lost first frame, and mid-grey where there is none
    """
    lost = np.flatnonzero(~np.asarray(frame_ok, bool))
    first_lost = int(lost[0]) if lost.size else len(frames_hat)
    frames = frames_hat.copy()
    if first_lost > 0:
        frames[first_lost:] = frames_hat[first_lost - 1]
    else:
        frames[:] = MID_GREY if previous_frame is None else previous_frame
    return Concealed(frames, len(frames) - first_lost)
