"""Bytes from the network, or a sentence about how to do without."""

import http.client
import urllib.request
from pathlib import Path


def fetch(url: str, path: Path, otherwise: str, timeout: float = 60.0) -> bytes:
    """What stands at an address.

    path       where the caller will put it: the error message asks for a copy there
    otherwise  what to use instead without a network, for the error message
    timeout    seconds without an answer before giving up

    Raises ConnectionError when the network does not give it.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.read()
    except (OSError, http.client.HTTPException) as problem:
        raise ConnectionError(f"could not fetch {url} ({problem}). Without a network, put a copy of {path.name} into "
                              f"{path.parent} and call again, or use {otherwise}.") from problem
