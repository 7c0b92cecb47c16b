"""What commands say of bad input."""


class InputError(ValueError):
    """What the user gave is wrong: the message is all they need to see."""
