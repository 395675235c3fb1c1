"""The one exception for mistakes in a user's input.

A stage turns it into a single sentence on standard error and a non-zero exit
status, without a traceback: the message names the file, line or key at fault
and the way to mend it. Every other exception is a defect of the program and
keeps its traceback.
"""


class UserError(Exception):
    """A mistake in the user's input, told in one sentence that says how to mend it."""
