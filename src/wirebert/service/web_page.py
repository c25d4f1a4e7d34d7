"""The page at `/`: files of the package, kept in memory. No request path maps to a file."""

from collections.abc import Mapping
from importlib import resources as package_files
from typing import Final

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content security policy of all responses: only this service's script and style."""
_FILES: Final = {
    "/": ("front.html", "text/html"),
    "/front.css": ("front.css", "text/css"),
    "/front.js": ("front.js", "text/javascript"),
    "/incidents.js": ("incidents.js", "text/javascript"),
}


def resources() -> Mapping[str, tuple[bytes, str]]:
    """Path -> content and media type."""
    folder = package_files.files("wirebert.service") / "page"
    return {path: (folder.joinpath(name).read_bytes(), media) for path, (name, media) in _FILES.items()}
