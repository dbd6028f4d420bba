"""3x3 convolutions of large feature maps on a CPU, by Winograd's minimal filtering.

F(4x4, 3x3) of Lavin and Gray ("Fast Algorithms for Convolutional Neural Networks", CVPR 2016)
computes a tile of 4x4 outputs from 6x6 inputs with 36 multiplications per channel pair in place of
144. The interpolation points are 0, 1, -1, 2, -2 and infinity, so the transforms of inputs and
outputs need only additions and small constants; they are compiled by numba. Between them stand 36
matrix products, which TensorFlow's library computes. Results differ from a direct convolution by
float32 rounding, at most some 1e-4 of an activation of VGG16.
"""

import threading
from typing import Any

import numpy as np
import tensorflow as tf
from numba import njit

#: Matrix that transforms a kernel: 3 taps to the 6 points.
_KERNEL = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
#: Numbers of transformed inputs that are held at once: 38 MB.
_WORKSPACE = 36 * 2**18


class WinogradConvolution:
    """ReLU(3x3 convolution + bias) with zero padding, for one picture.

    Parameters
        kernel : [3, 3, c_in, c_out], float32
        bias : [c_out], float32
    Input
        x : [height, width, c_in], float32, C-contiguous
    Output
        [height, width, c_out], float32, whose memory TensorFlow may share (:func:`aligned`)

    Threads may share an object: each has a workspace of its own.

    >>> convolve = WinogradConvolution(np.ones((3, 3, 128, 256), np.float32), np.zeros(256, "f"))
    >>> convolve(np.ones((20, 30, 128), np.float32)).shape
    (20, 30, 256)
    """

    def __init__(self, kernel: np.ndarray, bias: np.ndarray):
        points = np.einsum("ai,bj,ijco->abco", _KERNEL, _KERNEL, kernel.astype(np.float64))
        self._kernel = tf.constant(points.reshape(36, *kernel.shape[2:]), tf.float32)
        self._bias = np.ascontiguousarray(bias, np.float32)
        self._of_thread = threading.local()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        height, width, channels = x.shape
        across = -(-width // 4)
        rows = max(1, _WORKSPACE // (36 * across * channels))  # of tiles, at once
        y = aligned((height, width, len(self._bias)))
        for top in range(0, height, 4 * rows):
            down = min(rows, -(-(height - top) // 4))
            inputs, tensor = self._workspace(down * across, channels)
            _transform_inputs(x, inputs, top, down, across)
            products = np.asarray(memoryview(tf.matmul(tensor, self._kernel)))  # no copy
            _transform_products(products, self._bias, y, top, down, across)
        return y

    def _workspace(self, num_tiles: int, channels: int) -> tuple[np.ndarray, tf.Tensor]:
        inputs: dict[int, tuple[np.ndarray, tf.Tensor]]
        inputs = self._of_thread.__dict__.setdefault("inputs", {})
        if num_tiles not in inputs:
            if len(inputs) >= 2:  # a block of full height, and the last one of a picture
                inputs.clear()
            array = aligned((36, num_tiles, channels))
            inputs[num_tiles] = array, shared(array)
        return inputs[num_tiles]


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An uninitialised float32 array whose memory TensorFlow can use (64-byte alignment)."""
    num_bytes = 4 * int(np.prod(shape))
    memory = np.empty(num_bytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + num_bytes].view(np.float32).reshape(shape)


def shared(array: np.ndarray) -> Any:
    """A tensor over the memory of an array of :func:`aligned`, which it keeps alive."""
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


@njit(nogil=True, cache=True)
def _transform_inputs(x, inputs, top, down, across):
    """Transform the 6x6 tiles of ``down`` x ``across`` tiles from row ``top`` on.

    Parameters
        x : [height, width, c_in], read with zeros around it
        inputs : [36, down * across, c_in], written
    """
    height, width, channels = x.shape
    tile = np.zeros((6, 6, channels), np.float32)
    half = np.empty((6, 6, channels), np.float32)
    two, four, five = np.float32(2), np.float32(4), np.float32(5)
    for t in range(down * across):
        row, column = top + 4 * (t // across) - 1, 4 * (t % across) - 1
        for i in range(6):
            for j in range(6):
                if 0 <= row + i < height and 0 <= column + j < width:
                    tile[i, j] = x[row + i, column + j]
                else:
                    tile[i, j] = np.float32(0)
        for j in range(6):
            for c in range(channels):
                d0, d1, d2 = tile[0, j, c], tile[1, j, c], tile[2, j, c]
                d3, d4, d5 = tile[3, j, c], tile[4, j, c], tile[5, j, c]
                half[0, j, c] = four * d0 - five * d2 + d4
                half[1, j, c] = d3 + d4 - four * (d1 + d2)
                half[2, j, c] = four * (d1 - d2) - d3 + d4
                half[3, j, c] = two * (d3 - d1) + d4 - d2
                half[4, j, c] = two * (d1 - d3) + d4 - d2
                half[5, j, c] = four * d1 - five * d3 + d5
        for i in range(6):
            for c in range(channels):
                d0, d1, d2 = half[i, 0, c], half[i, 1, c], half[i, 2, c]
                d3, d4, d5 = half[i, 3, c], half[i, 4, c], half[i, 5, c]
                inputs[6 * i, t, c] = four * d0 - five * d2 + d4
                inputs[6 * i + 1, t, c] = d3 + d4 - four * (d1 + d2)
                inputs[6 * i + 2, t, c] = four * (d1 - d2) - d3 + d4
                inputs[6 * i + 3, t, c] = two * (d3 - d1) + d4 - d2
                inputs[6 * i + 4, t, c] = two * (d1 - d3) + d4 - d2
                inputs[6 * i + 5, t, c] = four * d1 - five * d3 + d5


@njit(nogil=True, cache=True)
def _transform_products(products, bias, y, top, down, across):
    """Write ReLU(4x4 outputs + bias) of ``down`` x ``across`` tiles from row ``top`` on.

    Parameters
        products : [36, down * across, c_out]
        y : [height, width, c_out], written
    """
    height, width, channels = y.shape
    half = np.empty((6, 4, channels), np.float32)
    tile = np.empty((4, channels), np.float32)
    zero, two = np.float32(0), np.float32(2)
    four, eight = np.float32(4), np.float32(8)
    for t in range(down * across):
        row, column = top + 4 * (t // across), 4 * (t % across)
        for i in range(6):
            for c in range(channels):
                m0, m5 = products[6 * i, t, c], products[6 * i + 5, t, c]
                m1, m2 = products[6 * i + 1, t, c], products[6 * i + 2, t, c]
                m3, m4 = products[6 * i + 3, t, c], products[6 * i + 4, t, c]
                half[i, 0, c] = m0 + (m1 + m2) + (m3 + m4)
                half[i, 1, c] = (m1 - m2) + two * (m3 - m4)
                half[i, 2, c] = (m1 + m2) + four * (m3 + m4)
                half[i, 3, c] = (m1 - m2) + eight * (m3 - m4) + m5
        for j in range(min(4, width - column)):
            for c in range(channels):
                m0, m5, b = half[0, j, c], half[5, j, c], bias[c]
                m1, m2, m3, m4 = half[1, j, c], half[2, j, c], half[3, j, c], half[4, j, c]
                y0 = m0 + (m1 + m2) + (m3 + m4) + b
                y1 = (m1 - m2) + two * (m3 - m4) + b
                y2 = (m1 + m2) + four * (m3 + m4) + b
                y3 = (m1 - m2) + eight * (m3 - m4) + m5 + b
                tile[0, c] = y0 if y0 > zero else zero
                tile[1, c] = y1 if y1 > zero else zero
                tile[2, c] = y2 if y2 > zero else zero
                tile[3, c] = y3 if y3 > zero else zero
            for i in range(min(4, height - row)):
                y[row + i, column + j] = tile[i]
