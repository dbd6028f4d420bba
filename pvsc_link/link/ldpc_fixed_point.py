"""Fixed-point numbers of layered offset min-sum: the same in every implementation.

An LLR of one is 16 steps. Channel LLRs are clipped to 125 and messages to 62.5, so that the sum
of a channel LLR and the 30 messages of the widest column fits in int16 without saturation
(saturated sums minus an old message are what gives narrower decoders an error floor).
"""

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
