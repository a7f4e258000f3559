"""The YAML files of every config group; a package so that they travel inside the wheel (`pkg://experiments.conf`)."""
