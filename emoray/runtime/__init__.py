"""What runs things, without a word of the domain: settings, storage, locks, Ray, code versions."""
