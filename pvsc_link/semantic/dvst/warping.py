"""Motion compensation of pictures and feature maps: bilinear warp, and flow between scales.

A flow says, for every place of the new frame, where it lies in the old one: new (i, j) is old
(i + flow[i, j, 0], j + flow[i, j, 1]), in pixels of the map that is warped.
"""

from typing import Any

from keras import ops


def warp(features: Any, flow: Any) -> Any:
    """The map at displaced places, bilinear between four neighbours; the border goes on outside.

    Places and weights are float32 whatever the features are: bfloat16 has no 0.1 pixel at 64.

    Input: ``features`` : [batch, H, W, c], float; ``flow`` : [batch, H, W, 2], rows and columns,
    in pixels. Output: [batch, H, W, c], float32. Differentiable in both.
    """
    features = ops.cast(features, "float32")
    height, width, channels = features.shape[1:]
    flow = ops.cast(flow, "float32")
    rows = _split(ops.arange(height, dtype="float32")[:, None] + flow[..., 0], height)
    columns = _split(ops.arange(width, dtype="float32") + flow[..., 1], width)
    flat = ops.reshape(features, (-1, channels))
    first = height * width * ops.arange(ops.shape(features)[0], dtype="int32")[:, None, None]
    total = 0.0
    for row, row_weight in rows:
        for column, column_weight in columns:
            corner = ops.take(flat, first + row * width + column, axis=0)
            total = total + corner * (row_weight * column_weight)[..., None]
    return total


def _split(places: Any, size: int) -> list[tuple[Any, Any]]:
    """The two whole places around each of ``places``, and the weight of each."""
    places = ops.clip(places, 0.0, size - 1.0)
    low = ops.floor(places)
    index, share = ops.cast(low, "int32"), places - low
    return [(index, 1.0 - share), (ops.minimum(index + 1, size - 1), share)]


def halve(maps: Any) -> Any:
    """Mean of every 2x2 block: [batch, H, W, c] to [batch, H / 2, W / 2, c]."""
    return ops.average_pool(maps, 2, 2, padding="valid", data_format="channels_last")


def double_flow(flow: Any) -> Any:
    """The same motion on a map of twice the size: [batch, 2 H, 2 W, 2], in its pixels."""
    height, width = flow.shape[1:3]
    size = (2 * height, 2 * width)
    return 2.0 * ops.image.resize(flow, size, "bilinear", data_format="channels_last")
