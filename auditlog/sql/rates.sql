-- Rates: what the lines of the books come to by the hour (UTC), for each who spends: kept in the transaction that writes or drops
-- lines, as balances are. Rules about how fast somebody spends read them, and never the lines themselves.

CREATE FUNCTION projection_rate_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO projection_rate AS r (tenant_id, generation, principal, actor, provider, currency, hour, gross, lines)
    SELECT c.tenant_id, c.generation, c.principal, c.actor, c.provider, c.currency, date_trunc('hour', c.at, 'UTC'),
        sum(c.spent + c.returned), count(*)
    FROM changed c WHERE c.book <> 'returned' AND c.principal <> '' AND c.has_spend GROUP BY 1, 2, 3, 4, 5, 6, 7
    ON CONFLICT (tenant_id, generation, principal, actor, provider, currency, hour) DO UPDATE SET
        gross = r.gross + excluded.gross, lines = r.lines + excluded.lines;
    RETURN NULL;
END $$;

CREATE FUNCTION projection_rate_dropped() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH less AS (
        SELECT c.tenant_id, c.generation, c.principal, c.actor, c.provider, c.currency, date_trunc('hour', c.at, 'UTC') AS hour,
            sum(c.spent + c.returned) AS gross, count(*) AS lines
        FROM changed c WHERE c.book <> 'returned' AND c.principal <> '' AND c.has_spend GROUP BY 1, 2, 3, 4, 5, 6, 7
    )
    UPDATE projection_rate r SET gross = r.gross - l.gross, lines = r.lines - l.lines FROM less l
    WHERE (r.tenant_id, r.generation, r.principal, r.actor, r.provider, r.currency, r.hour)
        = (l.tenant_id, l.generation, l.principal, l.actor, l.provider, l.currency, l.hour);
    DELETE FROM projection_rate r USING (
        SELECT DISTINCT c.tenant_id, c.generation, c.principal, c.actor, c.provider, c.currency, date_trunc('hour', c.at, 'UTC') AS hour
        FROM changed c WHERE c.principal <> ''
    ) d
    WHERE (r.tenant_id, r.generation, r.principal, r.actor, r.provider, r.currency, r.hour)
        = (d.tenant_id, d.generation, d.principal, d.actor, d.provider, d.currency, d.hour) AND r.lines = 0;
    RETURN NULL;
END $$;

CREATE TRIGGER projection_rate_added AFTER INSERT ON projection_charge REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION projection_rate_added();
CREATE TRIGGER projection_rate_dropped AFTER DELETE ON projection_charge REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION projection_rate_dropped();

INSERT INTO projection_rate (tenant_id, generation, principal, actor, provider, currency, hour, gross, lines)
SELECT c.tenant_id, c.generation, c.principal, c.actor, c.provider, c.currency, date_trunc('hour', c.at, 'UTC'),
    sum(c.spent + c.returned), count(*)
FROM projection_charge c WHERE c.book <> 'returned' AND c.principal <> '' AND c.has_spend GROUP BY 1, 2, 3, 4, 5, 6, 7;
