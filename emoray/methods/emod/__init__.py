"""EMOD (Chen et al.): valence-arousal guided contrastive pretraining of one EEG encoder."""
