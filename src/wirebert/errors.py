"""Errors that the user can fix.

The message of a `UserError` is one sentence: what happened, where, and what to do. The command line prints it
and exits with code 2. Any other exception is a bug and keeps its traceback.
"""


class UserError(Exception):
    """The user can fix this; the message says how."""


class DataError(UserError):
    """A traffic file cannot be read."""


class NoFlowsError(DataError):
    """A file is none of traffic: it is empty, or of a format that holds no flows as text."""


class SchemaError(UserError):
    """A schema does not match the data, or cannot be read."""


class ConfigError(UserError):
    """A setting is unknown or has an invalid value."""


class CheckpointError(UserError):
    """A checkpoint or pretrained model is missing or unusable."""


class ArtifactError(UserError):
    """A model folder is incomplete, damaged or has another format version."""


class RunError(UserError):
    """A run folder is in use, is not a run, or cannot be continued."""


class TrainingError(UserError):
    """Training cannot continue, for example after a loss that is not finite."""


class RankLostError(TrainingError):
    """Another process of a training ended without saying why."""


class FindingWarning(UserWarning):
    """What a command would print of traffic and model, as a warning of Python: a code and a sentence."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: the system asks the process to end. It is handled like Ctrl-C."""
