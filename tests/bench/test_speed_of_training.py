"""The MACs that ``bench train`` counts in a program of JAX, and its rows."""

import csv
import json

import pytest

from pvsc_link.bench.train import PEAKS, UTILISATION, count_macs, main

jax = pytest.importorskip("jax")


def macs(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, "float32") for shape in shapes]
    return count_macs(jax.make_jaxpr(function)(*arguments).jaxpr)


def convolved(stride=1, groups=1):
    numbers = ("NHWC", "HWIO", "NHWC")

    def function(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            "SAME",
            dimension_numbers=numbers,
            feature_group_count=groups,
        )

    return function


def test_products_and_convolutions_count_what_they_multiply():
    assert macs(lambda a, b: a @ b, (2, 5, 3), (2, 3, 7)) == 2 * 5 * 3 * 7
    assert macs(convolved(), (2, 8, 8, 3), (3, 3, 3, 5)) == 2 * 64 * 9 * 3 * 5
    assert macs(convolved(stride=2), (1, 8, 8, 3), (3, 3, 3, 5)) == 16 * 9 * 3 * 5
    assert macs(convolved(groups=6), (1, 8, 8, 6), (3, 3, 1, 6)) == 64 * 9 * 6


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 6), (2, 6)])
def test_each_gradient_of_a_convolution_costs_what_it_does_itself(stride, groups):
    shapes = (2, 8, 8, 6), (4, 4, 6 // groups, 6)
    function = convolved(stride, groups)
    forward = macs(function, *shapes)

    def of(argument):
        return jax.grad(lambda *a: jax.numpy.sum(function(*a) ** 2), argument)

    for argument in (0, 1):
        assert macs(of(argument), *shapes) == 2 * forward
    assert macs(of((0, 1)), *shapes) == 3 * forward


def test_a_loop_counts_as_often_as_it_runs_and_again_where_it_is_rematerialised():
    def product(a, b):
        return jax.numpy.tanh(a @ b)

    def chain(body):
        return lambda a, b: jax.numpy.sum(
            jax.lax.scan(lambda c, _: (body(c, b), None), a, None, length=3)[0]
        )

    one, shapes = 4 * 4 * 4, ((4, 4), (4, 4))
    assert macs(chain(product), *shapes) == 3 * one
    assert macs(jax.grad(chain(product), (0, 1)), *shapes) == 3 * 3 * one
    again = macs(jax.grad(chain(jax.checkpoint(product)), (0, 1)), *shapes)
    assert again == 3 * 4 * one


def test_a_loop_of_unknown_length_is_an_error_if_it_multiplies():
    def until_large(body):
        return lambda a: jax.lax.while_loop(lambda c: jax.numpy.sum(c) < 9, body, a)

    assert macs(until_large(lambda c: c + 1), (4, 4)) == 0
    with pytest.raises(ValueError, match="unknown length"):
        macs(until_large(lambda c: c @ c), (4, 4))


FILE = """
name: small
preset: pvsc_tiny
data: {clips: [absent]}
phases:
  - name: intra
    model: intra
    stage: 1
    steps: 10
    quantiser: noise
    crop: 64
    batch: 2
    loss: {per: 0.0}
"""


@pytest.mark.slow
def test_rows_are_measured_and_expected(tmp_path, capsys):
    file, measured, expected = (tmp_path / name for name in ("a.yaml", "m.csv", "e.csv"))
    file.write_text(FILE)
    words = [str(file), "--backends", "jax", "--precisions", "float32", "--steps", "2"]
    assert main([*words, "--csv", str(measured)]) == 0
    assert main([str(file), "--expect", "--csv", str(expected)]) == 0
    (row,) = csv.DictReader(measured.open())
    assert float(row["samples_per_s"]) == pytest.approx(2 / float(row["step_s"]), rel=1e-3)
    one, total = csv.DictReader(expected.open())
    operations = 2e12 * float(one["tera_macs_per_step"])
    seconds = operations / (PEAKS["H200"]["float32"] * UTILISATION)
    assert float(one["H200 samples_per_s"]) == pytest.approx(2 / seconds, rel=1e-3)
    assert float(total["H200 hours"]) == pytest.approx(seconds * 10 / 3600, rel=1e-3)
    assert json.loads((tmp_path / "e.manifest.json").read_text())["command"].endswith(str(expected))
    assert "tera_macs_per_step" in capsys.readouterr().out
