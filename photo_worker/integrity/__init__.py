"""What must hold between rows, objects and workflows: rules, a survey that looks, and repairs that are safe."""
