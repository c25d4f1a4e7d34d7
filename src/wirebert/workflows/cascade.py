"""A small model in front of a big one: made of two model folders, with a margin from unlabelled traffic."""

from dataclasses import replace

import numpy as np

from wirebert.data.flows import Flows
from wirebert.decision.cascade_margin import CascadeMargin, choose_margin
from wirebert.decision.operating_point import NO_OPERATING_POINT
from wirebert.errors import ConfigError, DataError
from wirebert.inference.artifact import Artifact
from wirebert.inference.detector import Detector
from wirebert.inference.engines import CASCADE
from wirebert.inference.sealing import seal_of
from wirebert.plurals import counted


def with_cascade(
    big: Artifact, small: Artifact, flows: Flows, *, device: str = "cpu", allow_absent: bool = False
) -> Artifact:
    """The big model with the small one in front of it, as an export of the artifact.

    The margin is chosen on the flows (`choose_margin`). Thresholds at false positive rates are dropped: they
    were fitted on scores of the big model.

    Raises:
        ConfigError: the two do not read the same tokens or have other classes, or the small one is not
            smaller or has no ONNX export.
        DataError: there are no flows.
    """
    _check_fit(big, small)
    export = small.exports["onnx"]
    alone = without_cascade(big)
    detector = Detector(alone, device=device, precision="fp32", allow_absent=allow_absent)
    in_front = Detector(small, backend="onnx")
    blocks = [detector.encode(table) for table in flows.blocks()]
    num_flows = sum(map(len, blocks))
    if not num_flows:
        raise DataError(f"{flows.name}: expected flows, found none; give more traffic")
    first, second = (np.concatenate([one.logits(block) for block in blocks]) for one in (in_front, detector))
    chosen = choose_margin(first, second)
    operating = big.operating_point or NO_OPERATING_POINT
    note = _note(chosen, small, num_flows, flows.name)
    return replace(
        alone,
        exports={CASCADE: replace(export, about={**export.about, **chosen._asdict()}), **alone.exports},
        operating_point=replace(operating, thresholds=(), notes=(*operating.notes, note)),
    )


def without_cascade(artifact: Artifact) -> Artifact:
    """The big model alone."""
    others = {name: export for name, export in artifact.exports.items() if name != CASCADE}
    return replace(artifact, exports=others)


def _note(chosen: CascadeMargin, small: Artifact, num_flows: int, name: str) -> str:
    return (
        f"cascade: a model of {small.architecture.num_parameters:,} weights answers where its two most "
        f"probable classes are {chosen.margin:.3g} nats apart or more, this model the others, "
        f"{chosen.share:.1%} of {counted(num_flows, 'flow')} of {name}; macro F1 against this model alone "
        f"{chosen.agreement:.4f}"
    )


def _check_fit(big: Artifact, small: Artifact) -> None:
    """Raise a ConfigError unless the small model can stand in front of the big one."""
    found = ""
    if seal_of(big.tokenizer.to_dict()) != seal_of(small.tokenizer.to_dict()):
        found = "one that reads other tokens; train both on the same rows, with the same seed and settings"
    elif big.classes.classes != small.classes.classes or big.classes.benign != small.classes.benign:
        names = ", ".join(small.classes.classes)
        found = f"one of the classes {names} (benign: {small.classes.benign}); train both on the same rows"
    elif small.architecture.num_parameters >= big.architecture.num_parameters:
        found = f"one of {small.architecture.num_parameters:,} weights; exchange the two"
    elif "onnx" not in small.exports or not small.exports["onnx"].is_current:
        found = f"one without its export; write it with `wirebert export {small.name} --format onnx`"
    if found:
        raise ConfigError(
            f"--cascade {small.name}: expected a smaller model for the same flows, found {found}"
        )
