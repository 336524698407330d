"""Ports: the interfaces that the application depends on, and the values that they exchange; one file each.

Adapters live in ``adapters``; ``bootstrap`` chooses them. Every port has one contract test suite that each of its
adapters passes.
"""
