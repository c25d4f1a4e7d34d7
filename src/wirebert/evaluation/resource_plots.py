"""Charts of what a training asked of the machine, over time."""

from collections.abc import Mapping

from wirebert.telemetry.history import (Curve, History)
from wirebert.evaluation.line_plots import line_chart
from wirebert.evaluation.plots import Chart

_MINUTES = "minutes"

_GIB = 1 / 2**30

# File name -> title, unit, scale, and the fields of a sample that are drawn together, each with its name.
DRAWN: Mapping[str, tuple[str, str, float, Mapping[str, str]]] = {
    "resource_use": (
        "Processors and GPU in use",
        "share of the time",
        1.0,
        {"cpu_share": "all processors", "process_cpu_share": "this training", "gpu_share": "GPU"},
    ),
    "resource_memory": (
        "Memory",
        "GiB",
        _GIB,
        {
            "resident_bytes": "this training",
            "gpu_memory_used_bytes": "GPU, all programs",
            "gpu_memory_allocated_bytes": "GPU, this training",
        },
    ),
    "resource_free": (
        "Memory and disk left",
        "GiB",
        _GIB,
        {"memory_free_bytes": "memory", "disk_free_bytes": "disk"},
    ),
    "resource_power": ("GPU power", "watts", 1.0, {"gpu_power_w": "power"}),
    "resource_temperature": ("GPU temperature", "degrees Celsius", 1.0, {"gpu_temperature_c": "temperature"}),
}


def resource_charts(history: History) -> dict[str, Chart]:
    """Every chart of the machine's samples by file name; without one for what the machine did not tell."""
    charts: dict[str, Chart] = {}
    for key, (title, unit, scale, fields) in DRAWN.items():
        samples = history.resources
        curves = [Curve.between(name, samples, "minutes", field, scale) for field, name in fields.items()]
        told = [curve for curve in curves if len(curve.values)]
        if told:
            charts[key] = line_chart(title, unit, told, along=_MINUTES, from_zero=True)
    return charts
