"""The tests of the frameworks that look at a private part, or at their own framework's name, and the part.

By pattern of a test's id: such a test fails on another backend although a program would run there with equal bits.
"""

from __future__ import annotations

PRIVATE: dict[str, dict[str, str]] = {"ignite": {}, "lightning": {}}
