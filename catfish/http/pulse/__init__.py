"""PulseChat's routes: one module for each of what they are about."""
