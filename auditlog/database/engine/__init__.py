"""Django's PostgreSQL, but for one thing: rows of configuration are written by `configure` (sql/configure.sql)."""
