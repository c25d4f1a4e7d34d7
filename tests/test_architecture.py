"""The structure of the code: imports in one direction, small modules, pure in the middle."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from wirebert.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "wirebert"

# The rooms, top to bottom: a module imports only from its own room and from the rooms below it.
ROOMS: Sequence[str] = """
    __main__
    cli
    api
    comparison
    workflows
    service
    evaluation
    config
    cluster
    inference
    unsupervised
    training
    baselines
    decision
    alerts
    report
    model
    metrics
    encoding
    telemetry
    data
    run_folder
    serialization
    console
    files
    companion_process
    prefetch
    untrusted_text
    plurals
    shapes
    errors
    __init__
""".split()

MAX_IMPORT_LEVELS = 10

# What a room must never reach, not even through others.
WALLS = {
    "inference": ("training", "config", "workflows", "comparison", "cli"),
    "service": ("training", "config", "workflows", "comparison", "cli"),
    "decision": ("model", "inference", "training", "evaluation"),
    "metrics": ("data", "encoding", "model", "training", "inference"),
    "report": ("encoding", "model", "training", "inference"),
    "model": ("training", "evaluation", "inference", "decision"),
    "encoding": ("model", "training", "evaluation"),
    "telemetry": ("model", "encoding", "training"),
    "alerts": ("encoding", "model", "training", "evaluation", "inference", "decision"),
    "data": ("encoding", "model", "training", "evaluation", "inference"),
}

# The modules that may touch files. Everything else takes and gives arrays, tables and dataclasses.
EDGES: Sequence[str] = """
    alerts.appended_file
    alerts.attack_techniques
    alerts.spool
    alerts.suppression
    alerts.syslog
    api.classifier
    api.hub
    api.tables
    api.traffic
    api.training
    cli.main
    cli.demo_command
    cli.training_commands
    cluster.encode
    cluster.plan
    cluster.context
    cluster.predict
    cluster.ray_executor
    cluster.ray_ranks
    cluster.remote
    cluster.results
    cluster.staging
    cluster.storage
    comparison.compare
    comparison.jobs
    comparison.results
    comparison.runs
    config
    data.delimited.reader
    data.dialect
    data.files
    data.flows
    data.readers.arrow
    data.readers.key_values
    data.readers.lines
    data.readers.parquet
    data.registry
    encoding.ports
    data.schema.library
    data.schema.spellings
    data.sensors.canonical
    data.sensors.side_table
    data.standard_input
    data.synthetic.conn_log
    data.synthetic.traffic
    data.typed_rows
    encoding.hugging_face
    encoding.store
    encoding.wordpieces
    evaluation.evaluate
    evaluation.predictions_file
    evaluation.test_ledger
    files
    inference.artifact
    inference.followed_folder
    inference.followed_log
    inference.follow_state
    inference.log_archives
    inference.predictions
    inference.sealing
    inference.onnx_backend
    inference.rejected_rows
    inference.tail
    inference.weights
    model.checkpoints
    model.config
    report.comparison_page
    report.environment
    report.html.parts
    report.html.script
    report.plots.chart
    report.report
    run_folder
    service.api_keys
    service.incidents
    service.openapi
    service.raw_logs
    service.server
    service.web_page
    service.workers
    telemetry.events
    telemetry.processors
    telemetry.trackers
    training.checkpoint
    training.teacher_store
    workflows.evaluate_shards
    workflows.monitor
    workflows.learn
    workflows.learning_report
    workflows.ranks
    workflows.train_on_cluster
    workflows.typed_rows
""".split()

# The core without PyTorch: these rooms import none of the heavy packages, not even through others.
LIGHT_ROOMS = ("alerts", "cluster", "data", "encoding", "decision", "inference", "service")
HEAVY_PACKAGES = {"torch", "scipy", "sklearn"}
# The modules of these rooms that may, and that the others import inside functions only.
USES_TORCH = {"inference.torch_backend", "inference.export"}
# What each module of commands may import of the packages that make a start slow.
SLOW_PACKAGES = HEAVY_PACKAGES | {
    "tokenizers",
    "onnxruntime",
    "onnx",
    "vl_convert",
    "huggingface_hub",
    "psutil",
}
MAY_IMPORT = {
    "cli.main": set[str](),
    "cli.datasets": set[str](),
    "cli.inspect_command": set[str](),
    "cli.report_commands": {"tokenizers"},
    "cli.scoring_commands": {"tokenizers"},
    "cli.inference_commands": {"tokenizers"},
    "cli.demo_command": {"tokenizers"},
    "cli.training_commands": {"tokenizers"},
}
LIGHT_MODULES_OF_CLI = {"cli.main", "cli.scoring_commands"}

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
FILE_MODULES = {
    "shutil",
    "tempfile",
    "gzip",
    "bz2",
    "lzma",
    "zipfile",
    "tarfile",
    "socket",
    "urllib.request",
    "http",
}
FILE_METHODS = {
    "open",
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "mkdir",
    "unlink",
    "rmdir",
    "touch",
    "glob",
}
FILE_CALLS = set(
    """memmap fromfile open_csv read_csv read_table ParquetFile ParquetWriter CSVWriter load_file save_file
    safe_open""".split()
)
UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "torch.load", "torch.save", "os.system"}

MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in sorted(SOURCE.rglob("*.py"))
}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"), str(MODULES[module]))


def as_module(dotted: str) -> str:
    """The module of ours that `wirebert.a.b` names, be it a module, a package or a name inside a module.

    `wirebert.data.schema.schema.Column` -> `data.schema`; `wirebert.data` -> `data.__init__`.
    """
    name = dotted.removeprefix("wirebert").removeprefix(".")
    while name:
        if name in MODULES:
            return name
        if f"{name}.__init__" in MODULES:
            return f"{name}.__init__"
        name = name.rpartition(".")[0]
    return "__init__"


def imported_names(module: str) -> Iterator[str]:
    """Every dotted name that `module` imports anywhere in it, inside functions too."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def imports_of(module: str) -> frozenset[str]:
    """The modules of ours that `module` imports."""
    ours = (name for name in imported_names(module) if name.split(".")[0] == "wirebert")
    return frozenset(as_module(name) for name in ours)


def reach_of(module: str) -> set[str]:
    """Every module of ours that comes along when `module` is imported."""
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        new = imports_of(waiting.pop()) - reached
        reached |= new
        waiting += new
    return reached


def names_imported_at_once(module: str) -> Iterator[str]:
    """Every dotted name that is imported when `module` is: those outside of functions, but for types."""
    waiting: list[ast.AST] = [tree_of(module)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and dotted(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


@cache
def packages_imported_with(module: str) -> frozenset[str]:
    """`PACKAGE in MODULE` for every package that comes along when `module` is imported."""
    packages: set[str] = set()
    reached, waiting = {module}, [module]
    while waiting:
        current = waiting.pop()
        for name in names_imported_at_once(current):
            if name.split(".")[0] != "wirebert":
                packages.add(f"{name.split('.')[0]} in {current}")
            elif (ours := as_module(name)) not in reached:
                reached.add(ours)
                waiting.append(ours)
    return frozenset(packages)


def is_light(module: str) -> bool:
    """Whether a module must be importable without PyTorch."""
    return module in LIGHT_MODULES_OF_CLI or (room_of(module) in LIGHT_ROOMS and module not in USES_TORCH)


def dotted(node: ast.expr) -> str:
    """`torch.load` for the expression of that name; what is no plain name gives ''."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def calls_in(module: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every call."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call):
            yield node.lineno, dotted(node.func)


def touches_files(name: str) -> bool:
    """Whether a call of this dotted name opens, makes or removes a file.

    Classes of ours have methods of such names too (`EncodedFlows.open`); those count in their own module.
    """
    owner, _, method = name.rpartition(".")
    return (
        name == "open"
        or method in FILE_CALLS
        or (method in FILE_METHODS and "." in name and not owner.split(".")[-1][:1].isupper())
    )


def room_of(module: str) -> str:
    return module.split(".")[0]


def rooms_below(room: str) -> frozenset[str]:
    """The rooms that the modules of `room` import."""
    of_room = [module for module in MODULES if room_of(module) == room]
    return frozenset(room_of(name) for module in of_room for name in imports_of(module)) - {room}


@cache
def level_of(room: str) -> int:
    """1 for a room that imports no other; one more than the highest that it imports."""
    return 1 + max((level_of(below) for below in rooms_below(room)), default=0)


def test_every_room_is_listed_and_every_listed_room_exists():
    assert {room_of(module) for module in MODULES} == set(ROOMS)
    assert len(ROOMS) == len(set(ROOMS))


def test_the_architecture_page_lists_the_rooms_top_to_bottom():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## Rooms")[2].partition("## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert listed == [room for room in ROOMS if not room.startswith("__")]


def test_every_place_that_the_architecture_page_names_exists():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    places = {name.rstrip("/") for name in re.findall(r"`(\w+/[\w/.]+)`", page)} - {"src/wirebert"}
    assert len(places) > 20
    for place in places - {"tests/test_architecture.py"}:
        there = [SOURCE / place, SOURCE / f"{place}.py"]
        assert any(path.exists() for path in there), f"docs/architecture.md names {place}"


def test_the_top_of_the_package_holds_no_other_modules():
    top = {module for module in MODULES if "." not in module}
    assert top == {
        "__init__",
        "__main__",
        "companion_process",
        "config",
        "console",
        "errors",
        "files",
        "plurals",
        "prefetch",
        "run_folder",
        "serialization",
        "shapes",
        "untrusted_text",
    }


def test_edges_are_modules():
    assert set(EDGES) <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_from_its_room_and_those_below(module: str):
    below = set(ROOMS[ROOMS.index(room_of(module)) :])
    above = {name for name in imports_of(module) if room_of(name) not in below}
    assert not above, f"{module} imports {sorted(above)}, which are above it"


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_itself_through_others(module: str):
    through = set().union(*(reach_of(name) | {name} for name in imports_of(module)))
    assert module not in through, f"{module} is part of a cycle"


def test_rooms_have_at_most_ten_levels():
    levels = {room: level_of(room) for room in ROOMS}
    assert max(levels.values()) <= MAX_IMPORT_LEVELS, levels


@pytest.mark.parametrize(("folder", "forbidden"), WALLS.items())
def test_folder_never_reaches(folder: str, forbidden: tuple[str, ...]):
    for module in MODULES:
        if module.split(".")[0] == folder:
            crossed = {name for name in reach_of(module) if name.split(".")[0] in forbidden}
            assert not crossed, f"{module} reaches {sorted(crossed)}"


@pytest.mark.parametrize("module", [name for name in MODULES if is_light(name)])
def test_the_core_imports_no_heavy_package(module: str):
    heavy = {entry for entry in packages_imported_with(module) if entry.split(" ")[0] in HEAVY_PACKAGES}
    assert not heavy, f"importing {module} imports {sorted(heavy)}"


@pytest.mark.parametrize("module", [name for name in MODULES if is_light(name)])
def test_the_core_names_no_heavy_package_inside_functions_either(module: str):
    heavy = {name for name in imported_names(module) if name.split(".")[0] in HEAVY_PACKAGES}
    assert not heavy, f"{module} imports {sorted(heavy)}; move that to one of {sorted(USES_TORCH)}"


@pytest.mark.parametrize("module", MAY_IMPORT)
def test_a_command_imports_only_the_slow_packages_that_it_needs(module: str):
    slow = {entry for entry in packages_imported_with(module) if entry.split(" ")[0] in SLOW_PACKAGES}
    others = {entry for entry in slow if entry.split(" ")[0] not in MAY_IMPORT[module]}
    assert not others, f"importing {module} imports {sorted(others)}"


def test_every_module_of_commands_has_its_wall():
    modules = {place.partition(":")[0].removeprefix("wirebert.") for place in COMMANDS.values()}
    assert modules | {"cli.main"} == set(MAY_IMPORT)


@pytest.mark.parametrize("module", MODULES)
def test_imports_are_absolute_and_annotations_are_real(module: str):
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            assert node.module != "__future__", (
                f"{module}:{node.lineno}: jaxtyping checks need annotations as objects"
            )


@pytest.mark.parametrize("module", MODULES)
def test_module_and_functions_are_small(module: str):
    num_lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert num_lines <= MAX_MODULE_LINES, f"{module} has {num_lines} lines"
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            num_lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert num_lines <= MAX_FUNCTION_LINES, (
                f"{module}:{node.lineno}: {node.name} has {num_lines} lines"
            )


@pytest.mark.parametrize("module", MODULES)
def test_module_name_says_an_idea(module: str):
    assert not VAGUE_NAMES & set(re.split(r"[._]", module.replace("__init__", "")))


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_unpickled_or_evaluated(module: str):
    unsafe = {name for name in imported_names(module) if name.split(".")[0] in UNSAFE_MODULES}
    assert not unsafe, f"{module} imports {sorted(unsafe)}"
    for line, name in calls_in(module):
        assert name not in UNSAFE_CALLS, f"{module}:{line}: {name}"


@pytest.mark.parametrize("module", sorted(MODULES.keys() - set(EDGES)))
def test_only_edges_touch_files(module: str):
    imported = {
        name
        for name in imported_names(module)
        if name.startswith(tuple(f"{file}." for file in FILE_MODULES)) or name in FILE_MODULES
    }
    assert not imported, f"{module} is no edge and imports {sorted(imported)}"
    for line, name in calls_in(module):
        assert not touches_files(name), f"{module}:{line}: {name}(...), and {module} is no edge"


@pytest.mark.parametrize("module", MODULES)
def test_broad_except_occurs_only_where_programs_end(module: str):
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ExceptHandler) and module != "cli.main":
            caught = dotted(node.type) if node.type is not None else "everything"
            assert caught not in {"everything", "Exception", "BaseException"}, (
                f"{module}:{node.lineno}: catches {caught}"
            )


@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith(("__init__", "__main__"))])
def test_module_has_its_tests(module: str):
    folder, _, name = module.rpartition(".")
    test_file = ROOT / "tests" / folder.replace(".", "/") / f"test_{name}.py"
    assert test_file.is_file(), f"{module} has no {test_file.relative_to(ROOT)}"


@pytest.mark.slow
def test_importing_does_nothing():
    """In a fresh process where every call to CUDA is an error: no device choice, no logging, no warning."""
    modules = [
        module
        for module in MODULES
        if "triton" not in imported_names(module) and not module.endswith("__main__")
    ]
    names = [f"wirebert.{module}".removesuffix(".__init__") for module in modules]
    program = f"""
import importlib, logging, warnings
import torch, transformers.utils.logging  # what they set up themselves is not ours
def refuse(*args, **kwargs): raise AssertionError("import asked CUDA")
for name in ("is_available", "device_count", "init", "_lazy_init", "current_device", "get_device_name"):
    setattr(torch.cuda, name, refuse)
handlers, threads = list(logging.getLogger().handlers), torch.get_num_threads()
state = torch.get_rng_state()
warnings.simplefilter("error")
for name in {names!r}:
    importlib.import_module(name)
assert not torch.cuda.is_initialized()
assert logging.getLogger().handlers == handlers, "import set up logging"
assert torch.get_num_threads() == threads, "import set the number of threads"
assert torch.equal(torch.get_rng_state(), state), "import drew random numbers"
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
