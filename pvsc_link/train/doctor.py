"""``train doctor``: does a training file work on this machine, and what will the run cost?

Data are opened, and every phase is built and takes three steps at its longest GOP, one phase after
the other, from the weights that the run would start with. Nothing is kept. Under JAX the memory of
a step is XLA's own account of the compiled program, which is known before a step is run.

The networks are those of the preset in every case. What ``small`` saves is pixels, clips and
frames, a step per phase, and under TensorFlow the compilation, which costs more than the steps.
"""

import contextlib
import resource
import statistics
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from pvsc_link.options import check_name
from pvsc_link.train.config import PhaseConfig, TrainConfig, gop_at
from pvsc_link.train.data import ClipCache, open_cache
from pvsc_link.train.phase import Phase, enough_memory, too_little_memory
from pvsc_link.train.step import num_devices, uncompiled
from pvsc_link.train.weights import WeightStore, load_initial_weights
from pvsc_link.types import InputError

NUM_STEPS, NUM_SMALL_STEPS = 3, 2
_GIB = 2**30
_MADE_UP_CLIPS = 4
_HEADER = (
    "phase                 GOP  crop  batch   GiB/device   compile s    step s    data s    hours"
)


def examined(
    config: TrainConfig,
    *,
    small: bool = False,
    compile_only: bool = False,
    only: Collection[str] = (),
) -> Iterator[str]:
    """The report, line by line.

    Columns: memory of a step on each device, seconds of the first step less one (compilation), of a
    step, and of making its batch by one thread; hours of the whole phase, whose shorter GOPs are
    taken to cost in proportion to their frames.

    Parameters
    ----------
    small : two steps of each phase at the smallest crops, batches and GOPs, under TensorFlow not
        compiled; made-up pictures where the data are missing, random weights where a folder of
        initial_weights is
    compile_only : under JAX, memory alone, without running a step; made-up pictures where the data
        are missing
    only : names of the phases that are tried, from random weights where phases before them would
        train some; empty: all

    Raises ``InputError`` for data that are missing, for what a phase refuses, for a step whose loss
    is not finite, for a device whose memory is too small, and for a phase that the file lacks.
    """
    for name in only:
        check_name("phase", name, [entry.name for entry in config.phases])
    backend = keras.backend.backend()
    if compile_only and backend != "jax":
        raise InputError(
            "--compile-only", found=backend, allowed="jax", remedy="Set KERAS_BACKEND=jax."
        )
    yield f"{config.name}: preset {config.preset}, {backend}, {num_devices()} x {_device_name()}"
    with contextlib.ExitStack() as stack:
        if small:
            stack.enter_context(uncompiled())
            config = shrunk(config)
            place = config.initial_weights or ""
            if "/" in place and not Path(place).expanduser().exists():
                config = config.model_copy(update={"initial_weights": None})
                yield f"initial_weights: {place} is missing, so the weights are random"
        if (small or compile_only) and not _has_data(config):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            config = with_made_up_clips(config, Path(folder))
            yield "data: missing, so pictures are made up"
        cache = open_cache(config.data)
        yield f"data: {len(cache.clips)} clips, {len(cache.stills)} photographs"
        yield _HEADER
        store, first, hours = WeightStore(), 0, 0.0
        if config.initial_weights:
            load_initial_weights(config.initial_weights, config, store)
        for entry in config.phases:
            chosen = not only or entry.name in only
            if chosen or entry is _first_intra(config):
                with enough_memory(entry):
                    phase = Phase(config, entry, store, cache)
                    if chosen:
                        steps = 0 if compile_only else NUM_SMALL_STEPS if small else NUM_STEPS
                        row, more = _tried(phase, cache, first, steps, small)
                        yield row
                        hours += more
                phase.keep()
                del phase  # its weights and moments, before those of the next phase
            first += entry.steps
    if small:
        yield f"{'these' if only else 'all'} phases work; --small gives no estimate of the run"
    elif not compile_only and not only:
        yield f"the whole run: {first} steps, about {hours:.1f} hours without evaluations"


def ready_phases(
    config: TrainConfig, only: Collection[str] = ()
) -> Iterator[tuple[Phase, dict[str, Any]]]:
    """Phases of a run on made-up clips, each with a batch of its longest GOP.

    Parameters: ``only`` : names of the phases; empty: all. The I-frame models that they need start
    with random weights.
    Raises ``InputError`` for a phase that the file lacks, or that refuses.
    """
    for name in only:
        check_name("phase", name, [entry.name for entry in config.phases])
    with tempfile.TemporaryDirectory() as folder:
        config = with_made_up_clips(config, Path(folder))
        cache, store = open_cache(config.data), WeightStore()
        for entry in config.phases:
            chosen = not only or entry.name in only
            if chosen or entry is _first_intra(config):
                phase = Phase(config, entry, store, cache)
                phase.keep()
            if chosen:
                yield phase, phase.batches(cache, 0).make(_longest_step(entry))


def _first_intra(config: TrainConfig) -> PhaseConfig | None:
    """The phase that makes the I-frame model which P-frame phases need."""
    return next((entry for entry in config.phases if entry.model == "intra"), None)


def _tried(
    phase: Phase, cache: ClipCache, first: int, steps: int, small: bool
) -> tuple[str, float]:
    """The row of a phase, and its hours; with 0 ``steps`` the memory alone."""
    entry = phase.phase
    maker, start = phase.batches(cache, first), _longest_step(entry)
    numbers = [min(start + i, entry.steps - 1) for i in range(max(1, steps))]
    making, batches = zip(*(_timed(maker.make, number) for number in numbers), strict=True)
    gop = gop_at(entry, start)
    place = f"{entry.name:<20} {gop:4d} {entry.crop:5d} {entry.batch:6d}"
    needed = phase.memory(batches[0])
    if needed is not None:
        _check_room(entry, needed)
    memory = "          - " if needed is None else f"{needed / _GIB:12.2f}"
    if not steps:
        return f"{place} {memory}", 0.0
    times = []
    for batch in batches:
        seconds, terms = _timed(phase.step, batch)
        times.append(seconds)
        if not np.isfinite(terms["loss"]) or terms["skipped"] > 0:
            raise InputError(
                f"phase {entry.name}: loss of a step",
                found=float(terms["loss"]),
                allowed="a finite loss and gradient",
                remedy="Lower learning_rate, or take precision: float32.",
            )
    if needed is None:  # kilobytes under Linux; the largest so far, of the whole process
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        memory = f"{peak / _GIB:12.2f}"
    step, data = statistics.median(times[1:]), statistics.median(making)
    hours = sum(
        _frames(entry, g) / _frames(entry, gop) * step * entry.steps / len(entry.gop)
        for g in entry.gop
    )
    hours /= 3600
    if small:  # neither the step nor what precedes it is that of the run
        return f"{place} {memory} {'-':>11} {step:9.3f} {data:9.3f} {'-':>8}", 0.0
    costs = f"{times[0] - step:11.1f} {step:9.3f} {data:9.3f} {hours:8.1f}"
    return f"{place} {memory} {costs}", hours


def _frames(entry: PhaseConfig, gop: int) -> float:
    """Frames that a step codes, each of the lead-in as a third: it has no backward pass."""
    return gop + float(np.mean(entry.lead_in)) / 3


def _longest_step(entry: PhaseConfig) -> int:
    """The first step of the longest GOP."""
    return max(range(entry.steps), key=lambda step: gop_at(entry, step))


def _timed(function: Any, argument: Any) -> tuple[float, Any]:
    start = time.monotonic()
    result = function(argument)
    return time.monotonic() - start, result


def shrunk(config: TrainConfig) -> TrainConfig:
    """The same phases at the smallest shapes: crops, batches, GOPs, steps and discriminator."""
    from pvsc_link.train.family import configs_of

    models = configs_of(config.preset, len(config.omega), tuple(config.intra_eta_factors or ()))
    phases = []
    for entry in config.phases:
        crop = models[entry.model].padding_multiple
        loss = entry.loss.per_crop and min(entry.loss.per_crop, crop)
        phases.append(
            entry.model_copy(
                update={
                    "crop": crop,
                    "batch": entry.accumulate * num_devices(),
                    "gop": [min(3, max(entry.gop))],
                    "lead_in": [min(1, max(entry.lead_in))],
                    "loss": entry.loss.model_copy(update={"per_crop": loss}),
                }
            )
        )
    return config.model_copy(update={"phases": phases, "discriminator_filters": 8})


def _has_data(config: TrainConfig) -> bool:
    """Whether every source exists; of shards/*.tar the folder is looked for."""
    sources = map(Path, (*config.data.clips, *config.data.stills))
    return all((p.parent if "*" in p.name else p).expanduser().exists() for p in sources)


def with_made_up_clips(config: TrainConfig, folder: Path) -> TrainConfig:
    """The same run on clips of a smooth texture that moves, which are written to ``folder``.

    They are folders of numbered PNG files, as long and as large as the phases ask for.
    """
    longest = max(max(entry.gop) + max(entry.lead_in) for entry in config.phases)
    num_frames = max(2, longest)  # a folder with one picture is no clip
    size = max(entry.crop for entry in config.phases)
    for i in range(_MADE_UP_CLIPS):
        rng, side = np.random.default_rng(i), size + 2 * num_frames
        coarse = Image.fromarray(rng.integers(30, 226, (12, 12, 3), np.uint8))
        texture = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
        clip = folder / f"clip_{i}"
        clip.mkdir()
        for t in range(num_frames):
            shown = texture[t : t + size, 2 * t : 2 * t + size]
            Image.fromarray(np.ascontiguousarray(shown)).save(clip / f"im{t + 1}.png")
    sources = {"clips": [str(folder)], "clip_weights": [], "stills": []}
    data = config.data.model_copy(update={**sources, "still_fraction": 0.0, "cache": False})
    return config.model_copy(update={"data": data})


def _device_name() -> str:
    if keras.backend.backend() != "jax":
        return "CPU or GPU of TensorFlow"
    import jax

    device = jax.devices()[0]
    room = _room()
    return str(device.device_kind) + ("" if room is None else f", {room / _GIB:.0f} GiB")


def _room() -> int | None:
    """Bytes of memory of a device; None where unknown."""
    import jax

    statistics_of = jax.devices()[0].memory_stats()
    return (statistics_of or {}).get("bytes_limit")


def _check_room(entry: PhaseConfig, needed: int) -> None:
    room = _room()
    if room is not None and needed > room:
        raise too_little_memory(entry, f"{needed / _GIB:.1f} GiB", f"{room / _GIB:.1f} GiB")
