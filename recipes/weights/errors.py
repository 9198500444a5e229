"""The one error that every reader of weight files raises."""


class UnsafeFileError(ValueError):
    """A weights file that is not what it should be: broken, of another type, or built to do harm.

    Nothing in the file was executed and no model was changed.

    Args:
        path: The file.
        member: The part of the file that breaks the rule, such as a record's name, or `None` for the file as a whole.
        rule: What is wrong, in words.
        remedy: What to do about it.
    """

    def __init__(self, path, member, rule, remedy):
        self.path, self.member, self.rule, self.remedy = path, member, rule, remedy
        where = f"{str(path)!r}" + (f", {member}" if member else "")
        super().__init__(f"weights file {where}: {rule}. {remedy}")
