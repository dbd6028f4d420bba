"""The BLER cache: runs add up, nothing untrusted counts, two processes may write at once."""

import json
import multiprocessing
import warnings

import pytest

from pvsc_link.link.bler import BlerCache, Run, UntrustedRecordWarning
from pvsc_link.storage import cache_directory

CONDITION = {"version": 1, "mcs": 5, "channel": "rayleigh", "snr_db": 4.0, "csi_nmse_db": None}


@pytest.fixture
def cache(tmp_path):
    return BlerCache(tmp_path / "here")


def files_of(cache):
    return sorted(cache.root.rglob("*.json"))


def test_what_was_added_is_found_again_by_another_object(cache):
    cache.add(CONDITION, Run(7, 3, 100))
    assert BlerCache(cache.root.parent).runs(dict(reversed(CONDITION.items()))) == [Run(7, 3, 100)]


def test_every_part_of_the_condition_separates(cache):
    cache.add(CONDITION, Run(7, 3, 100))
    for name in CONDITION:
        assert cache.runs({**CONDITION, name: "other"}) == []


def test_the_folder_is_the_one_that_the_environment_names(monkeypatch, tmp_path):
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path))
    assert cache_directory() == tmp_path
    BlerCache().add(CONDITION, Run(1, 0, 10))
    assert len(list(tmp_path.rglob("*.json"))) == 1


def test_merging_adds_independent_runs_and_counts_a_common_run_once(cache, tmp_path):
    other = BlerCache(tmp_path / "there")
    cache.add(CONDITION, Run(1, 5, 100))
    for run in (Run(1, 5, 100), Run(2, 7, 100)):
        other.add(CONDITION, run)
    other.add({**CONDITION, "mcs": 6}, Run(1, 0, 50))
    assert cache.merge(other) == 2
    assert cache.merge(other) == 0
    assert set(cache.runs(CONDITION)) == {Run(1, 5, 100), Run(2, 7, 100)}
    assert sorted(condition["mcs"] for condition, _ in cache) == [5, 6]


def test_of_two_runs_with_one_seed_the_longer_contains_the_other(cache):
    for run in (Run(1, 5, 100), Run(1, 9, 200), Run(1, 2, 50)):
        cache.add(CONDITION, run)
    assert cache.runs(CONDITION) == [Run(1, 9, 200)]


def edit(**changes):
    def damage(text):
        return json.dumps({**json.loads(text), **changes})

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "\x00\xff not json",
        lambda text: "[1, 2, 3]",
        lambda text: '{"errors": 0, "blocks": 1000000}',
        edit(errors=0),
        edit(blocks=10**9),
        edit(seed=8),
        edit(condition={**CONDITION, "snr_db": 5.0}),
        edit(format="another tool"),
    ],
)
def test_a_damaged_or_foreign_file_is_never_trusted_and_is_rebuilt(cache, damage):
    cache.add(CONDITION, Run(7, 3, 100))
    (path,) = files_of(cache)
    path.write_text(damage(path.read_text()), encoding="latin-1")
    with pytest.warns(UntrustedRecordWarning, match="measuring again"):
        assert cache.runs(CONDITION) == []
    with pytest.warns(UntrustedRecordWarning):
        cache.add(CONDITION, Run(7, 3, 100))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.runs(CONDITION) == [Run(7, 3, 100)]


def test_a_valid_record_of_another_condition_is_not_believed_in_this_folder(cache):
    cache.add(CONDITION, Run(7, 3, 100))
    cache.add({**CONDITION, "mcs": 6}, Run(7, 90, 100))
    mine, theirs = (cache._path({**CONDITION, "mcs": mcs}, 7) for mcs in (5, 6))
    mine.write_text(theirs.read_text())
    with pytest.warns(UntrustedRecordWarning):
        assert cache.runs(CONDITION) == []


def test_a_record_that_was_being_written_when_its_process_died_is_not_seen(cache):
    cache.add(CONDITION, Run(7, 3, 100))
    (path,) = files_of(cache)
    (path.parent / "tmpabc.part").write_text('{"half')
    assert cache.runs(CONDITION) == [Run(7, 3, 100)]


def write_many(root, first_seed):
    cache = BlerCache(root)
    for seed in range(60):
        cache.add(CONDITION, Run(seed, seed % 5, 100))  # both processes write these
        cache.add(CONDITION, Run(first_seed + seed, 1, 10))


@pytest.mark.ci
def test_two_processes_filling_one_cache_lose_and_spoil_nothing(cache):
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=write_many, args=(cache.root.parent, first))
        for first in (1000, 2000)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(cache.runs(CONDITION)) == 180
