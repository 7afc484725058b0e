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
-- A key is added and retired, never replaced or taken away: what it signed rests on it.
REVOKE UPDATE, DELETE ON auditlog_sourcekey FROM {app};
GRANT UPDATE (kid, retired_at, from_url, left_url) ON auditlog_sourcekey TO {app};
