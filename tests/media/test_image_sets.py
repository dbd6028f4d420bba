"""Still images as clips: folders of any sizes, sets by name, pictures of installed packages."""

import numpy as np
import pytest
from PIL import Image

from pvsc_link.media.clips import load_clip
from pvsc_link.media.image_sets import IMAGE_SETS, image_clips
from pvsc_link.scenario.loader import parse_scenario
from pvsc_link.types import InputError


def picture(path, width, height):
    rng = np.random.default_rng(width)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)


@pytest.fixture
def kodak(tmp_path):
    folder = tmp_path / "sets" / "Kodak"
    folder.mkdir(parents=True)
    for number in range(1, 25):
        Image.new("RGB", (512, 768) if number in (4, 9) else (768, 512)).save(
            folder / f"kodim{number:02d}.png"
        )
    return folder


def scenario(**media):
    return parse_scenario(
        {
            "name": "stills",
            "media": media,
            "link": {"snr_db": 6},
            "schemes": [{"scheme": "bpg-like"}],
            "metrics": "psnr",
        }
    )


def test_every_picture_of_a_folder_is_a_clip_of_one_frame(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    picture("set/b.png", 40, 24)
    picture("set/a.jpg", 17, 30)
    (tmp_path / "set" / "notes.txt").write_text("no picture")
    media = scenario(images="set").media
    assert media.clips == ["set/a.jpg", "set/b.png"]
    assert (media.gop, media.num_gops) == ([1], 1)
    assert load_clip("set/a.jpg").frames.shape == (1, 30, 17, 3)
    assert scenario(images="set", gop=1).media == media
    assert scenario(**media.model_dump()).media == media  # as it is written into a manifest


def test_a_set_is_found_complete_by_its_name(kodak, monkeypatch):
    root = kodak.parent
    names = image_clips("kodak", root)
    assert len(names) == 24
    assert names[0] == "kodak/kodim01"
    monkeypatch.setenv("PVSC_LINK_DATASETS", str(root))
    video = load_clip("kodak/kodim04")
    assert video.frames.shape == (1, 768, 512, 3)
    assert video.name == "kodak/kodim04"
    with pytest.raises(InputError, match="picture of the set kodak"):
        load_clip("kodak/kodim99")
    with pytest.raises(InputError, match="one frame"):
        load_clip("kodak/kodim04", num_frames=2)
    (kodak / "kodim24.png").unlink()
    with pytest.raises(InputError, match=r"23 files.*r0k\.us"):
        image_clips("kodak", root)
    Image.new("RGB", (640, 512)).save(kodak / "kodim24.png")
    with pytest.raises(InputError, match="640x512"):
        image_clips("kodak", root)


def test_a_set_that_is_not_there_says_where_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("PVSC_LINK_DATASETS", raising=False)
    for name, of_set in IMAGE_SETS.items():
        with pytest.raises(InputError) as error:
            image_clips(name, tmp_path)
        assert of_set.where in str(error.value)


def test_pictures_of_installed_packages_need_no_download():
    names = image_clips("embedded")
    shapes = {name: load_clip(name).frames.shape for name in names}
    assert shapes["embedded/bikes-000"] == shapes["embedded/bikes-150"] == (1, 272, 640, 3)
    assert shapes["embedded/grace_hopper"] == (1, 600, 512, 3)
    frames = load_clip("bikes", first_frame=150, num_frames=1).frames
    np.testing.assert_array_equal(load_clip("embedded/bikes-150").frames, frames)
    with pytest.raises(InputError, match="grace_hopper"):
        load_clip("embedded/nobody")


@pytest.mark.parametrize(
    "media",
    [
        {"images": "no/such/folder"},
        {"images": "embedded", "clips": "carphone"},
        {"images": "embedded", "gop": 4},
        {"images": "embedded", "num_gops": 2},
        {"images": 7},
        {},
    ],
)
def test_bad_media_are_refused(media):
    with pytest.raises(InputError):
        scenario(**media)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(InputError, match="pictures in folder"):
        scenario(images=str(tmp_path))
