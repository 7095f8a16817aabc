-- An account that reads figures and changes nothing, for Grafana, Power BI or a data warehouse. Run it as a superuser, who
-- may make accounts, in the store's database, after the station has started once; again after an update of the software, which makes
-- the views anew, and after a restore, which brings no rights of accounts:
--   psql --set=reporter=reporting --set=ON_ERROR_STOP=1 --file=deploy/postgresql/reporting.sql DATABASE
-- Then set its password with \password, which leaves none in a log.
-- It reads the views of records (board_records, package_records, interface_records, defect_records) and the sums of yield tables,
-- and neither users and sessions nor the audit trail, messages and notes of decisions.
BEGIN;
SELECT format('CREATE ROLE %I LOGIN', :'reporter')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'reporter') \gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), :'reporter') \gexec
SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()) \gexec
GRANT USAGE ON SCHEMA public TO :"reporter";
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM :"reporter";
GRANT SELECT ON board_records, package_records, interface_records, defect_records, contexts, rollups TO :"reporter";
ALTER ROLE :"reporter" SET default_transaction_read_only = on;
ALTER ROLE :"reporter" SET statement_timeout = '60s';          -- a long question does not keep the line's rows for ever
ALTER ROLE :"reporter" SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE :"reporter" CONNECTION LIMIT 5;                     -- the station needs connections, too
COMMIT;
