"""Errors that a person can put right: each is one line, without a traceback."""


class UserError(Exception):
    """Something the user can put right. The message is one clear line; the exit code is 2."""


class ConfigError(UserError):
    """A configuration that is not allowed: names the key, the value and what is allowed."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, which may have none."""
    return next(iter(str(error).splitlines()), "")


def reason(error: BaseException) -> str:
    """Say in one line what went wrong; for what the user cannot put right, with the kind of error."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
