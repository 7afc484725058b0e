-- How a rule was set stays as it was: a change is another version (ledger_refuse: append_only.sql).
CREATE TRIGGER rule_policy_written_once BEFORE UPDATE OR DELETE ON rule_policy
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER rule_policy_never_truncated BEFORE TRUNCATE ON rule_policy
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();
