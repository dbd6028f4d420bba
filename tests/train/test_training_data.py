"""Training clips: every layout people have, decoded once, cut as a function of the step."""

import json
import shutil
import tarfile
import time

import numpy as np
import pytest
from PIL import Image

from pvsc_link.storage import cache_directory
from pvsc_link.train.batches import BatchShape, _halved, draw_frames, made_ahead, step_generator
from pvsc_link.train.config import DataConfig
from pvsc_link.train.data import ClipSource, animate, find_clips, iter_stills, open_cache, window
from pvsc_link.types import InputError


def write_png_clip(folder, num_frames, size=64, seed=0):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(1, num_frames + 1):
        image = rng.integers(0, 256, (size, size, 3), np.uint8)
        Image.fromarray(image).save(folder / f"im{i}.png")


@pytest.fixture
def material(tmp_path, monkeypatch):
    """Three png clips and two stills; the cache in its own folder."""
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / "cache"))
    for i, frames in enumerate((7, 4, 2)):
        write_png_clip(tmp_path / "clips" / f"clip_{i}", frames, 160, i)
    stills = tmp_path / "stills"
    stills.mkdir()
    for i in range(2):
        smooth = np.add.outer(np.arange(200), np.arange(220))[..., None] % 256
        Image.fromarray(np.repeat(smooth, 3, 2).astype(np.uint8)).save(stills / f"{i}.jpg")
    return DataConfig(clips=[str(tmp_path / "clips")], stills=[str(stills)])


def test_vimeo_septuplets_are_limited_to_the_training_list(tmp_path):
    for name in ("00001/0001", "00001/0002"):
        write_png_clip(tmp_path / "sequences" / name, 7)
    (tmp_path / "sep_trainlist.txt").write_text("00001/0002\n")
    found = find_clips([str(tmp_path)])
    assert [clip.name for clip in found] == ["00001/0002"]
    assert found[0].decode(32).shape == (7, 64, 64, 3)


def test_vimeo_is_read_from_the_folder_of_its_list_alone(tmp_path):
    vimeo = tmp_path / "all" / "vimeo"
    write_png_clip(vimeo / "sequences" / "00001" / "0001", 2)
    (vimeo / "sep_trainlist.txt").write_text("00001/0001\n")
    for place in (tmp_path, vimeo / "sequences", vimeo / "sequences" / "00001"):
        with pytest.raises(InputError, match="test clips are left out") as caught:
            find_clips([str(place)])
        assert str(vimeo) in caught.value.remedy


def test_a_clip_of_vimeos_list_that_is_missing_is_named(tmp_path):
    (tmp_path / "sep_trainlist.txt").write_text("00001/0002\n")
    with pytest.raises(InputError, match="sequences/00001/0002 is missing"):
        find_clips([str(tmp_path)])


def test_a_cache_without_room_is_refused_before_anything_is_decoded(material, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"room in .* PVSC_LINK_CACHE"):
        open_cache(material)
    assert not list(cache_directory().glob("clips_*/"))


def test_photographs_that_are_missing_are_named(material, tmp_path):
    with pytest.raises(InputError, match="elsewhere, which is missing"):
        open_cache(material.model_copy(update={"stills": [str(tmp_path / "elsewhere")]}))


def test_a_raw_file_takes_its_format_from_its_name(tmp_path):
    path = tmp_path / "BoatVidevo_32x16_25fps_10bit_420.yuv"
    path.write_bytes(b"\x00\x02" * (32 * 16 * 3 // 2) * 3)  # 3 grey frames, code 512 of 1023
    frames = find_clips([str(tmp_path)])[0].decode(2)
    assert frames.shape == (2, 16, 32, 3)
    assert np.ptp(frames) == 0
    assert 120 < frames.mean() < 135


def test_a_raw_file_without_a_size_in_its_name_is_refused(tmp_path):
    path = tmp_path / "mystery.yuv"
    path.write_bytes(b"\x80" * 100)
    with pytest.raises(InputError, match="size"):
        ClipSource("mystery", path).decode(1)


@pytest.fixture
def shard(tmp_path):
    """A tar file with two clips of images, a video file and a lone image."""
    write_png_clip(tmp_path / "raw" / "sequences" / "0001", 12)
    write_png_clip(tmp_path / "raw" / "sequences" / "0002", 2, seed=1)
    (tmp_path / "raw" / "Grey_32x16_25fps_8bit_420.yuv").write_bytes(b"\x80" * 32 * 16 * 3)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "raw" / "cover.png")
    path = tmp_path / "shards" / "part_0.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        archive.add(tmp_path / "raw", arcname=".")
    return path


def test_a_tar_file_is_read_as_the_folder_that_it_was_made_of(shard, tmp_path):
    raw = "Grey_32x16_25fps_8bit_420.yuv"
    for root in (shard, shard.parent / "*.tar"):
        clips = {clip.name.partition("/")[2]: clip for clip in find_clips([str(root)])}
        assert sorted(clips) == [raw, "sequences/0001", "sequences/0002"]
        assert clips[raw].decode(32).shape == (2, 16, 32, 3)
    (original,) = [c for c in find_clips([str(tmp_path / "raw")]) if c.name == "sequences/0001"]
    np.testing.assert_array_equal(clips["sequences/0001"].decode(32), original.decode(32))


def test_a_tar_file_inside_a_folder_is_left_alone(shard):
    """It may hold photographs, as that beside the clips of the released weights does."""
    write_png_clip(shard.parent / "clip", 2)
    assert [clip.name for clip in find_clips([str(shard.parent)])] == ["clip"]


def test_photographs_of_several_sizes_are_no_clip(tmp_path):
    for size in (8, 16):
        Image.fromarray(np.zeros((size, 8, 3), np.uint8)).save(tmp_path / f"{size}.png")
    with tarfile.open(tmp_path / "stills.tar", "w") as archive:
        for size in (8, 16):
            archive.add(tmp_path / f"{size}.png", arcname=f"{size}.png")
    (clip,) = find_clips([str(tmp_path / "stills.tar")])
    with pytest.raises(InputError, match=r"data\.stills"):
        clip.decode(2)


def test_a_compressed_tar_file_is_refused(tmp_path):
    write_png_clip(tmp_path / "raw" / "a", 2)
    with tarfile.open(tmp_path / "a.tar", "w:gz") as archive:
        archive.add(tmp_path / "raw", arcname=".")
    with pytest.raises(InputError, match="uncompressed tar"):
        find_clips([str(tmp_path / "a.tar")])


def test_without_the_cache_the_same_clips_are_drawn(material, caplog):
    shape = BatchShape(4, 2, 64)
    drawn, sizes = [], []
    for cache in (True, False):
        config = material.model_copy(update={"cache": cache})
        with caplog.at_level("INFO"):
            clips = open_cache(config)
        drawn.append(draw_frames(clips, config, shape, step_generator(1, 0, 5)))
        sizes.append((clips.folder / "frames.bin").stat().st_size)
    np.testing.assert_array_equal(*drawn)
    stills = 2 * 200 * 220 * 3
    assert sizes == [13 * 160 * 160 * 3 + stills, stills]
    assert "decoding 3 clips, about 0.00 GB" in caplog.text
    assert "3 clips; the cache" in caplog.text


def test_without_cache_and_photographs_nothing_is_kept(material):
    config = material.model_copy(update={"cache": False, "stills": []})
    assert draw_frames(
        open_cache(config), config, BatchShape(2, 2, 64), step_generator(1, 0, 5)
    ).shape == (2, 2, 64, 64, 3)


def test_clips_are_drawn_from_each_folder_as_often_as_its_weight_says(material, tmp_path):
    white = tmp_path / "more" / "white"
    white.mkdir(parents=True)
    for i in range(2):
        Image.new("RGB", (96, 96), "white").save(white / f"im{i}.png")
    config = DataConfig(clips=[*material.clips, str(white.parent)], clip_weights=[1, 3], max_skip=1)
    cache, rng = open_cache(config), np.random.default_rng(0)
    frames = draw_frames(cache, config, BatchShape(200, 2, 64), rng)
    share = np.mean([clip.min() == 255 for clip in frames])
    assert 0.68 < share < 0.82, "1 of 4 clips, 3 of 4 draws"
    longer = draw_frames(cache, config, BatchShape(8, 3, 64), rng)
    assert longer.min(axis=(1, 2, 3, 4)).max() < 255, "another folder where none is long enough"
    with pytest.raises(ValueError, match="clip_weights"):
        DataConfig(clips=["a", "b"], clip_weights=[1])


def test_whole_frames_are_kept_on_request(tmp_path, monkeypatch):
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / "cache"))
    write_png_clip(tmp_path / "clips" / "large", 2, 544)
    shapes = [
        open_cache(DataConfig(clips=[str(tmp_path / "clips")], whole_frames=whole)).clips[0].shape
        for whole in (False, True)
    ]
    assert shapes == [(2, 512, 512, 3), (2, 544, 544, 3)]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="training data"):
        find_clips([str(tmp_path)])


def test_clips_are_decoded_once_and_again_when_the_sources_change(material, tmp_path):
    cache = open_cache(material)
    decoded = (cache.folder / "frames.bin").stat().st_mtime_ns
    assert open_cache(material).folder == cache.folder
    assert (cache.folder / "frames.bin").stat().st_mtime_ns == decoded
    write_png_clip(tmp_path / "clips" / "clip_new", 3)
    assert open_cache(material).folder != cache.folder


def test_the_cache_holds_the_pixels_of_the_source(material, tmp_path):
    cache = open_cache(material)
    assert [clip.shape[0] for clip in cache.clips] == [7, 4, 2]
    assert len(cache.stills) == 2
    source = np.asarray(Image.open(tmp_path / "clips" / "clip_1" / "im3.png"))
    np.testing.assert_array_equal(cache.frames(cache.clips[1])[2], source)


def test_a_half_written_cache_is_written_again(material):
    folder = open_cache(material).folder
    (folder / "index.json").unlink()
    assert len(open_cache(material).clips) == 3


def test_an_excluded_clip_is_not_in_the_cache(material):
    cache = open_cache(material.model_copy(update={"exclude": ["clip_1"]}))
    assert [clip.name for clip in cache.clips] == ["clip_0", "clip_2"]


def test_no_more_clips_than_asked_for_are_in_the_cache(material):
    cache = open_cache(material.model_copy(update={"max_clips": 2}))
    assert len(cache.clips) == 2


def test_a_batch_depends_on_seed_salt_and_step_alone(material):
    cache, shape = open_cache(material), BatchShape(4, 3, 64)

    def draw(*key):
        return draw_frames(cache, material, shape, step_generator(*key))

    first = draw(1, 0, 5)
    assert first.shape == (4, 3, 64, 64, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, draw(1, 0, 5))
    for other in ((2, 0, 5), (1, 1, 5), (1, 0, 6)):
        assert not np.array_equal(first, draw(*other))


def test_a_clip_too_short_for_the_gop_is_passed_over_and_none_is_an_error(material):
    cache = open_cache(material)
    only_moving = material.model_copy(update={"still_fraction": 0.0})
    assert draw_frames(cache, only_moving, BatchShape(8, 7, 64), step_generator(1, 0, 0)).any()
    with pytest.raises(InputError, match="8 frames"):
        draw_frames(cache, only_moving, BatchShape(1, 8, 64), step_generator(1, 0, 0))


def test_a_clip_at_half_the_size_has_the_rounded_means_of_its_pixels():
    frames = np.array([[0, 1, 4, 8], [1, 1, 5, 8]], np.uint8)[None, :, :, None]
    assert _halved(np.repeat(frames, 3, axis=3))[0, 0, :, 1].tolist() == [1, 6]  # of 0.75, 6.25


def test_an_animated_still_moves_smoothly_and_keeps_its_pixels_range():
    rng = np.random.default_rng(0)
    ramp = np.repeat(np.add.outer(np.arange(200), np.arange(200))[..., None] // 2, 3, 2)
    still = ramp.astype(np.uint8)
    moved = 0
    for _ in range(20):
        clip = animate(still, still, 5, 64, rng).astype(int)
        assert clip.shape == (5, 64, 64, 3)
        assert clip.max() <= still.max()
        steps = np.abs(np.diff(clip, axis=0)).mean(axis=(1, 2, 3))
        moved += steps.max() > 0.2
        assert np.median(steps) < 12
    assert moved >= 18


def test_the_window_is_the_middle():
    frames = np.arange(10)[None, :, None, None] * np.ones((1, 1, 6, 3))
    assert window(frames, 4)[0, :, 0, 0].tolist() == [3, 4, 5, 6]
    assert window(frames, 32) is not None
    assert window(frames, 32).shape == frames.shape


def test_stills_come_out_of_a_folder_in_order(material):
    names = [name for name, _ in iter_stills(material.stills)]
    assert names == ["0.jpg", "1.jpg"]


def test_batches_come_in_order_and_errors_in_their_turn():
    def make(step):
        if step == 3:
            raise ValueError("bad clip")
        return step

    batches = made_ahead(make, 0, 5)
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="bad clip"):
        next(batches)
    assert list(made_ahead(make, 0, 3)) == [0, 1, 2]


def test_several_threads_give_the_same_batches_in_the_same_order():
    def slow_first(step):
        time.sleep(0.02 if step == 0 else 0.0)
        return step

    assert list(made_ahead(slow_first, 0, 20, threads=4)) == list(range(20))


def test_batches_are_made_ahead_but_not_all_at_once():
    made = []
    batches = made_ahead(made.append, 0, 100, depth=2)
    next(batches)
    batches.close()
    assert made == [0, 1, 2][: len(made)]


def test_the_index_names_a_digest_of_the_pixels(material):
    folder = open_cache(material).folder
    assert len(json.loads((folder / "index.json").read_text())["sha256"]) == 64


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        find_clips([str(tmp_path / "nowhere")])
