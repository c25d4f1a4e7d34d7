"""Coverage-guided fuzzing of the readers, the artifact loader and the bodies of the service.

    python benchmarks/fuzz.py TARGET --model MODEL [--seconds 600] [--corpus FOLDER]

Needs `pip install 'wirebert[fuzz]'` (atheris, Linux). TARGET: a format of `mutate.base_files` with `-` for blanks, such as
`comma` or `arrow-stream`; `artifact` (config.json, tokenizer.json and wirebert.json of MODEL, sealed anew); or a content
type of the service, such as `application/json`. The corpus begins with one small valid input. Only a `UserError` of one
line is an answer; whatever else is raised ends the run with a traceback and a file `crash-...`, and so does an input that
takes more than ten seconds or 2 GB.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import mutate
import records

from wirebert.errors import UserError
from wirebert.inference.artifact import load_artifact
from wirebert.inference.detector import Detector
from wirebert.service.bodies import ARROW, CSV, JSON, JSON_LINES, TEXT
from wirebert.service.handlers import RequestHandler
from wirebert.service.limits import Limits

PARTS = ("config.json", "tokenizer.json", "wirebert.json")
INSTRUMENTED = tuple(f"wirebert.{room}." for room in ("data", "service", "inference", "encoding", "decision"))
BODIES = (JSON, JSON_LINES, CSV, TEXT, ARROW)
Target = Callable[[bytes], None]


def reader(folder: Path) -> Target:
    """Reads a file to its end; each of its lines is accounted for."""

    def test(data: bytes) -> None:
        verdict = records.read(folder / "flows.log", data)
        assert verdict == "read", verdict

    return test


def artifact(folder: Path, model: Path) -> Target:
    """Loads the model, one file of it replaced and the manifest sealed anew; the first byte says which."""
    copy = folder / "model"
    shutil.copytree(model, copy)
    plain = {name: (copy / name).read_bytes() for name in PARTS}

    def test(data: bytes) -> None:
        if not data:
            return
        name = PARTS[data[0] % len(PARTS)]
        (copy / name).write_bytes(data[1:])
        if name != "wirebert.json":
            (copy / "wirebert.json").write_text(sealed(json.loads(plain["wirebert.json"]), name, data[1:]))
        try:
            load_artifact(copy)
        finally:
            for other, content in plain.items():
                (copy / other).write_bytes(content)

    return test


def sealed(manifest: dict[str, object], name: str, content: bytes) -> str:
    """The manifest of one who knows how it is sealed."""
    files = manifest["files"]
    assert isinstance(files, dict)
    files[name] = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    manifest.pop("sha256")
    compact = json.dumps(manifest, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return json.dumps({"sha256": hashlib.sha256(compact.encode("ascii")).hexdigest(), **manifest}, indent=1)


def body(kind: str, model: Path) -> tuple[Target, bytes]:
    """Answers a body of this content type; and a body to begin with."""
    handler = RequestHandler(Detector.load(model), Limits())
    rows = [json.dumps(row).encode() for row in records.rows_of(handler.detector)[:4]]
    seeds = {
        JSON: b'{"flows":[' + b",".join(rows) + b"]}",
        JSON_LINES: b"\n".join(rows),
        CSV: mutate.delimited(","),
        TEXT: mutate.zeek(),
        ARROW: mutate.arrow("stream"),
    }

    def test(data: bytes) -> None:
        verdict = records.ask(handler, kind, data, JSON)
        assert verdict in ("read", "refused"), verdict

    return test, seeds[kind]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path)
    options = parser.parse_args()
    try:
        import atheris  # pyright: ignore[reportMissingImports]  # an extra, for Linux alone  # pyright: ignore[reportMissingModuleSource]
    except ImportError:
        sys.exit("benchmarks/fuzz.py: expected atheris, found none; pip install 'wirebert[fuzz]'")
    folder = Path(tempfile.mkdtemp(prefix="wirebert-fuzz-"))
    if options.target in BODIES:
        test, seed = body(options.target, options.model)
    elif options.target == "artifact":
        test, seed = artifact(folder, options.model), b"\0" + (options.model / "config.json").read_bytes()
    else:
        seeds = {name.replace(" ", "-"): data for name, data in mutate.base_files().items()}
        test, seed = reader(folder), seeds[options.target]

    def one(data: bytes) -> None:
        try:
            test(data)
        except UserError as error:
            if "\n" in str(error):
                raise AssertionError(f"message of several lines: {error}") from error

    corpus = options.corpus or folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "seed").write_bytes(seed)
    for name, module in list(sys.modules.items()):
        if name.startswith(INSTRUMENTED):
            instrument(atheris, module)
    limits = [f"-max_total_time={options.seconds}", "-timeout=10", "-rss_limit_mb=0", "-max_len=20000"]
    atheris.Setup([sys.argv[0], str(corpus), *limits], one)
    os.chdir(folder)
    atheris.Fuzz()


def instrument(atheris: object, module: object) -> None:
    """Count the branches of a module's functions; they are imported already, and torch is left as it is."""
    for name, value in list(vars(module).items()):
        is_own = getattr(value, "__module__", None) == getattr(module, "__name__", "")
        if is_own and hasattr(value, "__code__"):
            setattr(module, name, atheris.instrument_func(value))  # pyright: ignore


if __name__ == "__main__":
    main()
