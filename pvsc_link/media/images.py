"""Folders of pictures, and single ones, as the frames of a video.

PNG, TIFF, BMP, WebP and JPEG are read: they state what their samples mean. Others (EXR and DPX hold
light or logarithms, HEIC and AVIF may be HDR) are refused by name. Samples of 16 bits are scaled to
8 by 255/65535 and rounded.
"""

import re
import struct
from collections.abc import Generator
from io import BytesIO
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from PIL import Image, ImageOps

from pvsc_link.media.colour import ColourOptions, colour_notes, shown_rgb
from pvsc_link.media.container import MAX_PIXELS, Notes
from pvsc_link.types import InputError

#: Kind of picture by suffix.
READABLE = {
    ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP", ".webp": "WebP",
    ".jpg": "JPEG", ".jpeg": "JPEG",
}  # fmt: skip
_NOT_READ = (
    ".exr .hdr .dpx .cin .heic .heif .avif .jxl .jp2 .j2k .gif .psd .dng .raw .arw .cr2 .nef .tga "
    ".ppm .pgm .pnm .svg"
).split()
_ALLOWED = "PNG, TIFF, BMP, WebP or JPEG"
_PLAIN_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX")
_ORIENTATION = 0x0112  # EXIF tag


def image_files(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of the numbers in their names; no hidden files.

    Raises ``InputError`` for pictures of several kinds, or of kinds that are not read.
    """
    files = [p for p in folder.iterdir() if not p.name.startswith(".")]
    kinds: dict[str, list[Path]] = {}
    for path in files:
        suffix = path.suffix.lower()
        if suffix in READABLE or suffix in _NOT_READ:
            kinds.setdefault(READABLE.get(suffix, suffix[1:].upper()), []).append(path)
    if len(kinds) > 1 or any(kind not in READABLE.values() for kind in kinds):
        raise InputError(
            f"pictures in folder {folder}",
            found=", ".join(f"{len(paths)} {kind}" for kind, paths in sorted(kinds.items())),
            allowed=f"one sequence of {_ALLOWED}",
            remedy="Keep one sequence per folder; convert other kinds to PNG.",
        )
    return sorted(next(iter(kinds.values()), []), key=_natural_order)


def iter_images(
    files: list[Path], colours: ColourOptions, notes: Notes
) -> Generator[np.ndarray, None, None]:
    """Pictures of one size, one after the other, uint8 RGB [height, width, 3]."""
    shape: tuple[int, ...] | None = None
    for path in files:
        image = read_image(path, colours, notes)
        shape = shape or image.shape
        if image.shape != shape:
            raise InputError(
                f"image {path}",
                found=f"{image.shape[1]}x{image.shape[0]}",
                allowed=f"the size of the first image, {shape[1]}x{shape[0]}",
                remedy="Keep one sequence per folder.",
            )
        yield image


def read_image(path: Path, colours: ColourOptions, notes: Notes) -> np.ndarray:
    """One picture, upright, as uint8 RGB [height, width, 3].

    Raises ``InputError`` for a file that is no picture or damaged, for several pictures in one
    file, for transparent pixels, and for samples whose white is not stated (32-bit, CMYK, ...).
    """
    kind = READABLE[path.suffix.lower()]
    try:
        with Image.open(path) as image:
            _check_image(path, image)
            for note in _image_notes(kind, image):
                notes.add(note)
            turn = image.getexif().get(_ORIENTATION, 1)
            if _is_deep(path, image):
                rgb = _read_deep(path, image, colours, notes)
            else:
                rgb = np.asarray(_opaque(path, image).convert("RGB"))
            if turn in range(2, 9):
                notes.add("turned or mirrored as the EXIF orientation says")
                rgb = _turned(rgb, turn)
            return rgb
    except InputError as error:
        if str(path) in error.what:
            raise
        raise InputError(
            f"{error.what} ({path})",
            found=error.found,
            allowed=error.allowed,
            remedy=error.remedy,
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, FFmpegError) as error:
        raise InputError(
            f"image {path}",
            found=str(error) or type(error).__name__,
            allowed=f"a readable {kind}",
            remedy="Export it again.",
        ) from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise _too_large(path, str(error)) from error


def _check_image(path: Path, image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(path, f"{image.width}x{image.height}")
    if getattr(image, "n_frames", 1) > 1:
        raise InputError(
            f"image {path}",
            found=f"{image.n_frames} pictures in one file",  # type: ignore[attr-defined]
            allowed="one picture per file",
            remedy="Export them as single PNG files.",
        )
    if image.mode not in (*_PLAIN_MODES, "I;16", "I;16B", "I;16L", "I;16N") and not (
        image.mode == "I" and image.format == "PNG"
    ):
        raise InputError(
            f"samples of image {path}",
            found=f"mode {image.mode} of Pillow",
            allowed="grey or RGB of 8 or 16 bits, or a palette",
            remedy="Convert it to PNG: how its samples map to black and white is not stated.",
        )


def _too_large(path: Path, found: str) -> InputError:
    return InputError(
        f"size of image {path}",
        found=found,
        allowed=f"at most {MAX_PIXELS} pixels",
        remedy="Scale it down.",
    )


def _image_notes(kind: str, image: Image.Image) -> list[str]:
    notes = []
    if kind == "JPEG":
        notes.append("JPEG pictures: the frames as decoded are the source, with JPEG's own losses")
    if image.info.get("icc_profile"):
        notes.append("ICC profile of the pictures not applied: samples are taken as sRGB")
    return notes


def _opaque(path: Path, image: Image.Image) -> Image.Image:
    """The image without its alpha; raises ``InputError`` if some of it can be seen through."""
    if image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if np.asarray(image)[..., 3].min() < 255:
            raise InputError(
                f"image {path}",
                found="transparent pixels",
                allowed="opaque pictures",
                remedy="Put the pictures onto a background first.",
            )
    return image


def _is_deep(path: Path, image: Image.Image) -> bool:
    """Whether the file holds more than 8 bits per sample, or PNG states a transfer (cICP)."""
    if image.format == "PNG":
        with path.open("rb") as file:
            head = file.read(4096)
        return head[24] == 16 or b"cICP" in head[33:]
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (8,))) > 8  # type: ignore[attr-defined]
    return image.mode.startswith("I")


def _read_deep(path: Path, image: Image.Image, colours: ColourOptions, notes: Notes) -> np.ndarray:
    """A picture of 16 bits, decoded by libav, because Pillow keeps only 8 bits of RGB."""
    if image.format == "TIFF" and image.mode.startswith("I;16"):
        if image.tag_v2.get(262, 1) != 1:  # type: ignore[attr-defined]
            raise ValueError("grey of 16 bits in which 0 is white")
        grey = np.asarray(image).astype(np.float64)
        return np.repeat(np.rint(grey / 257).astype(np.uint8)[..., None], 3, axis=-1)
    with av.open(BytesIO(path.read_bytes()), format=f"{str(image.format).lower()}_pipe") as file:
        frame = next(cast(InputContainer, file).decode(video=0))
        if (frame.width, frame.height) != image.size or frame.is_corrupt:
            raise ValueError("damaged picture")
        for note in colour_notes(frame, colours, upright=False):  # EXIF is read by Pillow
            notes.add(note)
        return shown_rgb(frame, colours, upright=False)


def _turned(rgb: np.ndarray, orientation: int) -> np.ndarray:
    image = Image.fromarray(rgb)
    exif = image.getexif()
    exif[_ORIENTATION] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort ``2.png`` before ``10.png``."""
    parts = re.split(r"(\d+)", path.stem)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
