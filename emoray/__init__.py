"""emoray: whole experiments in emotion recognition from EEG and ECG, distributed with Ray.

Importing this package loads neither Ray, torch, MNE nor matplotlib; each has its own room.
"""

__version__ = "0.1.0"
