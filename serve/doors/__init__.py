"""The doors over HTTP: what platforms call. They write to the ledger and read from it, and compute
nothing; `serve.doors.app.make_doors` puts them together."""
