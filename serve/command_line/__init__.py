"""The words of the command line: a module a group of commands, with options, help and examples."""
