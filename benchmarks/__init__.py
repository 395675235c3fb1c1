"""Commands that measure what the documentation claims, and print it."""

import persodpo  # noqa: F401 - before torch, because it sets how threads wait
