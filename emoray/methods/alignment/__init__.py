"""Cross-modal alignment: an encoder of ECG that is drawn to what one of EEG has learned."""
