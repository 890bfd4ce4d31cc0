"""ReST^EM (Singh et al., arXiv 2312.06585) in the open: sample, keep what is right, fine-tune the base, repeat."""

__version__ = "0.1.0"


class UserError(Exception):
    """An error whose text says all that a user needs: what was wrong, where, what to do."""
