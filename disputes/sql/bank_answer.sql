ALTER TABLE dispute_bank_answer
    ADD CONSTRAINT bank_answer_case FOREIGN KEY (tenant_id, case_id) REFERENCES dispute_case (tenant_id, id);
-- What was sent to a bank is added to and nothing else, whoever is connected (ledger_refuse: auditlog/sql).
CREATE TRIGGER dispute_bank_answer_written_once BEFORE UPDATE OR DELETE ON dispute_bank_answer
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER dispute_bank_answer_never_truncated BEFORE TRUNCATE ON dispute_bank_answer
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();
