ALTER TABLE dispute_outside
    ADD CONSTRAINT outside_case FOREIGN KEY (tenant_id, case_id) REFERENCES dispute_case (tenant_id, id);
CREATE TRIGGER dispute_outside_use_written_once BEFORE UPDATE OR DELETE ON dispute_outside_use
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER dispute_outside_use_never_truncated BEFORE TRUNCATE ON dispute_outside_use
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER dispute_outside_never_deleted BEFORE DELETE ON dispute_outside
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER dispute_complaint_never_deleted BEFORE DELETE ON dispute_complaint
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse();
-- A link that has ended leads nowhere for ever, and no link is turned to another case.
CREATE FUNCTION dispute_outside_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.tenant_id, NEW.case_id, NEW.side, NEW.name, NEW.secret_digest, NEW.code_digest, NEW.made_person, NEW.made_at, NEW.ends_at)
       IS DISTINCT FROM (OLD.tenant_id, OLD.case_id, OLD.side, OLD.name, OLD.secret_digest, OLD.code_digest, OLD.made_person,
        OLD.made_at, OLD.ends_at)
       OR (OLD.ended_at IS NOT NULL AND NEW.ended_at IS DISTINCT FROM OLD.ended_at) THEN
        RAISE EXCEPTION 'a link is ended and nothing else' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER dispute_outside_kept BEFORE UPDATE ON dispute_outside
    FOR EACH ROW EXECUTE FUNCTION dispute_outside_stays();
-- What was said outside stays as it came, and is answered once.
CREATE FUNCTION dispute_complaint_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.tenant_id, NEW.door_id, NEW.number, NEW.channel, NEW.provider, NEW.reporter, NEW.subject, NEW.about, NEW.said, NEW.body,
        NEW.sha256, NEW.received_at)
       IS DISTINCT FROM (OLD.tenant_id, OLD.door_id, OLD.number, OLD.channel, OLD.provider, OLD.reporter, OLD.subject, OLD.about,
        OLD.said, OLD.body, OLD.sha256, OLD.received_at)
       OR (OLD.state <> 'waiting' AND NEW.state IS DISTINCT FROM OLD.state) THEN
        RAISE EXCEPTION 'a complaint is answered once and not changed' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER dispute_complaint_kept BEFORE UPDATE ON dispute_complaint
    FOR EACH ROW EXECUTE FUNCTION dispute_complaint_stays();
