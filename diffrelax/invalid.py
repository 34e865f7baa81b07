"""What is wrong with a record, in words."""

from pydantic import ValidationError


def explain_invalid(error: ValidationError) -> str:
    """Say which entries of a record are wrong, and why."""
    problems = []
    for problem in error.errors():
        entry = ".".join(map(str, problem["loc"]))
        problems.append(f"{entry}: {problem['msg']}" if entry else problem["msg"])
    return "; ".join(problems)
