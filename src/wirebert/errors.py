"""What can go wrong, and who can fix it.

A `UserError` is something the user can fix: its message is one sentence that says where, what was expected, what was
found and what to do; the command line prints it and exits with code 2. Any other exception is our bug and keeps its
traceback.
"""


class UserError(Exception):
    """The user can fix this; the message says how."""


class DataError(UserError):
    """A traffic file can not be read as it is."""


class SchemaError(UserError):
    """A schema does not fit the data, or can not be read."""


class ConfigError(UserError):
    """A setting is unknown or has a value that makes no sense."""


class CheckpointError(UserError):
    """A checkpoint or pretrained model is missing or can not be used."""


class ArtifactError(UserError):
    """A model folder is incomplete, damaged or of another version."""


class RunError(UserError):
    """A run folder is in use, is not a run, or can not be continued."""


class TrainingError(UserError):
    """Training can not go on (a loss that is not finite, say)."""


class Terminated(KeyboardInterrupt):
    """The system asks the run to end (SIGTERM, as before a machine is taken away); what meets Ctrl-C meets this too."""
