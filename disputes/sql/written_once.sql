-- What was done with a case is added to and nothing else, whoever is connected (ledger_refuse: auditlog/sql).
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['dispute_transition', 'dispute_assessment', 'dispute_proposal', 'dispute_approval',
                                'dispute_act'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION ledger_refuse()',
                       name || '_written_once', name);
        EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse()',
                       name || '_never_truncated', name);
    END LOOP;
END $$;

CREATE TRIGGER dispute_case_stays BEFORE DELETE ON dispute_case FOR EACH ROW EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER dispute_case_never_truncated BEFORE TRUNCATE ON dispute_case
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();

-- References stay within a tenant: the keys lead with it.
ALTER TABLE dispute_case ADD CONSTRAINT case_of_tenant UNIQUE (tenant_id, id);
ALTER TABLE dispute_proposal ADD CONSTRAINT proposal_of_person UNIQUE (tenant_id, id, case_id, person);
ALTER TABLE dispute_act ADD CONSTRAINT act_case FOREIGN KEY (tenant_id, case_id) REFERENCES dispute_case (tenant_id, id);
ALTER TABLE dispute_transition
    ADD CONSTRAINT transition_case FOREIGN KEY (tenant_id, case_id) REFERENCES dispute_case (tenant_id, id);
ALTER TABLE dispute_assessment
    ADD CONSTRAINT assessment_case FOREIGN KEY (tenant_id, case_id) REFERENCES dispute_case (tenant_id, id);
ALTER TABLE dispute_proposal
    ADD CONSTRAINT proposal_case FOREIGN KEY (tenant_id, case_id) REFERENCES dispute_case (tenant_id, id);
-- An approval copies who proposed, so that a check can compare; this keeps the copy true.
ALTER TABLE dispute_approval
    ADD CONSTRAINT approval_proposal FOREIGN KEY (tenant_id, proposal_id, case_id, proposer)
        REFERENCES dispute_proposal (tenant_id, id, case_id, person);
