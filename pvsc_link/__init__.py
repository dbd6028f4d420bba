"""pvsc_link: perception-aware video semantic communication over Sionna links.

In a notebook::

    import pvsc_link
    scenario = pvsc_link.Scenario(name=..., media=..., link=..., schemes=[...])
    folder = pvsc_link.run_sweep(scenario)     # what python -m pvsc_link.sweep does
    points = pvsc_link.load_results(folder)    # a pandas DataFrame, one row per point

``python -m pvsc_link.report --columns`` says what each column means. Nothing is imported before
it is used: ``import pvsc_link`` loads no TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pvsc_link._version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from pvsc_link.layers import Dvst, Pvsc
    from pvsc_link.link import Awgn, BlockFading, CodedLink, channels
    from pvsc_link.media import load_clip
    from pvsc_link.report import load_results, plot_frames
    from pvsc_link.scenario import Scenario

__all__ = [
    "Awgn",
    "BlockFading",
    "CodedLink",
    "Dvst",
    "Pvsc",
    "Scenario",
    "__version__",
    "channels",
    "load_clip",
    "load_results",
    "plot_frames",
    "run_sweep",
]
_ROOMS = {
    "Awgn": "link",
    "BlockFading": "link",
    "CodedLink": "link",
    "Dvst": "layers",
    "Pvsc": "layers",
    "channels": "link",
    "Scenario": "scenario",
    "load_clip": "media",
    "load_results": "report",
    "plot_frames": "report",
}


def run_sweep(
    scenario: "Scenario | str | Path",
    out: "str | Path" = "results",
    *,
    fresh: bool = False,
    retry_failed: bool = False,
    save_frames: bool = False,
) -> "Path":
    """Run a scenario, or go on where it stopped, as ``python -m pvsc_link.sweep`` does.

    Parameters: ``scenario`` : a :class:`Scenario` or the path of a YAML file; ``out`` : folder of
    results; ``fresh`` : forget earlier rows; ``retry_failed`` : run rows again whose codec failed;
    ``save_frames`` : keep a frame per point for the report's pictures.
    Output: the scenario's results folder, with tables, figures and manifest. Clips that cannot be
    sent have rows of the status ``bad_clip`` and are listed in the manifest.
    Raises ``InputError`` for a bad scenario, and if another sweep holds the folder.
    """
    from pathlib import Path

    from pvsc_link.report import write_figures
    from pvsc_link.scenario import Scenario, load_scenario
    from pvsc_link.sweep import build, run_plan

    given = scenario if isinstance(scenario, Scenario) else load_scenario(scenario)
    folder = Path(out) / given.name
    command = f"pvsc_link.run_sweep(scenario named {given.name!r})"
    run_plan(
        build(given),
        folder,
        fresh=fresh,
        retry_failed=retry_failed,
        save_frames=save_frames,
        command=command,
    )
    write_figures(folder)
    return folder


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(import_module(f"pvsc_link.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
