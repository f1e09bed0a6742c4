"""EMOD (Chen et al.): V-A guided contrastive pretraining of one EEG encoder for all datasets."""
