"""The script of the report page, bundled with the charting library, and the policy that allows only this
script."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from wirebert.files import write_atomic

NOTICE = """/*! With Vega, Vega-Lite and Vega-Embed, (c) 2013-2026 University of Washington Interactive Data
         Lab and others,
BSD-3-Clause, and D3, (c) 2010-2026 Mike Bostock, ISC. They come as they are, without warranty of any kind;
the whole licences stand in the repositories of these projects. */
"""

_PARTS = ("page.js", "deployment.js", "flows.js")
"""Charts; the slider and what can be copied; the flows behind the confusion matrix."""

_OTHER_MEANING = re.compile("[<>&\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters of markup, those that browsers take for line ends, and what controls the direction of text."""


@cache
def script() -> str:
    """The whole script; bundled once per user and version, since that takes seconds."""
    import vl_convert  # here, since a scoring installation reads reports without it

    folder = resources.files("wirebert.report.html")
    source = "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in _PARTS)
    key = hashlib.sha256(f"{version('vl-convert-python')}\n{source}".encode()).hexdigest()[:16]
    path = _cache_folder() / f"page-{key}.js"
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    bundle = vl_convert.javascript_bundle(source)
    assert "</script" not in bundle.lower(), "it would end the script element"
    with suppress(OSError):  # without a folder to write to, the next process bundles again
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, NOTICE + bundle)
    return NOTICE + bundle


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wirebert"


def policy(runs: str = "") -> str:
    """Content security policy: allow this script, if there is one, and inline styles, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(runs.encode("utf-8")).digest()).decode("ascii")
    allowed = f"script-src 'sha256-{digest}'; " if runs else ""
    return (
        f"default-src 'none'; {allowed}style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def data_element(specs: Mapping[str, object], key: str = "specs") -> str:
    """The specifications as a data element, which no browser executes, whatever text they contain."""
    text = json.dumps(specs, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    text = _OTHER_MEANING.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return f'<script type="application/json" id="{key}">{text}</script>'
