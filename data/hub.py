"""A model's files from the Hugging Face cache, or from the hub where the network was asked for."""

from __future__ import annotations

import os
from pathlib import Path

from routewright.core.types import InputError


def hub_folder(name: str) -> Path:
    """The snapshot of `owner/name` in the Hugging Face cache, downloaded first only where HF_HUB_OFFLINE=0 asks for the network.

    Raises InputError for a model that is not there.
    """
    from huggingface_hub import snapshot_download

    online = os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in ("0", "false", "no", "off")
    try:
        return Path(snapshot_download(name, local_files_only=not online, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, ValueError) as error:
        found = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        wanted = "a download" if online else "a copy in the Hugging Face cache (the network is off)"
        mend = "Check the name and the network." if online else "Set HF_HUB_OFFLINE=0 to download it, or give a local folder."
        raise InputError(f"hub model {name!r} cannot be read", expected=wanted, found=found, mend=mend) from error
