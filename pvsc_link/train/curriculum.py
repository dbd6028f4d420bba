"""What changes with the step inside a phase: GOP length, learning rate, ramped loss terms."""

import math

from pvsc_link.train.config import PhaseConfig


def gop_at(phase: PhaseConfig, step: int) -> int:
    """GOP length of a step: the curriculum divides the phase into equal parts (section III-D)."""
    return phase.gop[min(len(phase.gop) - 1, step * len(phase.gop) // phase.steps)]


def learning_rate_at(phase: PhaseConfig, step: int) -> float:
    """Linear warm-up, then constant, or a cosine down to ``final_learning_rate``."""
    if step < phase.warm_up:
        return phase.learning_rate * (step + 1) / phase.warm_up
    if phase.final_learning_rate is None:
        return phase.learning_rate
    progress = (step - phase.warm_up) / max(1, phase.steps - phase.warm_up)
    swing = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    low = phase.final_learning_rate
    return low + (phase.learning_rate - low) * swing


def ramp(full: float, steps: int, step: int) -> float:
    """A loss weight that rises linearly from 0 over ``steps`` steps: a sudden one breaks runs."""
    return full if step >= steps else full * (step + 1) / (steps + 1)
