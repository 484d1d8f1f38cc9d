"""As in the tests of scheduling: kernels are compiled before any test runs."""

from tests.scheduling.conftest import compiled_kernels

__all__ = ["compiled_kernels"]
