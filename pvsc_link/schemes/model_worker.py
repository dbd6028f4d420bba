"""The contract of a semantic model that is not of this package, and a worker that runs one.

This file needs numpy and nothing else, Python 3.7 or later: it also runs in the Python of a model
that has other versions of everything (``python model_worker.py``), where pvsc_link is not
installed.

A model is a class. Its constructor takes the keywords of ``model_options`` of a scenario, and
``checkpoints`` where the scenario names some::

    class Model:
        rates = (0, 1, 2)                  # what encode takes

        def encode(self, frames, rate):
            # frames : uint8 RGB [num_frames, height, width, 3]
            # returns, per frame, complex symbols [n] of any n, and side information as bytes
            return symbols, side_bits      # side_bits may be None: no frame has any

        def decode(self, symbols_hat, no_eff, side_bits, snr_db, session):
            # symbols_hat : per frame, complex64 [n]; no_eff : per frame, float32 [n]
            # side_bits : per frame, bytes as they were sent
            # snr_db : Es/N0 of the channel in dB, which a receiver may know
            # session : {"rate", "height", "width"}, which both ends know
            return frames                  # uint8, or floating point in [0, 1]

Attributes that say what it expects; each may be left out:

==================  ==========================================================================
power               ``"gop"`` (default) or ``"frame"``: over what the link scales the symbols to
                    unit mean power
needs_scale         True: symbols come back at the power that ``encode`` gave them. The scale is
                    side information of four bytes and is counted
transmitter_csi     ``"none"`` (default), or ``"snr"``: ``encode(frames, rate, snr_db)``
receiver_csi        ``"no_eff"`` (default), ``"snr"`` (``no_eff`` is None), or ``"none"``
                    (``snr_db`` is None too)
scheduled           True: n depends on rate and frame size alone, so that no header has to say it.
                    Such a model has no side information
on_loss             what happens when side information of a frame is lost: ``"freeze"`` (default:
                    the frames before it are decoded, and the last one is shown to the end of the
                    GOP), ``"gop"`` (the whole GOP is lost), or ``"model"`` (``decode`` gets None in
                    its place and conceals; where the header is lost, there are no symbols either)
multiple            height and width are padded to a multiple of it by repeated edges; default 1
trained             False: weights are random. By default, True where checkpoints are stated
==================  ==========================================================================
"""

import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import sys
import traceback

import numpy

#: Allowed values of the attributes that have a few.
CHOICES = {
    "power": ("gop", "frame"),
    "transmitter_csi": ("none", "snr"),
    "receiver_csi": ("no_eff", "snr", "none"),
    "on_loss": ("freeze", "gop", "model"),
}
#: Packages whose versions are told where the model has loaded them.
FRAMEWORKS = ("numpy", "torch", "torchvision", "timm", "jax", "flax", "tensorflow", "keras")


class ContractError(Exception):
    """A model that does not keep the contract."""


def load_class(path):
    """The class at ``package.module:Class`` or ``folder/file.py:Class``."""
    module_name, _, name = path.rpartition(":")
    if not module_name or not name:
        raise ContractError(f"implementation {path!r} is not package.module:Class or file.py:Class")
    if module_name.endswith(".py"):
        file = os.path.abspath(os.path.expanduser(module_name))
        key = "pvsc_link_model_" + hashlib.sha256(file.encode()).hexdigest()[:12]
        if key not in sys.modules:
            if not os.path.isfile(file):
                raise ContractError(f"no file {file}")
            spec = importlib.util.spec_from_file_location(key, file)
            if spec is None or spec.loader is None:
                raise ContractError(f"{file} is no file of Python")
            module = importlib.util.module_from_spec(spec)
            sys.modules[key] = module
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[key]
                raise
        module = sys.modules[key]
    else:
        module = importlib.import_module(module_name)
    if not hasattr(module, name):
        raise ContractError(f"{module_name} has no {name}")
    return getattr(module, name)


def facts_of(model, checkpoints):
    """What a model says of itself, checked, as a dict that JSON can hold."""
    kind = type(model)
    rates = getattr(model, "rates", None)
    if rates is None or isinstance(rates, (str, bytes)):
        raise ContractError(f"{kind.__name__} has no attribute rates, a sequence of integers")
    rates = list(rates)
    if not rates or any(isinstance(r, bool) or not isinstance(r, int) or r < 0 for r in rates):
        raise ContractError(f"rates are {rates!r}, wanted integers from 0 to 255")
    if max(rates) > 255:
        raise ContractError(f"rate {max(rates)}, wanted at most 255: it is sent as one byte")
    facts: dict = {"name": kind.__name__, "rates": rates}
    for name, allowed in CHOICES.items():
        facts[name] = getattr(model, name, allowed[0])
        if facts[name] not in allowed:
            raise ContractError(f"{name} is {facts[name]!r}, wanted one of {allowed}")
    facts["needs_scale"] = bool(getattr(model, "needs_scale", False))
    facts["scheduled"] = bool(getattr(model, "scheduled", False))
    if facts["scheduled"] and facts["needs_scale"]:
        raise ContractError("scheduled with needs_scale: a scale is side information")
    facts["multiple"] = getattr(model, "multiple", 1)
    if not isinstance(facts["multiple"], int) or not 1 <= facts["multiple"] <= 4096:
        raise ContractError("multiple is {!r}, wanted 1 to 4096".format(facts["multiple"]))
    facts["trained"] = bool(getattr(model, "trained", checkpoints is not None))
    for method in ("encode", "decode"):
        if not callable(getattr(model, method, None)):
            raise ContractError(f"{kind.__name__} has no method {method}")
    facts["source"] = source_digest(kind)
    facts["versions"] = versions()
    return facts


def source_digest(kind):
    """SHA-256 of the file that defines a class; of its name where there is no file."""
    try:
        with open(inspect.getsourcefile(kind) or "", "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except (OSError, TypeError):
        return hashlib.sha256(kind.__name__.encode()).hexdigest()


def versions():
    """Versions of Python and of the frameworks that are loaded."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in FRAMEWORKS:
        if name in sys.modules:
            found[name] = str(getattr(sys.modules[name], "__version__", "unknown"))
    return found


def encode(model, facts, frames, rate, snr_db, max_symbols):
    """One GOP out of a model, checked: per frame complex64 [n], and bytes.

    Parameters: ``max_symbols`` : most symbols of a frame.
    """
    more = (snr_db,) if facts["transmitter_csi"] == "snr" else ()
    result = model.encode(frames, rate, *more)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise ContractError(f"encode returned {_form(result)}, wanted (symbols, side_bits)")
    symbols, side_bits = result
    num_frames = len(frames)
    if not isinstance(symbols, (tuple, list)) or len(symbols) != num_frames:
        raise ContractError(
            f"encode: symbols are {_form(symbols)}, wanted a list of {num_frames} arrays"
        )
    checked = [_symbols(one, t, max_symbols) for t, one in enumerate(symbols)]
    if side_bits is None:
        side_bits = [b""] * num_frames
    if not isinstance(side_bits, (tuple, list)) or len(side_bits) != num_frames:
        raise ContractError(
            f"encode: side_bits are {_form(side_bits)}, wanted None or a list of {num_frames}"
        )
    for t, side in enumerate(side_bits):
        if not isinstance(side, (bytes, bytearray)):
            raise ContractError(f"encode: side_bits of frame {t} are {_form(side)}, wanted bytes")
        if facts["scheduled"] and side:
            raise ContractError(f"encode: a scheduled model gave {len(side)} bytes of side bits")
    if not any(one.size for one in checked) and not any(side_bits):
        raise ContractError("encode: no symbol and no side bit in the whole GOP")
    groups = [checked] if facts["power"] == "gop" else [[one] for one in checked]
    for group in groups:
        whole = numpy.concatenate(group)
        if whole.size and not numpy.mean(numpy.abs(whole) ** 2) > 1e-20:
            raise ContractError("encode: no power, the mean of |x|^2 is 0")
    return checked, [bytes(side) for side in side_bits]


def _symbols(one, t, max_symbols):
    try:
        array = numpy.asarray(one)
    except Exception as error:
        raise ContractError(f"encode: symbols of frame {t}: {error}") from error
    if array.ndim != 1 or not numpy.iscomplexobj(array):
        found = f"{array.dtype} {list(array.shape)}"
        raise ContractError(f"encode: symbols of frame {t} are {found}, wanted complex64 [n]")
    if array.size > max_symbols:
        raise ContractError(
            f"encode: {array.size} symbols in frame {t}, wanted at most {max_symbols} (max_cbr)"
        )
    bad = int(numpy.sum(~numpy.isfinite(array)))
    if bad:
        raise ContractError(f"encode: {bad} of {array.size} symbols of frame {t} are not finite")
    return array.astype(numpy.complex64)


def decode(model, facts, symbols_hat, no_eff, side_bits, snr_db, session):
    """Frames out of a model, checked: uint8 [num_frames, height, width, 3].

    Input: what a receiver has, of which the model gets what it asks for (``receiver_csi``).
    """
    if facts["receiver_csi"] != "no_eff":
        no_eff = None
    if facts["receiver_csi"] == "none":
        snr_db = None
    frames = numpy.asarray(model.decode(symbols_hat, no_eff, side_bits, snr_db, session))
    wanted = (len(symbols_hat), session["height"], session["width"], 3)
    if frames.shape != wanted:
        raise ContractError(f"decode returned {list(frames.shape)}, wanted {list(wanted)}")
    if frames.dtype == numpy.uint8:
        return frames
    if not numpy.issubdtype(frames.dtype, numpy.floating):
        raise ContractError(f"decode returned {frames.dtype}, wanted uint8 or floating point")
    bad = int(numpy.sum(~numpy.isfinite(frames)))
    if bad:
        raise ContractError(f"decode: {bad} of {frames.size} values are not finite")
    if frames.max() > 10:
        raise ContractError(f"decode: a value of {frames.max():g}, wanted [0, 1]")
    levels = numpy.rint(255.0 * numpy.clip(frames.astype(numpy.float32), 0.0, 1.0))
    return levels.astype(numpy.uint8)


def _form(value):
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def pack(arrays):
    """Arrays of several lengths as one, and their lengths."""
    empty = numpy.zeros(0, arrays[0].dtype if arrays else numpy.complex64)
    return numpy.concatenate([empty, *arrays]), numpy.array([len(a) for a in arrays], numpy.int64)


def unpack(whole, lengths):
    """The inverse of ``pack``."""
    return numpy.split(whole, numpy.cumsum(lengths)[:-1]) if len(lengths) else []


def pack_bytes(messages):
    """Messages as one array of bytes, and their lengths; -1 for one that is None."""
    whole = numpy.frombuffer(b"".join(m or b"" for m in messages), numpy.uint8)
    return whole, numpy.array([-1 if m is None else len(m) for m in messages], numpy.int64)


def unpack_bytes(whole, lengths):
    """The inverse of ``pack_bytes``."""
    parts = unpack(whole, numpy.maximum(lengths, 0))
    return [None if n < 0 else part.tobytes() for part, n in zip(parts, lengths)]  # noqa: B905


class Worker:
    """Answers requests of pvsc_link: a line of JSON each, with arrays in npz files."""

    def __init__(self, config):
        if config.get("folder"):
            sys.path.insert(0, config["folder"])
            os.chdir(config["folder"])
        options = dict(config["model_options"])
        if config.get("checkpoints") is not None:
            options["checkpoints"] = config["checkpoints"]
        self.model = load_class(config["implementation"])(**options)
        self.facts = facts_of(self.model, config.get("checkpoints"))

    def answer(self, request):
        """The reply to one request; what is large goes to ``request["out"]``."""
        if request["call"] == "facts":
            return {"facts": self.facts}
        with numpy.load(request["in"], allow_pickle=False) as given:
            arrays = {name: given[name] for name in given.files}
        if request["call"] == "encode":
            symbols, side_bits = encode(
                self.model,
                self.facts,
                arrays["frames"],
                request["rate"],
                request["snr_db"],
                request["max_symbols"],
            )
            whole, lengths = pack(symbols)
            side, side_lengths = pack_bytes(side_bits)
            numpy.savez(
                request["out"], symbols=whole, n=lengths, side=side, side_lengths=side_lengths
            )
        else:
            frames = decode(
                self.model,
                self.facts,
                unpack(arrays["symbols"], arrays["n"]),
                unpack(arrays["no_eff"], arrays["n"]),
                unpack_bytes(arrays["side"], arrays["side_lengths"]),
                request["snr_db"],
                request["session"],
            )
            numpy.savez(request["out"], frames=frames)
        return {"versions": versions()}


def serve(config_path, request_fd, reply_fd):
    """Answer requests until there are no more; what the model prints goes to stderr."""
    os.set_inheritable(request_fd, False)
    os.set_inheritable(reply_fd, False)
    with open(config_path) as file:
        config = json.load(file)
    worker = None
    with os.fdopen(request_fd) as requests, os.fdopen(reply_fd, "w") as replies:
        for line in iter(requests.readline, ""):
            try:
                worker = worker or Worker(config)
                reply = worker.answer(json.loads(line))
            except ContractError as error:
                reply = {"error": str(error)[:2000]}
            except Exception as error:
                traceback.print_exc()
                reply = {"error": f"{type(error).__name__}: {error}"[:2000]}
            sys.stdout.flush()
            sys.stderr.flush()
            replies.write(json.dumps(reply) + "\n")
            replies.flush()


if __name__ == "__main__":
    # The folder of this file is no place to import a model's modules from.
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) != own]
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
