"""What a semantic transmitter sent is kept, and made again where an entry cannot be trusted."""

import numpy as np
import pytest

from pvsc_link.models.zoo import SUFFIX, load_models, save_with_config
from pvsc_link.schemes import sent_store
from pvsc_link.schemes.semantic import PvscMcScheme
from pvsc_link.schemes.sent_store import kept_payloads
from pvsc_link.types import Payload

STATED = {"scheme": "made up", "rate": 1, "shape": (2, 64, 64, 3)}


def payloads(seed=0):
    """Three frames, one of them without symbols and one with an empty message."""
    rng = np.random.default_rng(seed)
    sizes = (5, 0, 3)
    return tuple(
        Payload(
            (rng.normal(size=n) + 1j * rng.normal(size=n)).astype(np.complex64),
            {"z": rng.bytes(4 + n), "k": rng.bytes(n)},
            0.5 * n,
        )
        for n in sizes
    )


def same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.symbols.dtype == np.complex64
        np.testing.assert_array_equal(one.symbols, other.symbols)
        assert one.side_bits == other.side_bits
        assert list(one.side_bits) == list(other.side_bits)
        assert one.num_motion_bits == other.num_motion_bits
    return True


def never():
    raise AssertionError("made again")


def test_an_entry_is_made_once_and_comes_back_as_it_was(tmp_path):
    assert same(kept_payloads(STATED, payloads, tmp_path), payloads())
    assert same(kept_payloads(STATED, never, tmp_path), payloads())
    others = ({"rate": 2}, {"shape": (2, 64, 128, 3)})
    for seed, other in enumerate(others, start=1):
        made = kept_payloads(STATED | other, lambda seed=seed: payloads(seed), tmp_path)
        assert same(made, payloads(seed))


@pytest.mark.parametrize("name", ["code", "tensorflow", "processor", "threads"])
def test_other_code_or_another_machine_makes_it_again(tmp_path, monkeypatch, name):
    kept_payloads(STATED, payloads, tmp_path)
    here = sent_store._code_and_machine()
    monkeypatch.setattr(sent_store, "_code_and_machine", lambda: here | {name: "another"})
    assert same(kept_payloads(STATED, lambda: payloads(1), tmp_path), payloads(1))


@pytest.mark.parametrize("damage", ["cut", "byte", "other"])
def test_an_entry_that_cannot_be_trusted_is_made_again(tmp_path, damage):
    kept_payloads(STATED, payloads, tmp_path)
    (path,) = tmp_path.rglob("*.npz")
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "byte":
        place = content.index(payloads()[0].side_bits["z"])
        path.write_bytes(content[:place] + b"\0" + content[place + 1 :])
    else:
        kept_payloads(STATED | {"rate": 2}, lambda: payloads(2), tmp_path)
        (other,) = set(tmp_path.rglob("*.npz")) - {path}
        path.write_bytes(other.read_bytes())
    with pytest.warns(UserWarning, match="coded again"):
        assert same(kept_payloads(STATED, lambda: payloads(3), tmp_path), payloads(3))
    assert same(kept_payloads(STATED, never, tmp_path), payloads(3))


def test_a_full_disk_costs_time_but_no_result(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with pytest.warns(UserWarning, match="not cached"):
        assert same(kept_payloads(STATED, payloads, blocked / "store"), payloads())


def test_a_scheme_with_trained_weights_codes_a_gop_once(
    micro, scheme, video, tmp_path, monkeypatch
):
    """The second scheme gives the same GOP without building a model; untrained ones keep none."""
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "weights").mkdir()
    for name, model in zip(("intra", "inter"), scheme.engine(0).steps.models.values(), strict=True):
        save_with_config(model, tmp_path / f"weights/{name}{SUFFIX}")
    made = []

    def counted(preset, files):
        made.append(files)
        return load_models.__wrapped__(preset, files)

    monkeypatch.setattr("pvsc_link.models.load_models", counted)
    first, again = (PvscMcScheme(micro, weights=str(tmp_path / "weights")) for _ in range(2))
    coded = first.encode(video, 2, 1)
    assert len(made) == 1
    found = again.encode(video, 2, 1)
    assert len(made) == 1, "the GOPs came from the store"
    for one, other in zip(found, coded, strict=True):
        assert same(one.frames, other.frames)
        assert (one.size, one.padded, one.session_facts) == (
            other.size,
            other.padded,
            other.session_facts,
        )
        assert (one.command, one.version, one.fps) == (other.command, other.version, other.fps)
    number = len(list((tmp_path / "cache").rglob("*.npz")))
    assert number == len(coded)
    given = {"weights": str(tmp_path / "weights")}
    monkeypatch.setattr(PvscMcScheme, "_payloads", lambda *_: payloads())
    for rate, options in ((0, {}), (1, {"side_format": "range"}), (1, {"refresh_every": 1})):
        PvscMcScheme(micro, **options, **given).encode(video, 2, rate)
        number += len(coded)
        assert len(list((tmp_path / "cache").rglob("*.npz"))) == number, "another session"
    PvscMcScheme(micro).encode(video, 2, 0)
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == number
