"""The one error that a user of editkit is meant to read."""


class EditkitError(Exception):
    """A request that cannot be met.

    The message is one line: the thing, what was expected, what came, what to do. The command line prints it and
    exits with 1; anything else that is raised is a defect of editkit.
    """
