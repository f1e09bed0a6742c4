"""What everybody speaks: types, V-A space, electrodes, words that options choose among."""
