"""
What a state returns, as Salt takes it: https://docs.saltproject.io/en/latest/ref/states/writing.html
"""


class Ret(dict):
    """A state's return: its ``changes`` are filled on the way, :py:meth:`end` closes it."""

    def end(self, comment, result=True):
        """
        The return with its last words.

        comment
            What is true now, or would be done, or what failed.

        result : True
            True, False, or ``None`` under ``test=True`` when something would be changed.

        Returns a plain dictionary.
        """
        return {**self, "comment": comment, "result": result}


def new(name):
    """
    The return of a state that has changed nothing yet.

    name
        The state's name.

    Returns a dictionary with ``name``, ``changes``, ``result`` and ``comment``, and with a method ``end``.
    """
    return Ret(name=name, changes={}, result=True, comment="")
