-- What the application role may do: everything in the projections, nothing but add in the ledger.
-- {app} is its quoted name. Run by `setup_database` after every migration, as the owner.

GRANT USAGE ON SCHEMA public TO {app};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {app};
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {app};
REVOKE UPDATE, DELETE, TRUNCATE ON ledger_leaf, ledger_payload, ledger_tile, ledger_checkpoint, ledger_log_key, ledger_hold, ledger_release,
    ledger_cosignature FROM {app};
GRANT EXECUTE ON FUNCTION ledger_erase TO {app};
REVOKE INSERT, UPDATE, DELETE ON ledger_entry FROM {app};
REVOKE DELETE, TRUNCATE ON ledger_head FROM {app};
REVOKE UPDATE, DELETE ON finding_triage FROM {app};
REVOKE UPDATE, DELETE, TRUNCATE ON incident_step FROM {app};
-- Who is one person stays so, and what was tried is only counted.
REVOKE UPDATE, DELETE ON person_identity FROM {app};
-- Configuration is written by `configure` only: what is taken away for that, and the columns that are not, is in configured.py.
