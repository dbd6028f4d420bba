"""The console script and what its subcommands share."""

import gc
import subprocess
import sys

import pytest

from pvsc_link._version import __version__
from pvsc_link.commands import COMMANDS, _garbage_left_alone, main

HEAVY = ("tensorflow", "keras", "sionna", "matplotlib", "pandas")


def in_a_fresh_process(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_answers_without_importing_tensorflow(words):
    code = (
        "import sys\nfrom pvsc_link.commands import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit as end:\n    assert end.code == 0\n"
        f"print('HEAVY', [n for n in {HEAVY[:3]!r} if n in sys.modules])"
    )
    said = in_a_fresh_process(code)
    assert "usage: pvsc-link" in said
    assert said.endswith("HEAVY []\n")


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, pvsc_link; print([n for n in {HEAVY!r} if n in sys.modules])"
    assert in_a_fresh_process(code) == "[]\n"


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"pvsc-link {__version__}\n"


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "pvsc_link", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"pvsc-link {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_completion_script_knows_the_options_of_every_command(shell, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--print-completion", shell])
    assert end.value.code == 0
    script = capsys.readouterr().out
    for word in (*COMMANDS, "dry-run", "most-figures", "target-cbr", "snr-db"):
        assert word in script


def test_an_unknown_command_names_the_known_ones(capsys):
    with pytest.raises(SystemExit) as end:
        main(["swep"])
    assert end.value.code == 2
    assert "sweep" in capsys.readouterr().err


def test_bad_input_is_one_line_with_exit_status_2(capsys):
    assert main(["sweep", "no_such_[file].yaml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "no_such_[file].yaml" in said
    assert "Traceback" not in said


def test_a_null_character_in_a_path_is_bad_input(capsys):
    assert main(["sweep", "quickstart", "--out", "a\0b"]) == 2
    assert "null character" in capsys.readouterr().err


def test_a_benchmark_gets_its_own_options(capsys):
    with pytest.raises(SystemExit) as end:
        main(["bench", "gates", "--help"])
    assert end.value.code == 0
    assert "--drift" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "is_quiet"), [([], True), (["-v"], False)])
def test_tensorflow_starts_quietly_unless_asked(words, is_quiet, tmp_path):
    code = (
        "import os, sys\nfrom pvsc_link.commands import run_command\n"
        f"run_command('sweep', ['--list', *{words!r}])\n"
        "os.write(2, b'before ')\nimport tensorflow\nos.write(2, b'after')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert (done.stderr.endswith("before after")) == is_quiet


def test_what_an_import_makes_is_never_searched_for_garbage(monkeypatch):
    kept, at_exit = [], []
    monkeypatch.setattr("pvsc_link.commands.atexit.register", at_exit.append)
    before, threshold = gc.get_freeze_count(), gc.get_threshold()
    try:
        with _garbage_left_alone():
            assert not gc.isenabled()
            kept += [[] for _ in range(100)]
        assert gc.isenabled()
        assert gc.get_freeze_count() >= before + 100
        assert at_exit == [gc.freeze]
        assert gc.get_threshold() >= threshold
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()
