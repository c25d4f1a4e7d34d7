"""The shape of the code, held by tests: one way through, small modules, pure in the middle."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "wirebert"

# Data flows down this list: a module imports only from what stands above it.
# Every module has its place here before it is written, and what is not written yet does no harm.
ORDER: Sequence[str] = """
    __init__
    errors
    ahead
    files
    printing
    settings
    data.__init__
    data.combination
    data.windows
    data.schema
    data.layouts
    data.intake
    data.records
    data.dialect
    data.settings
    data.encodings
    data.other_formats
    data.detection
    data.canonical
    data.states
    data.sources.__init__
    data.sources.row_lines
    data.sources.delimited
    data.sources.key_values
    data.sources.parquet
    data.sources.lines
    data.sources.joining
    data.sources.zeek
    data.sources.suricata
    data.sources.nfdump
    data.sources.argus
    data.sources.ton_iot
    data.sources.arrow
    data.sources.json_lines
    data.formats
    data.datasets
    data.conversion
    data.names
    data.inference
    data.proposals
    data.times
    data.hashing
    data.keys
    data.recent
    data.sliding
    data.arrivals
    data.contacts
    data.context
    data.files
    data.loading
    data.sampling
    data.labels
    data.growing
    data.survey
    data.findings
    data.checks.__init__
    data.checks.values
    data.checks.rows
    data.checks.labels
    data.checks.leaks
    data.checks.comparison
    data.validation
    data.splits
    data.splitting
    data.synthetic.text
    data.synthetic.network
    data.synthetic.wire
    data.synthetic.requests
    data.synthetic.benign
    data.synthetic.attacks
    data.synthetic.quiet
    data.synthetic.traffic
    data.synthetic.conn_log
    data.synthetic.captures
    data.synthetic.__init__
    encoding.__init__
    encoding.settings
    encoding.vocabulary
    encoding.slots
    encoding.services
    encoding.numbers
    encoding.categories
    encoding.network
    encoding.columns
    encoding.text
    encoding.wordpieces
    encoding.fitting
    encoding.combinations
    encoding.rows
    encoding.hugging_face
    encoding.tokenizer
    encoding.store
    encoding.cache
    encoding.overlap
    encoding.slot_matrix
    encoding.mixing
    encoding.teacher_scores
    model.__init__
    model.packing
    model.patterns
    model.tiles
    model.fused_norm
    model.attention
    model.normalization
    model.architecture
    model.masked
    model.distilbert
    model.attribution
    model.batches
    model.guesses
    model.initialization
    model.checkpoints
    evaluation.__init__
    evaluation.plain
    evaluation.confusion
    evaluation.curves
    evaluation.intervals
    evaluation.thresholds
    evaluation.alarm
    evaluation.calibration
    evaluation.paired
    evaluation.reliability
    evaluation.score_histogram
    evaluation.mistakes
    evaluation.metrics
    evaluation.tree_features
    evaluation.novelty
    evaluation.baselines
    evaluation.tasks
    evaluation.dense
    evaluation.boosting
    evaluation.tabular_deep
    evaluation.rivals
    evaluation.folds
    evaluation.priors
    evaluation.history
    evaluation.plots
    evaluation.line_plots
    evaluation.training_plots
    evaluation.resource_plots
    evaluation.class_plots
    evaluation.score_plots
    evaluation.environment
    evaluation.masked_features
    evaluation.teacher_gap
    evaluation.report
    evaluation.run_charts
    evaluation.tables
    evaluation.verdict
    evaluation.page_style
    evaluation.page_script
    evaluation.page_parts
    evaluation.page_split
    evaluation.page
    evaluation.comparison
    evaluation.resplits
    evaluation.comparison_tables
    evaluation.comparison_page
    training.__init__
    training.settings
    training.distributed
    training.sharding
    training.seeding
    training.optimizer
    training.threads
    training.precision
    training.corruption
    training.masking
    training.feeding
    training.losses
    training.soft_targets
    training.token_trees
    training.text_machine
    training.graphs
    training.checkpoint
    training.stopping
    training.tally
    training.loop
    training.memory
    training.snapshot
    training.saving
    training.validation
    training.determinism
    training.monitoring
    training.resources
    training.sinks
    training.progress
    training.braille
    training.picture
    training.dashboard
    training.screen
    training.standing
    training.session
    serving.__init__
    serving.operating
    serving.artifact
    serving.agreement
    serving.cache
    serving.backends
    serving.onnx_graph
    serving.export
    serving.detector
    serving.reasons
    serving.predictions
    serving.tail
    serving.follow
    serving.limits
    serving.arrow_stream
    serving.bodies
    serving.batching
    serving.answers
    serving.keys
    serving.prometheus
    serving.protocol
    serving.front_page
    serving.openapi
    serving.heads
    serving.logs
    serving.web
    serving.service
    deciding
    budgeting
    watching
    run_folder
    attaching
    ledger
    config
    mistaken
    judging
    reporting
    card
    comparing
    joining
    starting
    teaching
    preparing
    lessons
    pipeline
    pretraining
    ground
    contest
    outcome
    competing
    resplitting
    dataset_tables
    inspection
    following
    options
    train_options
    model_options
    train_commands
    model_commands
    commands
    cli
""".split()

# What one whole folder must never reach, not even through others.
WALLS = {
    "serving": ("training", "pipeline", "config"),
    "evaluation": ("model", "encoding", "training"),
    "model": ("training", "evaluation", "serving"),
    "encoding": ("model", "training", "evaluation"),
    "data": ("encoding", "model", "training", "evaluation", "serving"),
}

# The modules that may touch files. Everything else takes and gives arrays, tables and dataclasses.
EDGES: Sequence[str] = """
    files
    data.dialect
    data.layouts
    data.files
    data.loading
    data.sources.delimited
    data.sources.key_values
    data.sources.parquet
    data.sources.lines
    data.sources.joining
    data.sources.arrow
    data.canonical
    data.datasets
    data.synthetic.traffic
    data.synthetic.conn_log
    encoding.wordpieces
    encoding.hugging_face
    encoding.store
    encoding.cache
    encoding.teacher_scores
    model.architecture
    model.checkpoints
    evaluation.environment
    evaluation.plots
    evaluation.report
    evaluation.page_script
    evaluation.comparison_page
    training.checkpoint
    training.monitoring
    training.sinks
    serving.artifact
    serving.backends
    serving.predictions
    serving.tail
    serving.follow
    serving.keys
    serving.front_page
    serving.service
    config
    run_folder
    ledger
    judging
    pretraining
    comparing
    contest
    outcome
    competing
    train_commands
    cli
""".split()

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
    "memmap fromfile open_csv read_csv read_table ParquetFile ParquetWriter CSVWriter load_file save_file safe_open".split()
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

    A class of ours has methods of such names too (`EncodedFlows.open`); what it does counts in its own module.
    """
    owner, _, method = name.rpartition(".")
    return (
        name == "open"
        or method in FILE_CALLS
        or (method in FILE_METHODS and "." in name and not owner.split(".")[-1][:1].isupper())
    )


def test_the_order_names_no_module_twice():
    assert len(ORDER) == len(set(ORDER))


def test_edges_are_modules_of_the_order():
    assert set(EDGES) <= set(ORDER)


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_place(module: str):
    assert module in ORDER, f"{module} has no place in the ORDER of tests/test_architecture.py"


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_what_stands_before_it(module: str):
    later = {name for name in imports_of(module) if ORDER.index(name) >= ORDER.index(module)}
    assert not later, f"{module} imports {sorted(later)}, which stand after it"


@pytest.mark.parametrize(("folder", "forbidden"), WALLS.items())
def test_folder_never_reaches(folder: str, forbidden: tuple[str, ...]):
    for module in MODULES:
        if module.split(".")[0] == folder:
            crossed = {name for name in reach_of(module) if name.split(".")[0] in forbidden}
            assert not crossed, f"{module} reaches {sorted(crossed)}"


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
def test_broad_except_stands_only_where_programs_end(module: str):
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ExceptHandler) and module != "cli":
            caught = dotted(node.type) if node.type is not None else "everything"
            assert caught not in {"everything", "Exception", "BaseException"}, (
                f"{module}:{node.lineno}: catches {caught}"
            )


@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith("__init__")])
def test_module_has_its_tests(module: str):
    folder, _, name = module.rpartition(".")
    test_file = ROOT / "tests" / folder.replace(".", "/") / f"test_{name}.py"
    assert test_file.is_file(), f"{module} has no {test_file.relative_to(ROOT)}"


@pytest.mark.slow
def test_importing_does_nothing():
    """In a fresh process, with every question to CUDA made an error: no device choice, no logging, no warning."""
    modules = [module for module in MODULES if "triton" not in imported_names(module)]
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
