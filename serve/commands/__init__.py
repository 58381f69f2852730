"""What each command does, one module a group; imported when the command is called."""
