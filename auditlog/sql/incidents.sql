-- Whatever writes a finding has it looked at again by gathering (incidents/gather.py), in whatever way it is written; but for
-- the numbers that its changes get for who follows them. Rows are never shared: one that is just being taken is no reason not to
-- write another.

CREATE FUNCTION incident_look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('answerable.restoring', true) = 'on'
            AND pg_has_role(session_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RETURN NULL;  -- what a backup brings was gathered where it was made
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.change IS DISTINCT FROM OLD.change AND NEW.change IS NOT NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO incident_dirty (tenant_id, finding_id, due_at) VALUES (NEW.tenant_id, NEW.id, '1970-01-01Z');
    RETURN NULL;
END $$;

CREATE TRIGGER incident_look AFTER INSERT OR UPDATE ON finding FOR EACH ROW EXECUTE FUNCTION incident_look();

CREATE FUNCTION incident_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the log of an incident is written once: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER incident_step_written_once BEFORE UPDATE OR DELETE ON incident_step
    FOR EACH ROW EXECUTE FUNCTION incident_refuse();
CREATE TRIGGER incident_step_never_truncated BEFORE TRUNCATE ON incident_step
    FOR EACH STATEMENT EXECUTE FUNCTION incident_refuse();

-- Findings of before gather too.
INSERT INTO incident_dirty (tenant_id, finding_id, due_at) SELECT tenant_id, id, '1970-01-01Z' FROM finding ORDER BY id;
