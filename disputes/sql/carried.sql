-- References stay within a tenant: the keys lead with it.
ALTER TABLE dispute_deadline
    ADD CONSTRAINT deadline_case FOREIGN KEY (tenant_id, case_id) REFERENCES dispute_case (tenant_id, id);
ALTER TABLE dispute_evidence
    ADD CONSTRAINT evidence_case FOREIGN KEY (tenant_id, case_id) REFERENCES dispute_case (tenant_id, id);

-- What was handed in stays as it was, and is submitted once.
CREATE FUNCTION dispute_evidence_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.tenant_id, NEW.case_id, NEW.number, NEW.side, NEW.title, NEW.event_id, NEW.name, NEW.media_type, NEW.body,
        NEW.sha256, NEW.person, NEW.staged_at, NEW.staged_leaf)
       IS DISTINCT FROM (OLD.tenant_id, OLD.case_id, OLD.number, OLD.side, OLD.title, OLD.event_id, OLD.name,
        OLD.media_type, OLD.body, OLD.sha256, OLD.person, OLD.staged_at, OLD.staged_leaf)
       OR (OLD.submitted_at IS NOT NULL AND (NEW.submitted_at, NEW.submitted_leaf, NEW.is_late)
           IS DISTINCT FROM (OLD.submitted_at, OLD.submitted_leaf, OLD.is_late)) THEN
        RAISE EXCEPTION 'evidence that was handed in is not changed' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER dispute_evidence_kept BEFORE UPDATE ON dispute_evidence
    FOR EACH ROW EXECUTE FUNCTION dispute_evidence_stays();
CREATE TRIGGER dispute_evidence_never_deleted BEFORE DELETE ON dispute_evidence
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER dispute_evidence_never_truncated BEFORE TRUNCATE ON dispute_evidence
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER dispute_deadline_never_deleted BEFORE DELETE ON dispute_deadline
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER dispute_deadline_never_truncated BEFORE TRUNCATE ON dispute_deadline
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();
