import subprocess
import sys

from wirebert.inference.engines import CASCADE, ENGINES


def test_engines_are_listed_by_their_names():
    assert all(name == engine.name for name, engine in ENGINES.items())


def test_an_engine_reads_an_export_with_bounds_or_the_weights():
    for engine in ENGINES.values():
        assert (engine.file is None) == (engine.export_command == "")
        assert (engine.file is None or engine.name == CASCADE) == (engine.bounds is None)
    files = [engine.file for engine in ENGINES.values() if engine.file is not None]
    assert len(files) == len(set(files))


def test_the_registry_imports_nothing_heavy():
    program = (
        "import sys, wirebert.inference.engines; print({'numpy', 'pyarrow', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
