"""Channel bandwidth ratio (CBR): complex channel uses per sample of the video (eq. 5)."""

from collections.abc import Mapping

from pvsc_link.types import InputError


def channel_bandwidth_ratio(
    num_channel_uses: Mapping[str, int], num_frames: int, height: int, width: int
) -> dict[str, float]:
    """CBR = channel uses / (T * H * W * 3), eq. 5, in total and by part.

    Input: ``num_channel_uses`` : complex channel uses of the whole clip by part ("source",
    "side", ...); ``num_frames``, ``height``, ``width`` of the unpadded video.
    Output: ``{"cbr": total, "cbr_<part>": ...}``; the parts add up to the total.
    Raises ``InputError`` for a negative or fractional count and for a size below 1.
    """
    for name, size in (("num_frames", num_frames), ("height", height), ("width", width)):
        _require_whole(name, size, minimum=1, remedy="Give the size of the unpadded video.")
    for part, count in num_channel_uses.items():
        _require_whole(
            f"channel uses of {part!r}", count, minimum=0, remedy="Count complex channel uses."
        )
    if "" in num_channel_uses:
        raise InputError(
            "a part of the channel uses has no name",
            found="",
            allowed='a name such as "source" or "side"',
            remedy="Name it: it becomes the column cbr_<name>.",
        )
    num_samples = num_frames * height * width * 3
    parts = {f"cbr_{part}": count / num_samples for part, count in num_channel_uses.items()}
    return {"cbr": sum(num_channel_uses.values()) / num_samples, **parts}


def _require_whole(name: str, value: float, *, minimum: int, remedy: str) -> None:
    if not (value >= minimum and value == int(value)):
        raise InputError(
            f"{name} is not a count",
            found=value,
            allowed=f"a whole number of at least {minimum}",
            remedy=remedy,
        )
