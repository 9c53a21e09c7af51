-- Dagster's history and the warehouse: a database and a user each, which cannot enter the other's.
-- Runs once, on an empty Postgres; the passwords are in files.
\set dagster `cat /run/secrets/dagster-password`
\set loader `cat /run/secrets/loader-password`
CREATE ROLE dagster LOGIN PASSWORD :'dagster';
CREATE DATABASE dagster OWNER dagster;
REVOKE CONNECT ON DATABASE dagster FROM PUBLIC;
CREATE ROLE loader LOGIN PASSWORD :'loader';
CREATE DATABASE warehouse OWNER loader;
REVOKE CONNECT ON DATABASE warehouse FROM PUBLIC;
-- Who reads, see analysts.sql: CREATE ROLE ann LOGIN PASSWORD '...' IN ROLE analysts
CREATE ROLE analysts;
GRANT CONNECT ON DATABASE warehouse TO analysts;
\connect warehouse
CREATE SCHEMA analytics AUTHORIZATION loader;
GRANT USAGE ON SCHEMA analytics TO analysts;
