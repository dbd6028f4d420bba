"""Pairs of small pictures and clips out of arithmetic and a seed, for values that need no file.

Only numpy is needed: ``official_values.py`` runs where the official implementations are, without
this package.
"""

import hashlib

import numpy as np


def _gradient(height, width):
    """Red grows to the right, green downwards, blue falls along the diagonal."""
    rows, columns = np.indices((height, width))
    red, green = 255 * columns // (width - 1), 255 * rows // (height - 1)
    return np.stack([red, green, 255 - (red + green) // 2], axis=-1)


def _checkerboard(height, width, side, shift=0):
    """Orange and blue squares, moved to the right by ``shift`` pixels."""
    rows, columns = np.indices((height, width))
    odd = (rows // side + (columns - shift) // side) % 2 == 1
    return np.where(odd[..., None], (230, 120, 20), (30, 60, 200))


def _noise(height, width, seed):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3))


def _patches(height, width, seed, side=8):
    coarse = _noise(-(-height // side), -(-width // side), seed)
    return np.kron(coarse, np.ones((side, side, 1), int))[:height, :width]


def _box_blurred(picture):
    """Mean of 3x3 pixels, the borders wrapped around, rounded down."""
    moves = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return sum(np.roll(picture, move, axis=(0, 1)) for move in moves) // 9


def made_up_pairs():
    """(picture, spoilt picture) by name, each uint8 [height, width, 3]."""
    gradient, patches = _gradient(64, 80), _patches(63, 77, seed=2)
    grain = np.random.default_rng(1).integers(-24, 25, gradient.shape)
    noise = _noise(48, 64, seed=3)
    pairs = {
        "gradient_grain": (gradient, gradient + grain),
        "gradient_colours": (gradient, gradient[..., [2, 0, 1]]),
        "checkerboard_shift": (_checkerboard(64, 64, 8), _checkerboard(64, 64, 8, shift=3)),
        "noise_blur": (noise, _box_blurred(noise)),
        "patches_four_levels": (patches, patches // 64 * 85),  # odd sizes
    }
    return {
        name: tuple(np.clip(picture, 0, 255).astype(np.uint8) for picture in pair)
        for name, pair in pairs.items()
    }


def _moving(num_frames, height, width):
    """Rings and a gradient that move by two pixels per frame, over a resting checkerboard."""
    rows, columns = np.indices((height, width))
    frames = []
    for t in range(num_frames):
        x, y = columns - 2 * t, rows - t
        rings = ((x - 90) ** 2 + (y - 80) ** 2) // 64 % 256
        still = 60 * ((rows // 16 + columns // 16) % 2)
        frames.append(np.stack([rings // 2 + still, (x + y) % 256, 255 - rings // 3], axis=-1))
    return np.stack(frames)


def made_up_clips():
    """(clip, spoilt clip) by name, each uint8 [4, height, width, 3], at least 161 on both sides."""
    clip = _moving(4, 176, 192)
    grain = np.random.default_rng(4).integers(-20, 21, clip.shape)
    odd = np.stack([_patches(163, 181, seed=5 + t // 2, side=12) for t in range(4)])
    clips = {
        "moving_grain": (clip, clip + grain),
        "moving_blur": (clip, np.stack([_box_blurred(frame) for frame in clip])),
        "moving_frozen": (clip, clip[[0, 0, 2, 2]]),
        "patches_dark": (odd, odd * 7 // 8),  # odd sizes
    }
    return {
        name: tuple(np.clip(frames, 0, 255).astype(np.uint8) for frames in pair)
        for name, pair in clips.items()
    }


def digest(pair):
    """Of the pixels of both: says whether another numpy draws other pictures."""
    return hashlib.sha256(b"".join(picture.tobytes() for picture in pair)).hexdigest()[:16]
