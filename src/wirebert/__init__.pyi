from wirebert.api.classifier import WirebertClassifier as WirebertClassifier
from wirebert.api.detector import Detector as Detector
from wirebert.api.detector import load as load
from wirebert.api.evaluation import Evaluation as Evaluation
from wirebert.api.traffic import Traffic as Traffic
from wirebert.api.traffic import open_traffic
from wirebert.api.training import compare as compare
from wirebert.api.training import inspect as inspect
from wirebert.api.training import train as train
from wirebert.errors import FindingWarning as FindingWarning
from wirebert.errors import UserError as UserError

__version__: str
open = open_traffic
