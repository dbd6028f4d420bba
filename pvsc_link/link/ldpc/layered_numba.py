"""Layered offset min-sum decoding in int16 on the CPU: one block at a time, lanes along z.

Numbers are fixed-point: an LLR of 1 is 16 steps. Channel LLRs are clipped to 125 and messages to
62.5, so that the sum of a channel LLR and the 30 messages of the widest column fits into int16.
Were sums saturated instead, subtracting an old message from them would cause an error floor.

The first part makes thirty-two int16 lanes one numba value, so that a loop keeps its state in
vector registers. LLVM's own vectoriser gives up on the check-node loop (too many arrays that might
overlap), and plain numba integers widen to int64. Each lane operation is one LLVM vector
instruction, which LLVM splits or pads for the processor at hand; none saturates.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from pvsc_link.link.ldpc.code import LayeredSchedule

#: Steps per unit of LLR.
SCALE = 16
#: Largest channel value, in steps.
CLIP_LLR = 2000
#: Largest check-to-variable message, in steps.
CLIP_MESSAGE = 1000
#: A magnitude m becomes m - (m >> SHIFT_MESSAGE) - offset: 7/8 of it, less an offset.
SHIFT_MESSAGE = 3


def offset_of_rate(rate: float) -> int:
    """Offset of the check-node rule in fixed-point steps for a code of this rate.

    Few wide rows (high rate) leave less correlation to correct than many narrow ones.
    """
    return 5 if rate <= 0.85 else 4


NUM_LANES = 32
_I16 = ir.IntType(16)
_VECTOR = ir.VectorType(_I16, NUM_LANES)
_ALIGNMENT = 2  # bytes: a rotated read starts at any int16


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"int16x{NUM_LANES}")


LANES = _LanesType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, data_model_manager: Any, fe_type: Any) -> None:
        super().__init__(data_model_manager, fe_type, _VECTOR)


def _lane_operation(typer: Any) -> Any:
    """A numba intrinsic; untyped here, since mypy cannot see that numba removes an argument."""
    return intrinsic(typer)


def _pointer(context: Any, builder: Any, signature: Any, array: Any, index: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, array).data
    return builder.bitcast(cgutils.gep(builder, data, index), ir.PointerType(_VECTOR))


def _splat(builder: Any, scalar: Any) -> Any:
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), NUM_LANES), [0] * NUM_LANES)
    return builder.shuffle_vector(first, first, mask)


def _call(builder: Any, name: str, *operands: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [operand.type for operand in operands])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{NUM_LANES}i16")
    return builder.call(function, operands)


@_lane_operation
def load(typing, array, index):
    """Lanes of a contiguous int16 array from ``index`` on; the array must reach that far."""

    def codegen(context, builder, signature, args):
        return builder.load(_pointer(context, builder, signature, *args), align=_ALIGNMENT)

    return LANES(array, types.intp), codegen


@_lane_operation
def store(typing, array, index, value):
    """Write the lanes into a contiguous int16 array from ``index`` on."""

    def codegen(context, builder, signature, args):
        pointer = _pointer(context, builder, signature, *args[:2])
        builder.store(args[2], pointer, align=_ALIGNMENT)
        return context.get_dummy_value()

    return types.void(array, types.intp, LANES), codegen


@_lane_operation
def splat(typing, scalar):
    """The same int16 in every lane."""
    return LANES(types.int16), lambda context, builder, signature, args: _splat(builder, args[0])


def _binary(emit: Any) -> Any:
    def typer(typing, a, b):
        return LANES(LANES, LANES), lambda context, builder, signature, args: emit(builder, *args)

    return _lane_operation(typer)


add = _binary(lambda builder, a, b: builder.add(a, b))
subtract = _binary(lambda builder, a, b: builder.sub(a, b))
exclusive_or = _binary(lambda builder, a, b: builder.xor(a, b))
bit_and = _binary(lambda builder, a, b: builder.and_(a, b))
minimum = _binary(lambda builder, a, b: _call(builder, "smin", a, b))
maximum = _binary(lambda builder, a, b: _call(builder, "smax", a, b))


@_lane_operation
def magnitude(typing, a):
    """Absolute value of each lane."""

    def codegen(context, builder, signature, args):
        return _call(builder, "abs", args[0], ir.IntType(1)(0))

    return LANES(LANES), codegen


@_lane_operation
def shift_right(typing, a, b):
    """Arithmetic shift of each lane of ``a`` by the same lane of ``b``."""

    def codegen(context, builder, signature, args):
        return builder.ashr(*args)

    return LANES(LANES, LANES), codegen


@_lane_operation
def where_equal(typing, a, b, x, y):
    """Lane of ``x`` where ``a`` equals ``b``, else of ``y``."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.icmp_signed("==", args[0], args[1]), args[2], args[3])

    return LANES(LANES, LANES, LANES, LANES), codegen


@_lane_operation
def any_negative(typing, a):
    """True when a lane is negative."""

    def codegen(context, builder, signature, args):
        signs = builder.icmp_signed("<", args[0], ir.Constant(_VECTOR, [0] * NUM_LANES))
        packed = builder.bitcast(signs, ir.IntType(NUM_LANES))
        return builder.icmp_unsigned("!=", packed, ir.IntType(NUM_LANES)(0))

    return types.boolean(LANES), codegen


#: Blocks handed to a thread at once.
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
        for i in range(first, first + z, NUM_LANES):
            store(a_posteriori, i + z, load(a_posteriori, i))


@njit(nogil=True, cache=True, error_model="numpy")
def _check_row(reads, first, padded, a_posteriori, messages, extrinsic, smallest, second, signs):
    """Variable-to-check values of one row, their two smallest magnitudes and sign product."""
    for i in range(0, padded, NUM_LANES):
        low = splat(np.int16(32767))
        high, sign = low, splat(np.int16(0))
        for e in range(len(reads)):
            value = subtract(
                load(a_posteriori, reads[e] + i),
                load(messages, (first + e) * padded + i),
            )
            store(extrinsic, e * padded + i, value)
            size = magnitude(value)
            high = minimum(high, maximum(low, size))
            low = minimum(low, size)
            sign = exclusive_or(sign, value)
        store(smallest, i, low)
        store(second, i, high)
        store(signs, i, sign)


@njit(nogil=True, cache=True, error_model="numpy")
def _damp(size, offset):
    """7/8 of a magnitude less an offset, in [0, CLIP_MESSAGE]."""
    smaller = shift_right(size, splat(np.int16(SHIFT_MESSAGE)))
    damped = subtract(subtract(size, smaller), offset)
    damped = maximum(damped, splat(np.int16(0)))
    return minimum(damped, splat(np.int16(CLIP_MESSAGE)))


@njit(nogil=True, cache=True, error_model="numpy")
def _update_row(
    writes, first, padded, z, offset, a_posteriori, messages, extrinsic, smallest, second, signs
):
    """Check-to-variable messages of one row, and the a-posteriori values they give.

    Lanes beyond z spill into what follows: going down from the last chunk, and writing the copy
    after the original, every spill is overwritten by what belongs there.
    """
    fifteen, minus = splat(np.int16(15)), splat(np.int16(offset))
    for i in range(padded - NUM_LANES, -1, -NUM_LANES):
        low, sign = load(smallest, i), load(signs, i)
        from_low = _damp(low, minus)
        from_high = _damp(load(second, i), minus)
        for e in range(len(writes)):
            value = load(extrinsic, e * padded + i)
            size = where_equal(magnitude(value), low, from_high, from_low)
            flip = shift_right(exclusive_or(sign, value), fifteen)
            message = subtract(exclusive_or(size, flip), flip)
            store(messages, (first + e) * padded + i, message)
            total = add(value, message)
            store(a_posteriori, writes[e] + i, total)
            store(a_posteriori, writes[e] + z + i, total)


@njit(nogil=True, cache=True, error_model="numpy")
def _is_codeword(row_start, parity_reads, inside, padded, a_posteriori):
    """True when every parity check holds for the signs; leaves at the first that fails."""
    for row in range(len(row_start) - 1):
        for i in range(0, padded, NUM_LANES):
            parity = splat(np.int16(0))
            for e in range(row_start[row], row_start[row + 1]):
                parity = exclusive_or(parity, load(a_posteriori, parity_reads[e] + i))
            if any_negative(bit_and(parity, load(inside, i))):
                return False
    return True


@njit(nogil=True, cache=True, error_model="numpy")
def _decode_blocks(
    llr, bits, iterations, z, num_columns, stride, num_iter, offset,
    row_start, reads, writes, parity_reads, received, known, info,
):  # fmt: skip
    """Decode each row of ``llr`` [batch, n] into ``bits`` [batch, k].

    ``iterations`` [batch] becomes the count used, negative where no codeword was reached.
    """
    padded = (z + NUM_LANES - 1) // NUM_LANES * NUM_LANES
    num_rows, max_degree = len(row_start) - 1, 0
    for row in range(num_rows):
        max_degree = max(max_degree, row_start[row + 1] - row_start[row])
    a_posteriori = np.zeros(num_columns * stride, np.int16)
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
        padded = -(-z // NUM_LANES) * NUM_LANES
        stride = -(-(z + padded) // NUM_LANES) * NUM_LANES
        self._k = schedule.k

        def place(slot: np.ndarray) -> np.ndarray:
            return slot.astype(np.int64) // z * stride + slot % z

        self._decode = partial(
            _decode_blocks,
            z=z,
            num_columns=schedule.num_columns,
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
