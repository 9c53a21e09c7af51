"""From typed rows to tables: dialects, the ledger, the copy, a real Postgres."""
