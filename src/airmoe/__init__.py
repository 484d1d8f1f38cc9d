"""airmoe: train and run a mixture of experts whose experts live on devices joined by a wireless network."""

__version__ = "0.1.0"
