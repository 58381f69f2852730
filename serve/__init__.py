"""The doors: today the command line; what each command does is in `serve.commands`."""
