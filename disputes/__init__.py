"""The argument: cases, criteria, verdicts, decisions.

core/              pure: criteria (one tri-state question each), verdict (their order), liability, status (the table of
                   transitions), history (their hash chain)
open_case          a complaint or a finding becomes a case over named acts
gather_evidence    the acts, the record around them, whether their bytes hold
adjudicate         run the engine: verdicts without a case, or an assessment kept with one
packet             all of it as one archive, each paper bound to the log (case/papers, core/grounds)
outside/           complaints from outside, and one case by a link for one party
jobs/              large cases are assessed in a worker
decide             people move a case; one proposes, another approves
record_step        how every step is kept: checked, chained, committed in the log
queries            all reads, for the API and the dashboard
"""
