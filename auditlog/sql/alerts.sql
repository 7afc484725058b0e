-- Alert channels are configuration: stated by leaves like the rest (configuration.sql). Addresses stand there by digest.
ALTER FUNCTION configuration_rows(bigint, text, bigint) RENAME TO configuration_rows_before_alerts;

CREATE FUNCTION configuration_rows(of_tenant bigint, of_kind text DEFAULT NULL, of_id bigint DEFAULT NULL) RETURNS TABLE (kind text, id bigint, "row" jsonb)
LANGUAGE sql STABLE SET search_path = public, pg_temp SET timezone = 'UTC' SET bytea_output = 'hex' AS $$
    SELECT * FROM configuration_rows_before_alerts(of_tenant, of_kind, of_id)
    UNION ALL
    SELECT 'alert channel', c.id, to_jsonb(c) - '{created_at,address,tested_at}'::text[]
            || jsonb_build_object('address_sha256', encode(sha256(convert_to(c.address, 'UTF8')), 'hex'))
        FROM alert_channel c WHERE c.tenant_id = of_tenant AND coalesce(of_kind, 'alert channel') = 'alert channel' AND (of_id IS NULL OR c.id = of_id)
$$;

CREATE CONSTRAINT TRIGGER configuration_stated AFTER INSERT OR DELETE ON alert_channel DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION configuration_stated('alert channel');
CREATE CONSTRAINT TRIGGER configuration_restated AFTER UPDATE ON alert_channel DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (configuration_part(to_jsonb(OLD)) IS DISTINCT FROM configuration_part(to_jsonb(NEW)))
    EXECUTE FUNCTION configuration_stated('alert channel');

-- Whatever writes an incident has it looked at by alerts (alerts/notice.py), where a channel could hear of it. Rows are never shared:
-- one that is just being taken is no reason not to write another.
CREATE FUNCTION alert_look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('answerable.restoring', true) = 'on'
            AND pg_has_role(session_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RETURN NULL;  -- what was to be looked at comes back with the backup
    END IF;
    INSERT INTO alert_look (tenant_id, incident_id, due_at) SELECT NEW.tenant_id, NEW.id, '1970-01-01Z'
        WHERE EXISTS (SELECT FROM alert_channel c WHERE c.tenant_id = NEW.tenant_id);
    RETURN NULL;
END $$;
CREATE TRIGGER alert_look AFTER INSERT ON incident FOR EACH ROW EXECUTE FUNCTION alert_look();
CREATE TRIGGER alert_look_again AFTER UPDATE ON incident FOR EACH ROW
    WHEN ((OLD.state, OLD.owner, OLD.rank, OLD.findings, OLD.members, OLD.over_minor, OLD.undo_until)
        IS DISTINCT FROM (NEW.state, NEW.owner, NEW.rank, NEW.findings, NEW.members, NEW.over_minor, NEW.undo_until))
    EXECUTE FUNCTION alert_look();
