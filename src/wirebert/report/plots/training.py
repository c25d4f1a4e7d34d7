"""Charts of the training curves, and of the resource usage over time."""

from collections.abc import Mapping

from wirebert.report.plots.chart import Chart
from wirebert.report.plots.lines import above, line_chart, spans_magnitudes
from wirebert.telemetry.history import Curve, History


def training_charts(history: History) -> dict[str, Chart]:
    """Every chart of the training by file name; quantities that were not recorded have no chart."""
    drawn: dict[str, Chart] = {}
    for name, chart, curves in (
        ("loss", loss, (history.train_loss, history.valid_loss)),
        ("quality", quality, (history.valid_accuracy, history.valid_macro_f1, history.train_accuracy)),
        ("learning_rates", learning_rates, (history.backbone_rate, history.classifier_rate)),
    ):
        if any(len(curve.values) for curve in curves):
            drawn[name] = chart(history)
    for name, curve, unit in (
        ("gradient_norm", history.grad_norm, "norm before clipping"),
        ("throughput", history.rows_per_s, "flows per second"),
        ("token_throughput", history.tokens_per_s, "tokens per second"),
    ):
        if len(curve.values):
            title = {"gradient_norm": "Gradient norm", "throughput": "Throughput"}.get(name, "Tokens")
            log = name == "gradient_norm" and spans_magnitudes(curve)
            drawn[name] = line_chart(title, unit, [curve], log=log, from_zero=not log)
    return drawn


def loss(history: History) -> Chart:
    """Training and validation loss over steps."""
    curves = [history.train_loss, history.valid_loss]
    # Losses fall by orders of magnitude; on a linear scale the end of training would be a flat line.
    log = spans_magnitudes(*curves)
    return line_chart("Loss", "cross-entropy, nats", curves, log=log, marked=_best_step(history))


def quality(history: History) -> Chart:
    """Accuracy on training and validation flows and macro F1 on validation flows, over steps."""
    curves = [history.valid_accuracy, history.valid_macro_f1, history.train_accuracy]
    return line_chart("Accuracy and macro F1", "value", curves, marked=_best_step(history))


def learning_rates(history: History) -> Chart:
    """Both learning rates over steps, on a logarithmic scale."""
    curves = [above(curve, 1e-2) for curve in (history.backbone_rate, history.classifier_rate)]
    return line_chart("Learning rates", "learning rate", curves, log=True)


def _best_step(history: History) -> tuple[float, str] | None:
    step = history.best_step
    return None if step is None else (float(step), f"step {step:,}, the best model, which was kept")


_MINUTES = "minutes"

_GIB = 1 / 2**30

# File name -> title, unit, scale, and the fields of a sample in one chart, each with its title.
RESOURCE_CURVES: Mapping[str, tuple[str, str, float, Mapping[str, str]]] = {
    "resource_use": (
        "CPU and GPU utilisation",
        "utilisation",
        1.0,
        {"cpu_share": "CPU, all processes", "process_cpu_share": "CPU, this process", "gpu_share": "GPU"},
    ),
    "resource_memory": (
        "Memory",
        "GiB",
        _GIB,
        {
            "resident_bytes": "this process",
            "gpu_memory_used_bytes": "GPU, all processes",
            "gpu_memory_allocated_bytes": "GPU, this process",
        },
    ),
    "resource_free": (
        "Free memory and disk space",
        "GiB",
        _GIB,
        {"memory_free_bytes": "memory", "disk_free_bytes": "disk"},
    ),
    "resource_power": ("GPU power", "watts", 1.0, {"gpu_power_w": "power"}),
    "resource_temperature": ("GPU temperature", "degrees Celsius", 1.0, {"gpu_temperature_c": "temperature"}),
}


def resource_charts(history: History) -> dict[str, Chart]:
    """Every resource chart by file name; quantities that this machine does not report have no chart."""
    charts: dict[str, Chart] = {}
    for key, (title, unit, scale, fields) in RESOURCE_CURVES.items():
        samples = history.resources
        curves = [Curve.between(name, samples, "minutes", field, scale) for field, name in fields.items()]
        recorded = [curve for curve in curves if len(curve.values)]
        if recorded:
            charts[key] = line_chart(title, unit, recorded, along=_MINUTES, from_zero=True)
    return charts
