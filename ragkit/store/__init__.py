"""Documents, chunks, jobs and the ledger's keys in SQLite: the only place that writes SQL."""
