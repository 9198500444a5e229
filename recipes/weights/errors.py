"""The one error that every reader of files raises, and the warning that says which weights a file did not have."""


class UnsafeFileError(ValueError):
    """A file of weights or of a model that is not what it should be: broken, of another type, or built to do harm.

    Nothing in the file was executed and no model was changed.

    Args:
        path: The file.
        member: The part of the file that breaks the rule, such as a record's name, or `None` for the file as a whole.
        rule: What is wrong, in words.
        remedy: What to do about it.

    Example:

    >>> with open("net.safetensors", "w") as file:
    ...     print("<html>404 not found", file=file)
    >>> try:
    ...     recipes.load_weights(recipes.mlp((4,), 3), "net.safetensors")
    ... except recipes.UnsafeFileError as error:
    ...     print(error.rule)
    this is not a torch file; its first bytes are b'<html>404 not fo'
    """

    def __init__(self, path, member, rule, remedy):
        self.path, self.member, self.rule, self.remedy = path, member, rule, remedy
        where = f"{str(path)!r}" + (f", {member}" if member else "")
        super().__init__(f"weights file {where}: {rule}. {remedy}")


class LeftRandom(UserWarning):
    """Weights stay as they were because the file has none that fit.

    Args:
        message: What is said.
        paths: Paths of these variables.
    """

    def __init__(self, message, paths=()):
        self.paths = tuple(paths)
        super().__init__(message)
