-- One database and one user for Dagster's history, and one of each for the warehouse. Neither user can connect to the
-- other's database. Runs once, on an empty Postgres; the passwords are in files.
\set dagster `cat /run/secrets/dagster-password`
\set loader `cat /run/secrets/loader-password`
CREATE ROLE dagster LOGIN PASSWORD :'dagster';
CREATE DATABASE dagster OWNER dagster;
REVOKE CONNECT ON DATABASE dagster FROM PUBLIC;
CREATE ROLE loader LOGIN PASSWORD :'loader';
CREATE DATABASE warehouse OWNER loader;
REVOKE CONNECT ON DATABASE warehouse FROM PUBLIC;
-- The group of analysts (see analysts.sql). To add one: CREATE ROLE ann LOGIN PASSWORD '...' IN ROLE analysts
CREATE ROLE analysts;
GRANT CONNECT ON DATABASE warehouse TO analysts;
\connect warehouse
CREATE SCHEMA analytics AUTHORIZATION loader;
GRANT USAGE ON SCHEMA analytics TO analysts;
