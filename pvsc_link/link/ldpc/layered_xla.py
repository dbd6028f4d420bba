"""Layered offset min-sum decoding in int16 as one XLA program, vectorised over the batch.

Loops over iterations, rows and edges stay loops. If they were unrolled, XLA on a CPU would fuse
the producers of a layer into each of their consumers and compute whole layers repeatedly.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from pvsc_link.link.ldpc.code import LayeredSchedule
from pvsc_link.link.ldpc.layered_numba import CLIP_LLR, CLIP_MESSAGE, SCALE, SHIFT_MESSAGE

#: Blocks decoded side by side; wider batches do not fit into the processor's cache.
BLOCKS_ABREAST = 64
_LARGEST = 32767


def _write(tensor: tf.Tensor, rows: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
    # XLA's own operation, since TensorFlow's scatter does not become an update in place.
    return gen_xla_ops.xla_dynamic_update_slice(tensor, rows, tf.stack([first, 0]))


class LayeredXla:
    """The arithmetic of ``LayeredKernel``, bit for bit, for use under ``jit_compile=True``.

    Parameters: ``schedule`` : LayeredSchedule; ``num_iter`` : most iterations;
    ``offset`` : int, offset of the check-node rule in fixed-point steps.
    """

    def __init__(self, schedule: LayeredSchedule, num_iter: int, offset: int):
        z, n = schedule.z, len(schedule.received_slot)
        self._schedule, self._num_iter, self._offset = schedule, num_iter, offset
        base = 2 * z * schedule.column
        self._reads, self._writes = base + schedule.shift, base
        self._parity_reads = base + schedule.parity_shift
        # One gather fills all columns: a received bit, or a zero (n), or a known bit (n + 1).
        source = np.full(schedule.num_columns * z, n, np.int32)
        source[schedule.received_slot] = np.arange(n)
        source[schedule.known_slot] = n + 1
        self._source = np.repeat(source.reshape(-1, 1, z), 2, axis=1).ravel()
        self._info = schedule.info_slot // z * 2 * z + schedule.info_slot % z

    def __call__(self, llr: tf.Tensor) -> tf.Tensor:
        """Information bits. [batch, n], ``tf.float32``, log p(1)/p(0) -> [batch, k], float32."""
        batch = tf.shape(llr)[0]
        abreast = tf.minimum(BLOCKS_ABREAST, -(-batch // 8) * 8)
        num_groups = -(-batch // abreast)
        steps = tf.clip_by_value(tf.round(llr * -SCALE), -CLIP_LLR, CLIP_LLR)
        steps = tf.pad(steps, [[0, num_groups * abreast - batch], [0, 0]], constant_values=CLIP_LLR)
        steps = tf.pad(steps, [[0, 0], [0, 1]])
        steps = tf.pad(steps, [[0, 0], [0, 1]], constant_values=CLIP_LLR)
        groups = tf.transpose(
            tf.reshape(tf.cast(steps, tf.int16), [num_groups, abreast, steps.shape[1]]), [0, 2, 1]
        )
        bits = tf.map_fn(self._decode_group, groups, fn_output_signature=tf.bool)
        bits = tf.reshape(tf.transpose(bits, [0, 2, 1]), [num_groups * abreast, self._schedule.k])
        return tf.cast(bits[:batch], tf.float32)

    def _decode_group(self, steps: tf.Tensor) -> tf.Tensor:
        """[n + 2, abreast], ``tf.int16`` -> [k, abreast], ``tf.bool``."""
        abreast = tf.shape(steps)[1]
        a_posteriori = tf.gather(steps, self._source)
        messages = tf.zeros([self._schedule.num_edges * self._schedule.z, abreast], tf.int16)
        bits = tf.zeros([self._schedule.k, abreast], tf.bool)
        done = tf.zeros([abreast], tf.bool)

        def goes_on(iteration: Any, a_posteriori: Any, messages: Any, bits: Any, done: Any) -> Any:
            return tf.logical_and(iteration < self._num_iter, tf.logical_not(tf.reduce_all(done)))

        def iterate(iteration: Any, a_posteriori: Any, messages: Any, bits: Any, done: Any) -> Any:
            a_posteriori, messages = self._update_rows(a_posteriori, messages)
            # A block that is done keeps its bits, whatever the blocks beside it still need.
            bits = tf.where(done, bits, tf.gather(a_posteriori, self._info) < 0)
            done = tf.logical_or(done, self._are_codewords(a_posteriori, done))
            return iteration + 1, a_posteriori, messages, bits, done

        return tf.while_loop(goes_on, iterate, (0, a_posteriori, messages, bits, done))[3]

    def _update_rows(self, a_posteriori: tf.Tensor, messages: tf.Tensor) -> Any:
        """One iteration: every row once."""
        z, row_start = self._schedule.z, tf.constant(self._schedule.row_start)
        abreast = tf.shape(messages)[1]
        extrinsic = tf.zeros([int(np.diff(self._schedule.row_start).max()) * z, abreast], tf.int16)

        def update(row: Any, a_posteriori: Any, messages: Any, extrinsic: Any) -> Any:
            first, last = row_start[row], row_start[row + 1]
            extrinsic, check = self._check_row(first, last, a_posteriori, messages, extrinsic)
            a_posteriori, messages = self._write_row(
                first, last, a_posteriori, messages, extrinsic, check
            )
            return row + 1, a_posteriori, messages, extrinsic

        loop = (0, a_posteriori, messages, extrinsic)
        return tf.while_loop(lambda row, *_: row < self._schedule.num_rows, update, loop)[1:3]

    def _check_row(
        self, first: Any, last: Any, a_posteriori: Any, messages: Any, extrinsic: Any
    ) -> Any:
        """Variable-to-check values, and (smallest magnitude, second smallest, sign product)."""
        z, abreast, reads = self._schedule.z, tf.shape(messages)[1], tf.constant(self._reads)
        largest = tf.fill([z, abreast], tf.constant(_LARGEST, tf.int16))

        def visit(edge: Any, extrinsic: Any, low: Any, high: Any, sign: Any) -> Any:
            value = tf.slice(a_posteriori, [reads[edge], 0], [z, abreast])
            value -= tf.slice(messages, [edge * z, 0], [z, abreast])
            size = tf.abs(value)
            high = tf.minimum(high, tf.maximum(low, size))
            low, sign = tf.minimum(low, size), tf.bitwise.bitwise_xor(sign, value)
            return edge + 1, _write(extrinsic, value, (edge - first) * z), low, high, sign

        loop = (first, extrinsic, largest, largest, tf.zeros_like(largest))
        _, extrinsic, low, high, sign = tf.while_loop(lambda edge, *_: edge < last, visit, loop)
        return extrinsic, (low, self._damp(low), self._damp(high), sign)

    def _damp(self, size: tf.Tensor) -> tf.Tensor:
        smaller = tf.bitwise.right_shift(size, tf.constant(SHIFT_MESSAGE, tf.int16))
        return tf.clip_by_value(size - smaller - self._offset, 0, CLIP_MESSAGE)

    def _write_row(
        self, first: Any, last: Any, a_posteriori: Any, messages: Any, extrinsic: Any, check: Any
    ) -> Any:
        """Check-to-variable messages, and the a-posteriori values they give."""
        z, abreast, writes = self._schedule.z, tf.shape(messages)[1], tf.constant(self._writes)
        low, from_low, from_high, sign = check

        def visit(edge: Any, a_posteriori: Any, messages: Any) -> Any:
            value = tf.slice(extrinsic, [(edge - first) * z, 0], [z, abreast])
            size = tf.where(tf.abs(value) == low, from_high, from_low)
            message = tf.where(tf.bitwise.bitwise_xor(sign, value) < 0, -size, size)
            total = value + message
            a_posteriori = _write(a_posteriori, total, writes[edge])
            a_posteriori = _write(a_posteriori, total, writes[edge] + z)
            return edge + 1, a_posteriori, _write(messages, message, edge * z)

        loop = (first, a_posteriori, messages)
        return tf.while_loop(lambda edge, *_: edge < last, visit, loop)[1:]

    def _are_codewords(self, a_posteriori: tf.Tensor, done: tf.Tensor) -> tf.Tensor:
        """Which blocks satisfy every parity check; leaves once every block not done has failed."""
        z, abreast, row_start = self._schedule.z, tf.shape(done)[0], self._schedule.row_start
        starts, reads = tf.constant(row_start), tf.constant(self._parity_reads)

        def add(edge: Any, parity: Any) -> Any:
            block = tf.slice(a_posteriori, [reads[edge], 0], [z, abreast])
            return edge + 1, tf.bitwise.bitwise_xor(parity, block)

        def visit(row: Any, failed: Any) -> Any:
            loop = (starts[row], tf.zeros([z, abreast], tf.int16))
            parity = tf.while_loop(lambda edge, _: edge < starts[row + 1], add, loop)[1]
            return row + 1, tf.logical_or(failed, tf.reduce_any(parity < 0, axis=0))

        def goes_on(row: Any, failed: Any) -> Any:
            open_blocks = tf.logical_not(tf.reduce_all(tf.logical_or(failed, done)))
            return tf.logical_and(row < self._schedule.num_rows, open_blocks)

        return tf.logical_not(tf.while_loop(goes_on, visit, (0, tf.zeros([abreast], tf.bool)))[1])
