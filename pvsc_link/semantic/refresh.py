"""Which frames of a GOP are sent finer than the others. Not in the paper.

A P frame that is sent at little cost refreshes little of the picture, and in a long GOP what is
left of older channel noise and coarse quantisation adds up. Real codecs spend more on every fourth
or eighth frame for the same reason (VTM's low-delay configuration, for instance).
"""

from pvsc_link.types import InputError

#: By how many quality presets a refreshing P frame is finer.
REFRESH_PRESETS = 2


def preset_at(omega_index: int, place: int, refresh_every: int, num_presets: int) -> int:
    """Quality preset of the frame at ``place`` of its GOP (0: the I frame).

    Parameters: ``omega_index`` : of all other frames; ``refresh_every`` : which P frames refresh,
    0: none; ``num_presets`` : of the model, the finest of which is the limit.
    """
    if refresh_every == 0 or place == 0 or place % refresh_every:
        return omega_index
    return min(omega_index + REFRESH_PRESETS, num_presets - 1)


def check_refresh(refresh_every: int) -> None:
    """Raises ``InputError`` for a negative number."""
    if refresh_every < 0:
        raise InputError(
            "refresh_every",
            found=refresh_every,
            allowed="0 (none), or n: every n-th P frame refreshes",
            remedy="2 suits GOPs of 8 and more.",
        )
