"""The plugin API of a kind of infrastructure: `plugin` has what a plugin is, the others what that stands on."""
