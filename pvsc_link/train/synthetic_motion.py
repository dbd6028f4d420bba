"""Clips out of photographs: an affine camera path, and a second picture that occludes the first."""

import numpy as np


def animate(
    still: np.ndarray,
    cover: np.ndarray,
    num_frames: int,
    size: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """A clip of a moving photograph with a moving object in front of it.

    Speeds of up to 6 pixels, 2 degrees and 2 % zoom per frame, slowly changing: what P frames
    have to predict at 25 to 60 frames per second. In half of the clips an ellipse cut out of
    ``cover`` moves on its own path, so that background is hidden and comes back.

    Input: ``still``, ``cover`` : [height, width, 3], uint8.
    Output: [num_frames, size, size, 3], uint8.
    """
    frames = [_sample(still, grid) for grid in _path(still.shape, num_frames, size, rng)]
    if rng.random() < 0.5:
        layer = [_sample(cover, grid) for grid in _path(cover.shape, num_frames, size, rng)]
        masks = _ellipses(num_frames, size, rng)
        frames = [
            m * top + (1 - m) * below for m, top, below in zip(masks, layer, frames, strict=True)
        ]
    return np.rint(np.stack(frames)).astype(np.uint8)


def _path(
    shape: tuple[int, ...], num_frames: int, size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Source coordinates [2, size, size] (row, column) of every frame."""
    height, width = shape[:2]
    pixel = np.arange(size) - (size - 1) / 2
    local = np.stack(np.meshgrid(pixel, pixel, indexing="ij"))
    centre = np.array([rng.uniform(0.3, 0.7) * height, rng.uniform(0.3, 0.7) * width])
    speed = rng.normal(0, 1, 2) * rng.choice([0.3, 1.0, 3.0])
    angle, turn = rng.uniform(-0.3, 0.3), rng.normal(0, 0.5) * np.pi / 180
    zoom, growth = rng.uniform(0.7, 1.3), 1 + np.clip(rng.normal(0, 0.007), -0.02, 0.02)
    grids = []
    for _ in range(num_frames):
        cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
        turned = np.stack([cos * local[0] - sin * local[1], sin * local[0] + cos * local[1]])
        grids.append(turned + centre[:, None, None])
        centre = centre + np.clip(speed, -6, 6)
        speed = speed + rng.normal(0, 0.2, 2)
        angle, zoom = angle + turn, zoom * growth
    return grids


def _sample(image: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Bilinear interpolation of ``image`` at ``grid``, mirrored at the borders: float32."""
    height, width = image.shape[:2]
    rows, columns = _mirror(grid[0], height), _mirror(grid[1], width)
    top = np.minimum(rows.astype(np.int32), height - 2)
    left = np.minimum(columns.astype(np.int32), width - 2)
    a = (rows - top).astype(np.float32)[..., None]
    b = (columns - left).astype(np.float32)[..., None]
    upper = image[top, left] * (1 - b) + image[top, left + 1] * b
    lower = image[top + 1, left] * (1 - b) + image[top + 1, left + 1] * b
    return upper * (1 - a) + lower * a


def _mirror(position: np.ndarray, length: int) -> np.ndarray:
    last = length - 1
    folded = np.mod(position, 2 * last)
    return np.where(folded > last, 2 * last - folded, folded)


def _ellipses(num_frames: int, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Masks [size, size, 1] in [0, 1] of a moving ellipse with an edge about 1 pixel soft."""
    pixel = np.arange(size, dtype=np.float32)
    centre = rng.uniform(0.1, 0.9, 2) * size
    speed = rng.normal(0, 2.5, 2)
    radii = rng.uniform(0.1, 0.35, 2) * size
    masks = []
    for _ in range(num_frames):
        rows = ((pixel - centre[0]) / radii[0])[:, None]
        columns = ((pixel - centre[1]) / radii[1])[None, :]
        inside = (1 - np.hypot(rows, columns)) * radii.min() + 0.5
        masks.append(np.clip(inside, 0, 1).astype(np.float32)[..., None])
        centre = centre + speed
    return masks
