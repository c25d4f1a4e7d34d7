"""`wirebert compare` on several splits of one file: a comparison for each, choices included, and one over all."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from wirebert.competing import compete, write_outcome
from wirebert.config import RunConfig
from wirebert.errors import ConfigError
from wirebert.report.comparison import (FIGURES, Comparison)
from wirebert.evaluation.resplits import over_splits


def compete_on_splits(
    run: RunConfig, out: Path, recipe_text: str, num_jobs: int, console: Console
) -> Comparison:
    """`competing.compete` on each of `protocol.num_splits` splits, in a folder of its own, and the mean over them.

    Raises:
        ConfigError: there is a test file, which is the same whatever the split.
    """
    if run.test or not run.data.test_fraction:
        raise ConfigError(
            f"protocol.num_splits must be 1 where tests are files of their own, got {run.protocol.num_splits}; set "
            "data.test_fraction instead of --test"
        )
    first = run.seed if run.data.split_seed is None else run.data.split_seed
    alone = replace(run.protocol, num_splits=1)
    comparisons: dict[int, Comparison] = {}
    for split_seed in range(first, first + run.protocol.num_splits):
        one = replace(run, protocol=alone, data=replace(run.data, split_seed=split_seed))
        console.print(f"split {split_seed}", highlight=False)
        comparisons[split_seed] = compete(
            one, out / f"split-{split_seed}", recipe_text, (), num_jobs, console
        )
    comparison = _joined(comparisons, run)
    write_outcome(comparison, out)
    return comparison


def _joined(comparisons: dict[int, Comparison], run: RunConfig) -> Comparison:
    primary = run.evaluation.primary_metric
    found = list(comparisons.values())
    by_name = [{split.name: split for split in comparison.splits} for comparison in found]
    # A second class map tells nothing of a split whose test rows have none of its labels.
    splits = tuple(
        over_splits([own[name] for own in by_name], run.data.test_fraction)
        for name in by_name[0]
        if all(name in own for own in by_name)
    )
    facts = {
        method: {
            f"{FIGURES[primary]} on split {split_seed}": f"{comparison.splits[0].standings[method][primary].value:.3f}"
            for split_seed, comparison in comparisons.items()
        }
        for method in splits[0].standings
    }
    return Comparison(
        title=f"{len(found)} splits of {Path(run.train).name}",
        primary=primary,
        splits=splits,
        facts=facts,
        notes=(
            "Each split has a comparison of its own, choices included, in a folder of its own (split-N/compare.html).",
            "Splits of one file share most of their rows: intervals and p-values are those of Nadeau and Bengio's corrected "
            "resampled t-test.",
        ),
    )
