"""The methods: one folder per paper, and the folder is the registry."""
