"""Errors that a user can act on: each message says what was wrong and what to do."""


class UDFAError(Exception):
    """Base of all errors raised on purpose by this package."""


class InvalidInputError(UDFAError, ValueError):
    """The image, labelmap or option given by the user cannot be processed."""


class CheckpointError(UDFAError):
    """A checkpoint file is missing, damaged, foreign or does not fit."""


class CancelledError(UDFAError):
    """The user cancelled the run; nothing was written."""
