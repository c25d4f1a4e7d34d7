"""Charts of the training curves, and of the resource usage over time."""

from collections.abc import Mapping

from wirebert.report.plots.chart import Chart
from wirebert.report.plots.lines import above, line_chart, spans_magnitudes
from wirebert.telemetry.history import Curve, History


def training_charts(history: History) -> dict[str, Chart]:
    """Every chart of the training by file name; quantities that were not recorded have no chart."""
    losses = (history.train_loss, history.valid_loss)
    quality = (history.valid_accuracy, history.valid_macro_f1, history.train_accuracy)
    rates = (history.backbone_rate, history.classifier_rate)
    # Losses and norms may fall by orders of magnitude; on a linear scale their end would be a flat line.
    is_steep = {"loss": spans_magnitudes(*losses), "gradient_norm": spans_magnitudes(history.grad_norm)}
    charts: dict[str, Chart] = {}
    for name, title, unit, curves in (
        ("loss", "Loss", "cross-entropy, nats", losses),
        ("quality", "Accuracy and macro F1", "value", quality),
        ("learning_rates", "Learning rates", "learning rate", [above(rate, 1e-2) for rate in rates]),
        ("gradient_norm", "Gradient norm", "norm before clipping", (history.grad_norm,)),
        ("throughput", "Throughput", "flows per second", (history.rows_per_s,)),
        ("token_throughput", "Tokens", "tokens per second", (history.tokens_per_s,)),
    ):
        log = name == "learning_rates" or is_steep.get(name, False)
        from_zero = not log and name not in ("loss", "quality")
        marked = _best_step(history) if name in ("loss", "quality") else None
        if any(len(curve.values) for curve in curves):
            charts[name] = line_chart(title, unit, curves, log=log, from_zero=from_zero, marked=marked)
    return charts


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
