"""Charts of how a training went."""

from wirebert.telemetry.history import (History)
from wirebert.evaluation.line_plots import above, line_chart, spans_magnitudes
from wirebert.evaluation.plots import Chart


def training_charts(history: History) -> dict[str, Chart]:
    """Every chart of the training, by file name; without one for what was not recorded."""
    drawn = {"loss": loss(history), "quality": quality(history), "learning_rates": learning_rates(history)}
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
    # Losses fall by orders of magnitude; on a linear scale the end of training would be one flat line.
    log = spans_magnitudes(*curves)
    return line_chart("Loss", "cross-entropy, nats", curves, log=log, marked=_kept(history))


def quality(history: History) -> Chart:
    """Accuracy on training and validation flows and macro F1 on validation flows, over steps."""
    curves = [history.valid_accuracy, history.valid_macro_f1, history.train_accuracy]
    return line_chart("Accuracy and macro F1", "share", curves, marked=_kept(history))


def learning_rates(history: History) -> Chart:
    """Both learning rates over steps, on a scale that shows the small one too."""
    curves = [above(curve, 1e-2) for curve in (history.backbone_rate, history.classifier_rate)]
    return line_chart("Learning rates", "learning rate", curves, log=True)


def _kept(history: History) -> tuple[float, str] | None:
    step = history.best_step
    return None if step is None else (float(step), f"step {step:,}, the model that was kept")
