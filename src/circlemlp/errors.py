"""What goes wrong in a way a person can mend: one line each, no traceback."""


class UserError(Exception):
    """Something the user can put right. The message is one clear line; the exit code is 2."""


class ConfigError(UserError):
    """A configuration that is not allowed: names the key, the value and what is allowed."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, which may have none."""
    return next(iter(str(error).splitlines()), "")
