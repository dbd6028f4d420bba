"""DVST trains by the same phases, batches and objective as PVSC."""

import numpy as np
import pytest

from pvsc_link.train.data import open_cache
from pvsc_link.train.phase import Phase
from pvsc_link.train.weights import WeightStore
from pvsc_link.types import InputError

PHASE = {"model": "inter", "gop": [2], "quantiser": "ste"}


@pytest.mark.slow
def test_both_stages_of_dvst_move_its_streams(micro_dvst, micro_run, eager):
    joint = {"stage": 3, "channel": {"snr_db": [10.0]}}
    config = micro_run({"model": "intra"}, PHASE, PHASE | joint, preset=micro_dvst)
    cache, store = open_cache(config.data), WeightStore()
    for entry in config.phases:
        phase = Phase(config, entry, store, cache)
        before = {v.path: np.array(v) for v in phase.model.trainable_variables}
        terms = phase.step(phase.batches(cache, 0).make(0))
        phase.keep()
        assert np.isfinite(terms["loss"])
        assert terms["rate"] > 0
        after = {v.path: np.array(v) for v in phase.model.trainable_variables}
        moved = [not np.array_equal(before[path], after[path]) for path in before]
        assert np.mean(moved) > 0.3


def test_starts_that_know_only_pvsc_are_refused(micro_dvst, micro_run):
    config = micro_run(PHASE | {"intra_start": True}, preset=micro_dvst)
    with pytest.raises(InputError, match="intra_start"):
        Phase(config, config.phases[0], WeightStore(), open_cache(config.data))
