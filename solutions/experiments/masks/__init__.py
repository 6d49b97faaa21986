"""The claims of chapter 3 of the thesis: which weights of a trained network do which part of its task?"""

from solutions.experiments.masks import arithmetic, controls, images, permutations, sequences, temperature

__all__ = ["arithmetic", "controls", "images", "permutations", "sequences", "temperature"]
