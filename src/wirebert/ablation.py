"""The same training without the columns of context: what of a run it needs, and what comes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from wirebert.config import RunConfig
from wirebert.data.context import context_columns, without_context
from wirebert.data.loading import Flows
from wirebert.errors import ConfigError
from wirebert.evaluation.context_gain import ContextGain, context_gain
from wirebert.evaluation.metrics import SplitMetrics
from wirebert.judging import Part, judge
from wirebert.run_folder import RunFolder
from wirebert.serving.detector import Detector


def require_context(flows: Flows) -> None:
    """Raise a ConfigError for flows without context, of which nothing can be taken away."""
    if flows.schema.context is None:
        raise ConfigError(
            f"evaluation.ablate_context must be false for data without columns of context ({flows.name}), got True; "
            "data.context=true adds them where there are times and addresses"
        )


def bare(part: Part) -> Part:
    """The same rows without context."""
    return replace(part, flows=replace(part.flows, schema=without_context(part.flows.schema)))


def measure_context(
    run: RunConfig,
    folder: RunFolder,
    parts: Sequence[Part],
    splits: Mapping[str, SplitMetrics],
    benign: str | None,
) -> ContextGain:
    """Judge the model without context, saved in `folder`, beside the one with it, whose figures are `splits`."""
    detector = Detector.load(folder.model, device=run.training.device, precision="fp32")
    without = {
        part.name: judge(
            detector, bare(part), None, seed=run.seed, num_resamples=run.evaluation.num_resamples
        )
        for part in parts
    }
    windows = parts[0].flows.schema.context
    assert windows is not None, "require_context has seen to it"
    names = tuple(column.name for column in context_columns(windows))
    return context_gain(names, splits, without, benign)
