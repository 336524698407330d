"""Consistency of rows, objects and workflows: rules, a scan that finds their breaches, and safe repairs."""
