"""Layered offset min-sum decoding in int16 on the CPU: one block at a time, lanes along z."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import numba
import numpy as np
from numba import njit

from pvsc_link.link import int16_lanes as lanes
from pvsc_link.link.ldpc_fixed_point import CLIP_LLR, CLIP_MESSAGE, SCALE, SHIFT_MESSAGE
from pvsc_link.link.ldpc_schedule import LayeredSchedule

_LANES = lanes.NUM_LANES
#: Blocks handed to a thread at once: long against the hand-over, short against the batch.
_BLOCKS_PER_TASK = 16


@njit(nogil=True, cache=True, error_model="numpy")
def _load_block(llr, received, known, z, stride, a_posteriori, steps):
    """Fixed-point LLRs log p(0)/p(1) into their slots, each column written twice (z apart)."""
    for i in range(len(llr)):
        value = np.rint(llr[i] * np.float32(-SCALE))
        steps[i] = np.int16(min(max(value, np.float32(-CLIP_LLR)), np.float32(CLIP_LLR)))
    a_posteriori[:] = 0
    for i in range(len(received)):
        a_posteriori[received[i]] = steps[i]
    for i in range(len(known)):
        a_posteriori[known[i]] = CLIP_LLR
    for first in range(0, len(a_posteriori), stride):
        for i in range(first, first + z, _LANES):
            lanes.store(a_posteriori, i + z, lanes.load(a_posteriori, i))


@njit(nogil=True, cache=True, error_model="numpy")
def _check_row(reads, first, padded, a_posteriori, messages, extrinsic, smallest, second, signs):
    """Variable-to-check values of one row, their two smallest magnitudes and sign product."""
    for i in range(0, padded, _LANES):
        low = lanes.splat(np.int16(32767))
        high, sign = low, lanes.splat(np.int16(0))
        for e in range(len(reads)):
            value = lanes.subtract(
                lanes.load(a_posteriori, reads[e] + i),
                lanes.load(messages, (first + e) * padded + i),
            )
            lanes.store(extrinsic, e * padded + i, value)
            size = lanes.magnitude(value)
            high = lanes.minimum(high, lanes.maximum(low, size))
            low = lanes.minimum(low, size)
            sign = lanes.exclusive_or(sign, value)
        lanes.store(smallest, i, low)
        lanes.store(second, i, high)
        lanes.store(signs, i, sign)


@njit(nogil=True, cache=True, error_model="numpy")
def _damp(size, offset):
    """7/8 of a magnitude less an offset, in [0, CLIP_MESSAGE]."""
    smaller = lanes.shift_right(size, lanes.splat(np.int16(SHIFT_MESSAGE)))
    damped = lanes.subtract(lanes.subtract(size, smaller), offset)
    damped = lanes.maximum(damped, lanes.splat(np.int16(0)))
    return lanes.minimum(damped, lanes.splat(np.int16(CLIP_MESSAGE)))


@njit(nogil=True, cache=True, error_model="numpy")
def _update_row(
    writes, first, padded, z, offset, a_posteriori, messages, extrinsic, smallest, second, signs
):
    """Check-to-variable messages of one row, and the a-posteriori values they give.

    Lanes beyond z spill into what follows: going down from the last chunk, and writing the copy
    after the original, every spill is overwritten by what belongs there.
    """
    fifteen, minus = lanes.splat(np.int16(15)), lanes.splat(np.int16(offset))
    for i in range(padded - _LANES, -1, -_LANES):
        low, sign = lanes.load(smallest, i), lanes.load(signs, i)
        from_low = _damp(low, minus)
        from_high = _damp(lanes.load(second, i), minus)
        for e in range(len(writes)):
            value = lanes.load(extrinsic, e * padded + i)
            size = lanes.where_equal(lanes.magnitude(value), low, from_high, from_low)
            flip = lanes.shift_right(lanes.exclusive_or(sign, value), fifteen)
            message = lanes.subtract(lanes.exclusive_or(size, flip), flip)
            lanes.store(messages, (first + e) * padded + i, message)
            total = lanes.add(value, message)
            lanes.store(a_posteriori, writes[e] + i, total)
            lanes.store(a_posteriori, writes[e] + z + i, total)


@njit(nogil=True, cache=True, error_model="numpy")
def _is_codeword(row_start, parity_reads, inside, padded, a_posteriori):
    """True when every parity check holds for the signs; leaves at the first that fails."""
    for row in range(len(row_start) - 1):
        for i in range(0, padded, _LANES):
            parity = lanes.splat(np.int16(0))
            for e in range(row_start[row], row_start[row + 1]):
                parity = lanes.exclusive_or(parity, lanes.load(a_posteriori, parity_reads[e] + i))
            if lanes.any_negative(lanes.bit_and(parity, lanes.load(inside, i))):
                return False
    return True


@njit(nogil=True, cache=True, error_model="numpy")
def _decode_blocks(
    llr, bits, iterations, z, stride, num_iter, offset,
    row_start, reads, writes, parity_reads, received, known, info,
):  # fmt: skip
    """Decode each row of ``llr`` [batch, n] into ``bits`` [batch, k].

    ``iterations`` [batch] becomes the count used, negative where no codeword was reached.
    """
    padded = (z + _LANES - 1) // _LANES * _LANES
    num_rows, max_degree = len(row_start) - 1, 0
    for row in range(num_rows):
        max_degree = max(max_degree, row_start[row + 1] - row_start[row])
    a_posteriori = np.zeros((np.max(writes) // stride + 1) * stride, np.int16)
    messages = np.zeros(len(reads) * padded, np.int16)
    extrinsic = np.zeros(max_degree * padded, np.int16)
    smallest, second = np.zeros(padded, np.int16), np.zeros(padded, np.int16)
    signs, inside = np.zeros(padded, np.int16), np.zeros(padded, np.int16)
    inside[:z] = -1
    steps = np.empty(llr.shape[1], np.int16)
    for block in range(len(llr)):
        _load_block(llr[block], received, known, z, stride, a_posteriori, steps)
        messages[:] = 0
        iterations[block] = -num_iter
        for iteration in range(num_iter):
            for row in range(num_rows):
                a, b = row_start[row], row_start[row + 1]
                _check_row(
                    reads[a:b], a, padded, a_posteriori, messages, extrinsic, smallest, second,
                    signs,
                )  # fmt: skip
                _update_row(
                    writes[a:b], a, padded, z, offset, a_posteriori, messages, extrinsic, smallest,
                    second, signs,
                )  # fmt: skip
            if _is_codeword(row_start, parity_reads, inside, padded, a_posteriori):
                iterations[block] = iteration + 1
                break
        for i in range(len(info)):
            bits[block, i] = a_posteriori[info[i]] < 0


@lru_cache(maxsize=4)
def _pool(num_threads: int, process: int) -> ThreadPoolExecutor:
    # Own threads, not prange: numba's portable threading layer ends the process when two Python
    # threads decode at once, and OpenMP's does when a process that has decoded forks.
    return ThreadPoolExecutor(num_threads, thread_name_prefix="ldpc")


class LayeredKernel:
    """Decoder of one code, numpy in and out, parallel over blocks.

    Parameters: ``schedule`` : LayeredSchedule; ``num_iter`` : most iterations;
    ``offset`` : int, offset of the check-node rule in fixed-point steps.
    """

    def __init__(self, schedule: LayeredSchedule, num_iter: int, offset: int):
        z, column = schedule.z, schedule.column.astype(np.int64)
        padded = -(-z // _LANES) * _LANES
        stride = -(-(z + padded) // _LANES) * _LANES
        self._k = schedule.k

        def place(slot: np.ndarray) -> np.ndarray:
            return slot.astype(np.int64) // z * stride + slot % z

        self._decode = partial(
            _decode_blocks,
            z=z,
            stride=stride,
            num_iter=num_iter,
            offset=offset,
            row_start=schedule.row_start.astype(np.int64),
            reads=column * stride + schedule.shift,
            writes=column * stride,
            parity_reads=column * stride + schedule.parity_shift,
            received=place(schedule.received_slot),
            known=place(schedule.known_slot),
            info=place(schedule.info_slot),
        )

    def decode(self, llr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Information bits and iterations of each block.

        Input: ``llr`` : [batch, n], float32, finite, log p(1)/p(0).
        Output: ``bits`` : [batch, k], uint8; ``iterations`` : [batch], int16, the number used
        until all parity checks held, or minus the limit where they never did.
        """
        llr = np.ascontiguousarray(llr, np.float32)
        bits = np.empty((len(llr), self._k), np.uint8)
        iterations = np.empty(len(llr), np.int16)
        num_threads = numba.get_num_threads()
        step = max(1, min(_BLOCKS_PER_TASK, -(-len(llr) // num_threads)))
        if num_threads == 1 or len(llr) <= 1:
            self._decode(llr, bits, iterations)
            return bits, iterations

        def decode_from(start: int) -> None:
            part = slice(start, start + step)
            self._decode(llr[part], bits[part], iterations[part])

        list(_pool(num_threads, os.getpid()).map(decode_from, range(0, len(llr), step)))
        return bits, iterations
